"""Corpora from CPython's own documentation and from files: what is read, and every mistake."""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import os
import platform
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pytest
from pyarrow import parquet
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from configs.corpora import Corpus
from configs.errors import ConfigurationError
from tasks.data.corpora import Passage, ResolvedCorpus, passages, read_corpus
from tasks.data.documents import as_text, rendered


def read(
    base: Path, role: Literal["calibration", "heldout"] = "calibration", **settings: Any
) -> tuple[ResolvedCorpus, str]:
    corpus = Corpus(**settings)
    found, documents = read_corpus(corpus, role=role, base=base, field="calibration.corpus")
    return found, corpus.separator.join(map(as_text, documents))


class TestPythonDocs:
    def test_parts_are_of_all_topics_and_about_equal(self, tmp_path: Path) -> None:
        from pydoc_data.topics import topics

        first, calibration = read(tmp_path, "calibration")
        second, heldout = read(tmp_path, "heldout")
        assert first.documents + second.documents == len(topics)
        both = calibration + heldout
        for text in topics.values():
            assert text in calibration or all(part in both for part in text.split("\n\n"))
        assert 0.4 < first.characters / (first.characters + second.characters) < 0.6

    def test_the_parts_share_no_passage(self, tmp_path: Path) -> None:
        """Topics quote each other: by their names alone a quarter of the windows would be known."""

        def runs(text: str) -> set[tuple[str, ...]]:
            words = text.split()
            return {tuple(words[i : i + 30]) for i in range(len(words) - 29)}

        calibration, heldout = (read(tmp_path, role)[1] for role in ("calibration", "heldout"))
        assert not runs(calibration) & runs(heldout)

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
            found.boundaries,
            {
                "source": "files",
                "files": ["two.md", "one.txt"],
                "formats": ["text", "text"],
                "rows": [1, 1],
            },
        )

    def test_the_same_text_in_other_documents_is_told_apart(self, tmp_path: Path) -> None:
        for name, content in {"a": "one ", "b": "two", "c": "one", "d": " two"}.items():
            (tmp_path / name).write_text(content)
        cut = [
            read(tmp_path, source="files", files=files, separator="")[0]
            for files in (["a", "b"], ["c", "d"])
        ]
        assert cut[0].digest == cut[1].digest
        assert cut[0].boundaries != cut[1].boundaries

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

    def test_what_never_ends_or_never_begins_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for given in ("pipe", "/dev/zero"):
            with pytest.raises(ConfigurationError, match="a device, a pipe or a socket"):
                read(tmp_path, source="files", files=[given])

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
            ("a.txt", b"\x1f\x8b\x08\x00rest", "files[0]", "begins as gzip and cannot be unpacked"),
            ("a.txt", b"\x28\xb5\x2f\xfdrest", "files[0]", "begins as zstd and cannot"),
            ("a.txt", b"BZh9\xff\x00", "files[0]", "binary or compressed"),
            ("a.txt", b"PAR1 and no more", "files[0]", "begins as Parquet and cannot be read"),
            ("a.json", b'{"text": "a"', "files[0]", "a .json file must hold"),
            ("a.json", b"[1]", "files[0]", "row 1 is neither"),
            ("a.json", b'{"text": "a"}\n{"text": ', "files[0]", "line 2"),
            ("a.json", b'[{"body": "a"}]', "column", "row 1 of a.json has the fields: body"),
            ("a.csv", b"body,id\na,1\n", "column", "has the fields: body, id"),
            ("a.csv", b"text,id\na,1,2\n", "files[0]", "line 2 has 3"),
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


ROWS = [{"text": "First, with a comma.", "id": "1"}, {"text": 'Second\n"quoted".', "id": "2"}]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def _table(separator: str) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["text", "id"], delimiter=separator)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue().encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def _zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


