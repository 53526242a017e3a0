"""Groups and tags to the single tasks in them, as the harness expands them, and nothing loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.measures.zero_shot.catalogue import Entry
from tasks.measures.zero_shot.yaml_files import TaskFileError, read_task_file

PAPER_SEVEN = (
    "boolq",
    "rte",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
)
"""The tasks of SparseGPT's, Wanda's and most later tables."""
GROUPS = {"paper-seven": PAPER_SEVEN}
"""Groups of this project, beside the harness's."""

_GROUP_FIELDS = {"task", "group", "aggregate_metric_list", "group_alias", "metadata", "tag"}
_AGGREGATE_FIELDS = {"metric", "filter_list", "aggregation", "weight_by_size"}
_STRUCTURE = {"task", "group", "tag", "task_list"}


@dataclass(frozen=True)
class Group:
    """A group of which the harness computes a figure.

    Attributes:
        aggregates: its ``aggregate_metric_list``.
    """

    name: str
    aggregates: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Leaf:
    """One task.

    Attributes:
        group: the outermost group with a figure that holds it, of what was named; None: it counts
            by itself.
        path: its file; None for a task that a group's file spells out.
        overrides: what groups change in it; all of it where there is no file.
        config: the whole of it, for reading.
        functions: Python functions that loading it would import.
        files: its file and what that includes.
    """

    name: str
    path: Path | None
    local: bool
    overrides: Mapping[str, Any]
    config: Mapping[str, Any]
    functions: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    group: Group | None = None


def expand(name: str, entries: Mapping[str, Entry]) -> Iterator[Leaf]:
    """The tasks that ``name`` stands for.

    Raises:
        KeyError: a group names a task that does not exist.
        TaskFileError: a file is broken.
    """
    if name in GROUPS and name not in entries:
        for member in GROUPS[name]:
            yield from _expand(member, {}, entries, (), None)
    else:
        yield from _expand(name, {}, entries, (), None)


def _expand(
    name: str,
    overrides: Mapping[str, Any],
    entries: Mapping[str, Entry],
    above: tuple[str, ...],
    group: Group | None,
) -> Iterator[Leaf]:
    if name in above:
        raise TaskFileError(f"the group {name} contains itself")
    entry = entries[name]
    if entry.kind == "tag":
        for member in entry.members:
            if member in entries:
                yield from _expand(member, overrides, entries, (*above, name), group)
        return
    assert entry.path is not None
    file = read_task_file(entry.path)
    if entry.kind == "group":
        yield from _group(name, file.config, overrides, entries, (*above, name), group)
    else:
        config = {**file.config, **overrides}
        read = file.functions, file.files
        yield Leaf(name, entry.path, entry.local, overrides, config, *read, group)


def _group(
    name: str,
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    entries: Mapping[str, Entry],
    above: tuple[str, ...],
    group: Group | None,
) -> Iterator[Leaf]:
    if group is None and (aggregates := config.get("aggregate_metric_list")):
        group = Group(name, _aggregates(name, aggregates))
    # What the file says beside its structure holds for all members; what contains it says more.
    common = {key: value for key, value in config.items() if key not in _GROUP_FIELDS}
    merged = {**common, **overrides}
    members = config.get("task")
    for item in members if isinstance(members, list) else []:
        yield from _member(name, item, merged, entries, above, group)


def _aggregates(name: str, given: Any) -> list[Mapping[str, Any]]:
    listed = given if isinstance(given, list) else [given]
    for entry in listed:
        known = isinstance(entry, dict) and entry.keys() <= _AGGREGATE_FIELDS
        if not known or not isinstance(entry.get("metric"), str):
            raise TaskFileError(
                f"the group {name} has an aggregate_metric_list with {entry}: each entry takes a "
                "metric, and filter_list, weight_by_size and aggregation: mean"
            )
        by = entry.get("aggregation", "mean")
        if by != "mean" and not isinstance(by, dict):
            raise TaskFileError(f"the group {name} aggregates by {by}; the harness knows mean")
    # A function there is never called by the harness: it takes the mean.
    return [{k: v for k, v in entry.items() if k != "aggregation"} for entry in listed]


def _member(
    parent: str,
    item: Any,
    overrides: Mapping[str, Any],
    entries: Mapping[str, Entry],
    above: tuple[str, ...],
    group: Group | None,
) -> Iterator[Leaf]:
    if isinstance(item, str):
        item = {"task": item}
    name = item.get("group", item.get("task")) if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(name, str):
        raise TaskFileError(f"the group {parent} has an entry that is neither a name nor a task")
    own = {**overrides, **{key: value for key, value in item.items() if key not in _STRUCTURE}}
    if name in entries:
        yield from _expand(name, own, entries, above, group)
    elif "group" in item:
        yield from _group(f"{parent}::{name}", item, overrides, entries, above, group)
    elif len(item) == 1:
        raise KeyError(name)
    else:
        local = entries[above[0]].local if above and above[0] in entries else True
        yield Leaf(f"{parent}::{name}", None, local, own, own, group=group)
