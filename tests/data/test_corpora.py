"""Corpora from CPython's own documentation and from files: what is read, and every mistake."""

from __future__ import annotations

import codecs
import hashlib
import json
import platform
from pathlib import Path
from typing import Any, Literal

import pytest

from configs.corpora import Corpus
from configs.errors import ConfigurationError
from tasks.data.corpora import ResolvedCorpus, read_corpus


def read(
    base: Path, role: Literal["calibration", "heldout"] = "calibration", **settings: Any
) -> tuple[ResolvedCorpus, str]:
    corpus = Corpus(**settings)
    return read_corpus(corpus, role=role, base=base, field="calibration.corpus")


class TestPythonDocs:
    def test_parts_are_disjoint_complete_and_about_equal(self, tmp_path: Path) -> None:
        from pydoc_data.topics import topics

        first, calibration = read(tmp_path, "calibration")
        second, heldout = read(tmp_path, "heldout")
        assert first.documents + second.documents == len(topics)
        for text in topics.values():
            assert (text in calibration) + (text in heldout) >= 1
        assert not set(calibration.split("\n\n\n")) & set(heldout.split("\n\n\n")) - {""}
        assert 0.4 < first.characters / (first.characters + second.characters) < 0.6

    def test_the_part_can_be_named(self, tmp_path: Path) -> None:
        assert read(tmp_path, "calibration", part="heldout") == read(tmp_path, "heldout")

    def test_facts(self, tmp_path: Path) -> None:
        found, text = read(tmp_path)
        assert found.digest == hashlib.sha256(text.encode()).hexdigest()
        assert found.characters == len(text)
        assert found.facts == {
            "source": "python-docs",
            "part": "calibration",
            "python": platform.python_version(),
        }


class TestFiles:
    def test_whole_files_in_the_order_given(self, tmp_path: Path) -> None:
        (tmp_path / "one.txt").write_bytes(b"First.\r\n")
        (tmp_path / "two.md").write_bytes(codecs.BOM_UTF8 + "Zweitens: ä\u2028.\n".encode())
        found, text = read(tmp_path, source="files", files=["two.md", "one.txt"])
        assert text == "Zweitens: ä\u2028.\n\n\nFirst.\n"
        assert found == ResolvedCorpus(
            "two.md, one.txt",
            hashlib.sha256(text.encode()).hexdigest(),
            len(text),
            2,
            {"source": "files", "files": ["two.md", "one.txt"]},
        )

    def test_separator_and_absolute_paths(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).write_text(name)
        paths = [str(tmp_path / name) for name in "ab"]
        _, text = read(Path("/nonexistent"), source="files", files=paths, separator=" | ")
        assert text == "a | b"

    def test_the_digest_does_not_depend_on_the_place(self, tmp_path: Path) -> None:
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "text.txt").write_text("same")
        first, _ = read(tmp_path / "here", source="files", files=["text.txt"])
        second, _ = read(tmp_path, source="files", files=["there/text.txt"])
        assert first == second

    def test_json_lines(self, tmp_path: Path) -> None:
        rows = [{"body": "one\u2028still one"}, {"body": ""}, {"body": "three", "text": 3}]
        lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / "rows.JSONL").write_bytes((lines + "\n\n").encode())
        found, text = read(tmp_path, source="files", files=["rows.JSONL"], column="body")
        assert text == "one\u2028still one\n\n\n\nthree"
        assert found.documents == 3

    @pytest.mark.parametrize(
        ("name", "content", "field", "reason"),
        [
            ("a.txt", b"", "files[0]", "empty"),
            ("a.txt", b" \n\t", "files[0]", "empty"),
            ("a.txt", codecs.BOM_UTF8 + b"\n", "files[0]", "empty"),
            ("a.txt", b"caf\xe9 au lait", "files[0]", "UTF-8; byte 0xe9 at offset 3 is not"),
            ("a.txt", codecs.BOM_UTF8 + b"caf\xe9", "files[0]", "byte 0xe9 at offset 6"),
            ("a.txt", "text".encode("utf-16"), "files[0]", "UTF-8, and this is UTF-16"),
            ("a.txt", "text".encode("utf-32"), "files[0]", "UTF-8, and this is UTF-32"),
            ("a.txt", b"\x1f\x8b\x08\x00rest", "files[0]", "binary or compressed"),
            ("a.txt", b"text\0text", "files[0]", "offset 4 holds one, so this is binary"),
            ("a.jsonl", b'{"text": "a"}\n{"text": \n', "files[0]", "line 2"),
            ("a.jsonl", b'\n{"text": "a"}\n["b"]\n', "files[0]", "line 3 holds another value"),
            (
                "a.jsonl",
                b'{"body": "a", "id": 1}',
                "column",
                "line 1 of a.jsonl has the fields: body, id",
            ),
            ("a.jsonl", b"{}", "column", "has the fields: none"),
            ("a.jsonl", b'{"text": null}', "column", "line 1 of a.jsonl holds null"),
            ("a.jsonl", b'{"text": ["a"]}', "column", "line 1 of a.jsonl holds list"),
            ("a.jsonl", b'{"text": "\\ud800"}', "column", "surrogate"),
        ],
    )
    def test_mistakes(
        self, tmp_path: Path, name: str, content: bytes, field: str, reason: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path, source="files", files=[name])
        assert caught.value.field == f"calibration.corpus.{field}"
        assert reason in str(caught.value)

    def test_missing_files_and_folders(self, tmp_path: Path) -> None:
        (tmp_path / "text.txt").write_text("text")
        with pytest.raises(ConfigurationError, match="there is no file") as caught:
            read(tmp_path, source="files", files=["text.txt", "gone.txt"])
        assert caught.value.field == "calibration.corpus.files[1]"
        assert caught.value.given == "gone.txt"
        with pytest.raises(ConfigurationError, match="is a folder"):
            read(tmp_path, source="files", files=["."])

    def test_rows_without_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": " "}\n')
        with pytest.raises(ConfigurationError, match="must hold text"):
            read(tmp_path, source="files", files=["a.jsonl"])
