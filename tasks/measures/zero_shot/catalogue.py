"""Which tasks, groups and tags there are: the harness's own and those of a folder.

The harness reads 14 000 files to know its own (5 s); what it found is kept in the home, for this
version of it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.measures.zero_shot.yaml_files import TaskFileError, read_task_file
from tasks.store.home import home

_IGNORED = {"__pycache__", ".ipynb_checkpoints"}


@dataclass(frozen=True)
class Entry:
    """
    Attributes:
        kind: task, group or tag.
        path: its file; None for a tag.
        members: the tasks of a tag.
        local: of the user's folder, not of the harness.
    """

    kind: str
    path: Path | None
    members: tuple[str, ...] = ()
    local: bool = False


@dataclass(frozen=True)
class Catalogue:
    """
    Attributes:
        entries: name → task, group or tag.
        metrics: names that the harness computes itself, without code from the hub.
    """

    entries: Mapping[str, Entry]
    metrics: frozenset[str]


def version() -> str:
    """The installed harness's."""
    return importlib.metadata.version("lm-eval")


def catalogue(include: Path | None) -> Catalogue:
    """Everything that can be asked for by name; a name of ``include`` hides the harness's.

    Raises:
        TaskFileError: a file of ``include`` cannot be read, or two define the same task.
    """
    own = _built_in(str(home()))
    return Catalogue({**own.entries, **(_of_folder(include) if include else {})}, own.metrics)


@functools.lru_cache(maxsize=4)
def _built_in(home_folder: str) -> Catalogue:
    kept = Path(home_folder) / "harness" / f"tasks-{version()}.json"
    try:
        listing = json.loads(kept.read_text(encoding="utf-8"))
        return _of_listing(listing)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        listing = _list_built_in()
        _keep(kept, listing)
        return _of_listing(listing)


def _list_built_in() -> dict[str, Any]:
    from lm_eval.api import metrics, registry
    from lm_eval.tasks import TaskManager

    assert metrics  # importing it fills the registry
    root = _root()
    entries = {
        name: [
            entry.kind.name.removeprefix("PY_").lower(),
            entry.yaml_path.relative_to(root).as_posix() if entry.yaml_path else None,
            sorted(entry.tags) if entry.kind.name == "TAG" else [],
        ]
        for name, entry in TaskManager().task_index.items()
    }
    return {"entries": entries, "metrics": sorted(registry.metric_registry)}


def _of_listing(listing: Any) -> Catalogue:
    root = _root()
    entries = {
        name: Entry(kind, root / path if path else None, tuple(members))
        for name, (kind, path, members) in listing["entries"].items()
    }
    return Catalogue(entries, frozenset(listing["metrics"]))


def _root() -> Path:
    # Found, not imported: the import takes longer than reading the list.
    found = importlib.util.find_spec("lm_eval")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "tasks"


def _keep(path: Path, listing: Any) -> None:
    # Without it the next process lists again; it only saves time.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(listing, stream)
        Path(temporary).replace(path)


def _of_folder(folder: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    tags: dict[str, set[str]] = {}
    for path in sorted(folder.glob("**/*.yaml"), key=Path.as_posix):
        if _IGNORED.intersection(path.parts):
            continue
        config = read_task_file(path).config
        kind = "group" if "group" in config and "class" not in config else "task"
        name = config.get(kind)
        if not isinstance(name, str):
            continue  # a base that others include
        if name in entries:
            raise TaskFileError(f"{path} and {entries[name].path} both define {name}")
        entries[name] = Entry(kind, path, local=True)
        named = config.get("tag") or []
        for tag in named if isinstance(named, list) else [named]:
            if kind == "task":
                tags.setdefault(str(tag), set()).add(name)
    for tag, members in tags.items():
        entries.setdefault(tag, Entry("tag", None, tuple(sorted(members)), local=True))
    return entries
