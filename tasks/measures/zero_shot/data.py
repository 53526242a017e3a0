"""What data a task reads: files by their digests, those of the hub by their revision."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from configs.errors import ConfigurationError
from tasks.data.hub_datasets import FORMATS
from tasks.measures.zero_shot.leaves import Leaf
from tasks.models.errors import SourceUnavailableError
from tasks.models.quiet import quiet_datasets
from tasks.models.sources.digests import file_digest, folder_digest
from tasks.models.sources.hub import (
    COMMIT,
    NOT_CACHED,
    OFFLINE_HINT,
    TIMEOUT_SECONDS,
    explained,
    offline,
)

_RUNS_CODE = ("pandas", "spark", "sql", "webdataset", "eval", "generator", "cache")
"""Readers of ``datasets`` that unpickle, query or import."""

_ON_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)")
"""A file of a data set: its id, its revision, its path."""


@dataclass(frozen=True)
class TaskData:
    """
    Attributes:
        identity: what determines the documents; no paths.
        overrides: of the task's configuration, so that exactly this is read.
        described: keys of the configuration that ``identity`` stands for.
        files: that are read from this machine.
    """

    identity: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    described: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def resolve_data(leaf: Leaf, *, field: str, trusted: bool) -> TaskData:
    """Where a task's documents come from.

    Files that are not absolute are looked for beside the task's file first, then where the program
    runs, which is where the harness would look.

    Raises:
        ConfigurationError: files are missing; the hub has no such data set, or the cache offline.
        SourceUnavailableError: the hub cannot be reached, and the cache does not hold it.
    """
    config = leaf.config
    source = config.get("dataset_path")
    if not isinstance(source, str) or "class" in config or config.get("custom_dataset"):
        return TaskData({"source": "code"})
    bases = [*([leaf.path.parent] if leaf.path else []), Path.cwd()]
    options = dict(config.get("dataset_kwargs") or {})
    options.pop("trust_remote_code", None)
    if source in _RUNS_CODE and leaf.local and not trusted:
        allowed = f"its dataset_path {source!r} can run code; it may be {', '.join(FORMATS)}"
        raise ConfigurationError(field, leaf.name, allowed, "trust.remote_code allows it")
    if source in FORMATS:
        return _files(leaf, source, options, bases, field)
    for base in bases:
        folder = base / Path(source).expanduser()
        if folder.is_dir():
            files = {p.relative_to(folder).as_posix(): p for p in _files_below(folder)}
            found = {"source": "folder", "digest": folder_digest(files), "options": options}
            overrides = {"dataset_path": str(folder.resolve()), "dataset_kwargs": options}
            described = ("dataset_path", "dataset_kwargs")
            return TaskData(found, overrides, described, tuple(files.values()))
    if source.startswith((".", "/", "~")):
        raise ConfigurationError(field, leaf.name, f"its data folder {source} does not exist")
    return _hub(leaf, source, options, field)


def _files(
    leaf: Leaf, reader: str, options: dict[str, Any], bases: list[Path], field: str
) -> TaskData:
    given = options.get("data_files")
    if not given:
        allowed = f"dataset_path {reader} needs dataset_kwargs.data_files"
        raise ConfigurationError(field, leaf.name, allowed)
    splits = given if isinstance(given, dict) else {"": given}
    found: dict[str, list[str]] = {}
    digests: dict[str, list[str]] = {}
    files: list[Path] = []
    for split, patterns in splits.items():
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            for place, digest in _matches(str(pattern), leaf, bases, field):
                found.setdefault(split, []).append(place)
                digests.setdefault(split, []).append(digest)
                files += [] if "://" in place else [Path(place)]
    kwargs = {**options, "data_files": found if isinstance(given, dict) else found[""]}
    rest = {key: value for key, value in options.items() if key != "data_files"}
    identity = {"source": reader, "files": digests, "options": rest}
    described = ("dataset_path", "dataset_kwargs")
    return TaskData(identity, {"dataset_kwargs": kwargs}, described, tuple(files))


def _matches(pattern: str, leaf: Leaf, bases: list[Path], field: str) -> Iterator[tuple[str, str]]:
    """Files that a pattern names, each with its digest; of an address, that at its commit."""
    if "://" in pattern:
        pinned = _pinned(pattern, leaf, field)
        yield pinned, pinned
        return
    for base in bases:
        whole = str(base / Path(pattern).expanduser())
        # A file may have the characters of a pattern in its name; a pattern may be absolute.
        paths = [whole] if Path(whole).is_file() else sorted(glob.glob(whole, recursive=True))  # noqa: PTH207
        files = [path for path in map(Path, paths) if path.is_file()]
        if files:
            for path in files:
                yield str(path.resolve()), file_digest(path)
            return
    places = " or ".join(str(base) for base in dict.fromkeys(bases))
    raise ConfigurationError(field, leaf.name, f"its data file {pattern} must exist, in {places}")


def _pinned(address: str, leaf: Leaf, field: str) -> str:
    """A file of the hub's data sets, at the commit that it has now.

    Raises:
        ConfigurationError: any other address, whose content may change and nobody would know.
        SourceUnavailableError: the hub cannot be reached.
    """
    match = _ON_HUB.fullmatch(address)
    if match is None:
        allowed = f"it reads {address}, and what an address holds can change unseen"
        hint = "Download it, and name the file in dataset_kwargs.data_files"
        raise ConfigurationError(field, leaf.name, allowed, hint)
    if offline():
        allowed = f"it reads {address}, and HF_HUB_OFFLINE is set"
        raise ConfigurationError(field, leaf.name, allowed)
    source, wanted, path = match.groups()
    revision = wanted and unquote(wanted)
    if (source, revision) not in _revisions:
        from huggingface_hub import HfApi

        with _translated(leaf.name, source, field):
            found = HfApi().dataset_info(source, revision=revision, timeout=TIMEOUT_SECONDS)
        _revisions[source, revision] = str(found.sha)
    return f"hf://datasets/{source}@{_revisions[source, revision]}/{path}"


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("**/*") if p.is_file() and ".cache" not in p.parts)


_revisions: dict[tuple[str, str | None], str] = {}
"""Of data sets that this process has asked the hub for."""


def _hub(leaf: Leaf, source: str, options: dict[str, Any], field: str) -> TaskData:
    name, wanted = leaf.config.get("dataset_name"), options.get("revision")
    # Offline every configuration of a data set is in the cache or not, each for itself.
    revision = None if offline() else _revisions.get((source, wanted))
    if revision is None:
        revision = _revision(leaf.name, source, name, options, field)
        _revisions[source, wanted] = revision
    if COMMIT.fullmatch(str(wanted)) and revision != wanted:
        allowed = f"its data set {source} is here at {revision}, and it asks for {wanted}"
        raise ConfigurationError(field, leaf.name, allowed)
    identity = {
        "source": "hub",
        "dataset": source,
        "config": name,
        "revision": revision,
        "options": {key: value for key, value in options.items() if key != "revision"},
    }
    pinned = {"dataset_kwargs": {**options, "revision": revision}} if revision else {}
    return TaskData(identity, pinned, ("dataset_path", "dataset_name", "dataset_kwargs"))


def _revision(task: str, source: str, name: str | None, options: dict[str, Any], field: str) -> str:
    import datasets

    with quiet_datasets(), _translated(task, source, field):
        builder = datasets.load_dataset_builder(source, name=name, **options)
    return str(builder.hash) if builder.repo_id else ""


@contextmanager
def _translated(task: str, source: str, field: str) -> Iterator[None]:
    """Turn what ``datasets`` raises into this project's two exceptions, with the task's name."""
    from datasets.exceptions import DatasetsError

    given = f"{task} (data set {source})"
    try:
        with explained(field=field, given=given):
            yield
    except (ConfigurationError, SourceUnavailableError):
        raise
    except (ValueError, RuntimeError, DatasetsError, OSError) as error:
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        if offline():
            raise ConfigurationError(field, given, NOT_CACHED, OFFLINE_HINT) from error
        if isinstance(error.__cause__, ConnectionError | TimeoutError):
            raise SourceUnavailableError(given, said) from error
        raise ConfigurationError(field, given, f"datasets says: {said}") from error