class TestFormats:
    """Told by what the file holds, whatever it is called."""

    @pytest.mark.parametrize(
        ("name", "content", "form"),
        [
            ("c4-train.00000.json", _lines(ROWS), "JSON lines"),
            ("rows.ndjson", _lines(ROWS), "JSON lines"),
            ("rows.txt", b"\n" + _lines(ROWS) + b"\r\n\r\n", "JSON lines"),
            ("rows", codecs.BOM_UTF8 + _lines(ROWS), "JSON lines"),
            ("array.json", json.dumps(ROWS, indent=1).encode(), "JSON array"),
            ("array.txt", json.dumps(ROWS).encode(), "JSON array"),
            ("texts.json", json.dumps([row["text"] for row in ROWS]).encode(), "JSON array"),
            ("t.csv", _table(","), "CSV"),
            ("t.tsv", _table("\t"), "CSV"),
            ("t.txt", _table(","), "CSV"),
            ("rows.parquet", _parquet(), "Parquet"),
            ("rows.bin", _parquet(), "Parquet"),
            ("c4.json.gz", gzip.compress(_lines(ROWS), mtime=0), "JSON lines, gzip"),
            ("c4.json", gzip.compress(_lines(ROWS), mtime=0), "JSON lines, gzip"),
            ("c4.json.zst", _zstd(_lines(ROWS)), "JSON lines, zstd"),
            ("t.csv.gz", gzip.compress(_table(","), mtime=0), "CSV, gzip"),
        ],
    )
    def test_rows(self, tmp_path: Path, name: str, content: bytes, form: str) -> None:
        (tmp_path / name).write_bytes(content)
        found, text = read(tmp_path, source="files", files=[name])
        assert text == 'First, with a comma.\n\nSecond\n"quoted".'
        assert found.documents == 2
        assert found.facts["formats"] == [form]
        assert found.description == f"{name} ({form})"

    def test_a_long_field_is_one_whatever_was_read_before(self, tmp_path: Path) -> None:
        long = "word " * 30_000
        (tmp_path / "t.txt").write_text(f"text,id\n{long},1\nSecond,2\n")
        before = csv.field_size_limit(131_072)  # a new process's
        try:
            found, text = read(tmp_path, source="files", files=["t.txt"])
        finally:
            csv.field_size_limit(before)
        assert found.facts["formats"] == ["CSV"]
        assert text == f"{long}\n\nSecond"

    @pytest.mark.parametrize(
        "content",
        [
            "[Chapter 1]\nIt was dark, and nothing moved.\n",
            "{curly} words, and others\n",
            "text, more text\nand, more\n",
            "text,more\nand one line without any\n",
            "= Title =\n\n{{cite}}",
        ],
    )
    def test_prose_stays_prose(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a.txt").write_text(content)
        found, text = read(tmp_path, source="files", files=["a.txt"])
        assert text == content
        assert found.facts["formats"] == ["text"]
        assert found.description == "a.txt"

    def test_packed_prose(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"Prose.\r\n", mtime=0))
        found, text = read(tmp_path, source="files", files=["a.txt.gz"])
        assert text == "Prose.\n"
        assert found.facts["formats"] == ["text, gzip"]

    def test_conversations_are_written_by_the_tokenizers_template(self, tmp_path: Path) -> None:
        chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        (tmp_path / "chat.jsonl").write_bytes(_lines([{"messages": chat, "id": 1}] * 2))
        corpus = Corpus(source="files", files=("chat.jsonl",))
        found, documents = read_corpus(corpus, role="calibration", base=tmp_path, field="c")
        assert documents == [chat, chat]
        both = f"{as_text(chat)}\n\n{as_text(chat)}"
        assert found.digest == hashlib.sha256(both.encode()).hexdigest()
        core = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1}, unk_token="<unk>"))
        each = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
        with pytest.raises(ConfigurationError, match="no chat template"):
            rendered(documents, tokenizer, "", field="c", given="chat.jsonl")
        tokenizer.chat_template = f"{{{{ bos_token }}}}{each}"
        for prefix, start in (("", "<s>"), ("<s>", "")):
            texts = rendered(documents, tokenizer, prefix, field="c", given="chat.jsonl")
            assert texts == [f"{start}user: Hi\nassistant: Ho\n"] * 2
        tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}"
        said = rendered([chat], tokenizer, "", field="c", given="chat.jsonl")
        assert said == ["01 Jan 2026"]  # on whatever day
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(ConfigurationError, match="conversation 1: roles must alternate"):
            rendered(documents, tokenizer, "", field="c", given="chat.jsonl")


class TestMixture:
    def test_its_parts_stay_apart_and_shares_are_part_of_it(self, tmp_path: Path) -> None:
        for name, text in (("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'), ("b.txt", "three")):
            (tmp_path / name).write_text(text)

        def found(share: float) -> tuple[ResolvedCorpus, list[Passage]]:
            parts = [
                {"source": "files", "files": ["a.jsonl"], "share": share},
                {"source": "files", "files": ["b.txt", "b.txt"], "separator": " "},
            ]
            corpus = Corpus.model_validate(parts)
            facts, documents = read_corpus(corpus, role="calibration", base=tmp_path, field="c")
            return facts, passages(corpus, facts, documents)

        facts, parts = found(3)
        assert facts.description.startswith("75 % a.jsonl (JSON lines) + 25 % b.txt, b.txt")
        assert facts.documents == 4
        assert [part.documents for part in parts] == [["one", "two"], ["three", "three"]]
        assert [part.separator for part in parts] == ["\n\n", " "]
        assert [part.share for part in parts] == [3, 1]
        assert parts[0].sources == ["a.jsonl", "a.jsonl"]
        assert parts[0].source(None) == "a.jsonl"
        assert found(1)[0].digest != facts.digest
        assert found(3)[0] == facts

    def test_a_part_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        corpus = Corpus.model_validate([{"source": "files", "files": ["no.txt"]}])
        with pytest.raises(ConfigurationError) as caught:
            read_corpus(corpus, role="calibration", base=tmp_path, field="calibration.corpus")
        assert caught.value.field == "calibration.corpus.parts[0].files[0]"
