"""Data sets through ``datasets``: local folders, and its cache in place of the hub."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import datasets.config
import pytest
from huggingface_hub import constants

from configs.corpora import Corpus
from configs.errors import ConfigurationError
from tasks.data.corpora import ResolvedCorpus, read_corpus
from tasks.models.errors import SourceUnavailableError

COMMIT, OTHER = "c" * 40, "d" * 40
ROWS = [{"text": f"Row {number}.", "id": number} for number in range(5)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is read from or written to the user's caches, and no network is there."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for endpoint in ((constants, "ENDPOINT"), (datasets.config, "HF_ENDPOINT")):
        monkeypatch.setattr(*endpoint, "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("time.sleep", lambda _: None)
    return cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two splits."""
    path = tmp_path / "letters"
    path.mkdir()
    write(path / "train.jsonl", ROWS)
    write(path / "test.jsonl", ROWS[:2])
    return path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)))


def set_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def read(base: Path, **settings: Any) -> tuple[ResolvedCorpus, str]:
    settings = {"source": "hub", "dataset": "./letters", "split": "train"} | settings
    found, documents = read_corpus(Corpus(**settings), role="heldout", base=base, field="e")
    return found, "\n\n".join(map(str, documents))


class TestLocal:
    @pytest.mark.parametrize("offline", [False, True])
    def test_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
        if offline:
            set_offline(monkeypatch)
        found, text = read(folder.parent)
        assert text == "\n\n".join(row["text"] for row in ROWS)
        assert found.description == "letters train"
        assert found.documents == 5
        assert found.facts == {
            "source": "hub",
            "dataset": "letters",
            "config": None,
            "split": "train",
            "data_files": [],
            "column": "text",
            "documents": None,
            "revision": "",
        }

    def test_changed_files_are_read_again(self, folder: Path) -> None:
        before, _ = read(folder.parent)
        write(folder / "train.jsonl", [{"text": "New.", "id": 7}])
        after, text = read(folder.parent)
        assert text == "New."
        assert after.digest != before.digest

    @pytest.mark.parametrize(
        "settings", [{}, {"dataset": "json", "data_files": ["letters/train.jsonl"]}]
    )
    def test_also_where_their_times_are_the_same(
        self, folder: Path, own_cache: Path, settings: dict[str, Any]
    ) -> None:
        path = folder / "train.jsonl"
        os.utime(path, (1, 1))
        read(folder.parent, **settings)
        write(path, [{**row, "text": row["text"].upper()} for row in ROWS])
        os.utime(path, (1, 1))
        assert read(folder.parent, **settings)[1].startswith("ROW 0.")
        assert list(own_cache.iterdir()) == []

    def test_only_some_documents(self, folder: Path) -> None:
        found, text = read(folder.parent, documents=2)
        assert text == "Row 0.\n\nRow 1."
        assert found.documents == 2
        assert read(folder.parent, documents=99)[0].documents == 5

    def test_data_files(self, folder: Path) -> None:
        found, text = read(folder.parent, data_files=["test.jsonl"])
        assert text == "Row 0.\n\nRow 1."
        assert found.facts["data_files"] == ["test.jsonl"]

    def test_readers_of_a_format(self, folder: Path) -> None:
        found, text = read(folder.parent, dataset="json", data_files=["letters/test.jsonl"])
        assert text == "Row 0.\n\nRow 1."
        assert found.facts["data_files"] == ["test.jsonl"]
        with pytest.raises(ConfigurationError, match="json needs files"):
            read(folder.parent, dataset="json")

    def test_a_part_of_a_split(self, folder: Path) -> None:
        assert read(folder.parent, split="train[:40%]")[0].documents == 2

    @pytest.mark.parametrize("documents", [None, 3])
    @pytest.mark.parametrize(
        ("settings", "field", "reason"),
        [
            ({"split": "dev"}, "split", "train"),
            ({"config": "nope"}, "config", "default"),
            ({"column": "body"}, "column", "has the columns: text, id"),
            ({"column": "id"}, "column", "row 1 of ./letters holds int"),
            ({"data_files": ["gone.jsonl"]}, "data_files", "gone.jsonl"),
            ({"dataset": "./gone"}, "dataset", "there is no folder"),
            ({"dataset": "./letters/test.jsonl"}, "dataset", "use source: files"),
        ],
    )
    def test_mistakes(
        self,
        folder: Path,
        settings: dict[str, Any],
        field: str,
        reason: str,
        documents: int | None,
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            read(folder.parent, documents=documents, **settings)
        assert caught.value.field == f"e.{field}"
        assert reason in str(caught.value)

    def test_broken_files(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text('{"text": "fine"}\n{"text": \n')
        with pytest.raises(ConfigurationError, match="datasets says"):
            read(folder.parent)
        write(folder / "train.jsonl", [*ROWS, {"text": None, "id": 5}])
        with pytest.raises(ConfigurationError, match=r"row 6 of \./letters holds null"):
            read(folder.parent)

    def test_no_data_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "letters").mkdir()
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path)
        assert caught.value.field == "e.dataset"


class TestHub:
    @staticmethod
    def cache_as_hub_dataset(folder: Path, cache: Path) -> None:
        """Put a data set into the cache as if it had come from the hub at ``COMMIT``."""
        datasets.load_dataset(str(folder), cache_dir=str(cache))
        (written,) = (cache / "letters" / "default").glob("0.0.0/*/")
        target = cache / "owner___letters" / "default" / "0.0.0" / COMMIT
        shutil.copytree(written, target)

    def test_unreachable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SourceUnavailableError, match="owner/letters"):
            read(tmp_path, dataset="owner/letters")
        set_offline(monkeypatch)
        with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
            read(tmp_path, dataset="owner/letters")

    @pytest.mark.parametrize("documents", [None, 2])
    @pytest.mark.parametrize("revision", [None, "main", COMMIT])
    def test_offline_from_the_cache(
        self,
        folder: Path,
        own_cache: Path,
        monkeypatch: pytest.MonkeyPatch,
        revision: str | None,
        documents: int | None,
    ) -> None:
        self.cache_as_hub_dataset(folder, own_cache)
        set_offline(monkeypatch)
        found, _ = read(
            folder.parent, dataset="owner/letters", revision=revision, documents=documents
        )
        assert found.documents == (documents or 5)
        assert found.facts["revision"] == COMMIT
        assert found.description == "owner/letters train"

    def test_another_commit_than_the_cached_one(
        self, folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.cache_as_hub_dataset(folder, own_cache)
        with pytest.raises(SourceUnavailableError, match=OTHER):
            read(folder.parent, dataset="owner/letters", revision=OTHER)
        set_offline(monkeypatch)
        with pytest.raises(ConfigurationError, match=f"holds {COMMIT}") as caught:
            read(folder.parent, dataset="owner/letters", revision=OTHER)
        assert caught.value.field == "e.revision"
