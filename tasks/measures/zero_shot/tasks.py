"""From the names in a sweep file to single tasks, each with what determines its result."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.zero_shot.catalogue import Catalogue, catalogue, version
from tasks.measures.zero_shot.data import resolve_data
from tasks.measures.zero_shot.leaves import GROUPS, Leaf, expand
from tasks.measures.zero_shot.measure import Tasks as ZeroShot
from tasks.measures.zero_shot.yaml_files import FUNCTION, TaskFileError
from tasks.models.sources.digests import digest_of, file_digest, folder_digest

FIELD = "evaluation.zero_shot.tasks"
_TRUST_HINT = "trust.remote_code allows it"


@dataclass(frozen=True)
class ResolvedTask:
    """One task, ready to be measured; all of it can be written as JSON.

    Attributes:
        name: as the harness calls it.
        identity: what determines the result beside model, limit and examples; no paths.
        file: the task's YAML; empty for a task that a group's file spells out.
        overrides: what replaces the file's settings.
        files: the user's own files that it reads → their digests.
        groups: groups of which the harness computes a figure, and that were named and hold it →
            their ``aggregate_metric_list``.
        alone: it counts by itself, beside them.
    """

    name: str
    identity: Mapping[str, Any]
    file: str
    overrides: Mapping[str, Any]
    files: Mapping[str, str]
    groups: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    alone: bool = True

    @property
    def place(self) -> str:
        """What its columns are called by: a group's task stands below the first of its groups."""
        return self.name if self.alone else f"{next(iter(self.groups))}/{self.name}"


def resolve_tasks(
    config: ZeroShot, *, field: str = FIELD, trust: Trust | None = None
) -> tuple[ResolvedTask, ...]:
    """The single tasks that a sweep's names stand for, in order, each once.

    A name is a task, group or tag of the harness or of ``include_path``, or ``paper-seven``.

    Raises:
        ConfigurationError: an unknown name; a task that would run code that is not trusted; data
            that is missing, or is on the hub while offline.
        SourceUnavailableError: a data set's hub cannot be reached.
    """
    if not config.tasks:
        return ()
    trust = trust or Trust()
    known = _catalogue(config, field)
    found: dict[str, ResolvedTask] = {}
    for index, name in enumerate(config.tasks):
        place = f"{field}[{index}]"
        for leaf in _leaves(name, known, place):
            _require_possible(leaf, known, config, place, field)
            if not trust.remote_code:
                _require_no_code(leaf, known, place)
            task = _resolved(leaf, place, trust)
            former = found.get(task.name, task)
            if former.identity != task.identity:
                raise ConfigurationError(
                    place, name, f"{task.name} is named twice, with settings that differ"
                )
            found[task.name] = replace(
                former,
                groups={**former.groups, **task.groups},
                alone=task.alone or (task.name in found and former.alone),
            )
    _require_apart(found.values(), field)
    return tuple(found.values())


def _require_apart(tasks: Collection[ResolvedTask], field: str) -> None:
    """``name/…`` stands for the tasks of a group that is called so."""
    alone = {task.name for task in tasks if task.alone}
    named = alone.union(*(task.groups for task in tasks))
    for name in alone:
        if above := next((other for other in named if name.startswith(f"{other}/")), None):
            allowed = f"it would be taken for a task of {above}, which is named too: rename either"
            raise ConfigurationError(field, name, allowed)


def require_unchanged(task: ResolvedTask) -> None:
    """The files are what they were when the task was resolved.

    Raises:
        ConfigurationError: one is not, so that ``identity`` would not be what was measured.
    """
    for path, digest in task.files.items():
        if not Path(path).is_file() or file_digest(Path(path)) != digest:
            allowed = f"{path} has changed since the sweep was planned: run it again"
            raise ConfigurationError(FIELD, task.name, allowed)


def _catalogue(config: ZeroShot, field: str) -> Catalogue:
    include = Path(config.include_path).expanduser() if config.include_path else None
    place = f"{field.rpartition('.')[0]}.include_path".removeprefix(".")
    if include and not include.is_dir():
        raise ConfigurationError(place, config.include_path, "it must be a folder that exists")
    try:
        return catalogue(include.resolve() if include else None)
    except TaskFileError as error:
        raise ConfigurationError(place, config.include_path, str(error)) from error


def _leaves(name: str, known: Catalogue, place: str) -> Sequence[Leaf]:
    if name not in known.entries and name not in GROUPS:
        near = difflib.get_close_matches(name, [*known.entries, *GROUPS], n=3, cutoff=0.6)
        hint = f"Did you mean {' or '.join(near)}?" if near else ""
        allowed = (
            "it must be a task, group or tag of lm-evaluation-harness "
            f"{version()} or of include_path, or {', '.join(GROUPS)}"
        )
        raise ConfigurationError(place, name, allowed, hint)
    try:
        leaves = list(expand(name, known.entries))
    except KeyError as error:
        allowed = f"it names {error.args[0]!r}, and there is no such task"
        raise ConfigurationError(place, name, allowed) from error
    except TaskFileError as error:
        raise ConfigurationError(place, name, str(error)) from error
    if not leaves:
        raise ConfigurationError(place, name, "it holds no task")
    return leaves


def _require_possible(
    leaf: Leaf, known: Catalogue, config: ZeroShot, place: str, field: str
) -> None:
    """What no trust changes."""
    settings = leaf.config
    if settings.get("unsafe_code"):
        allowed = "it runs code that the model writes, which this program never does"
        raise ConfigurationError(place, leaf.name, allowed)
    if settings.get("doc_to_image") or settings.get("doc_to_audio"):
        raise ConfigurationError(
            place, leaf.name, "it needs images or sound; models here read text"
        )
    if ".yaml" in str(settings.get("use_prompt")):
        allowed = f"use_prompt {settings['use_prompt']} reads a file that no fingerprint can hold"
        hint = "Write the prompt into the task's file, as doc_to_text and doc_to_target"
        raise ConfigurationError(place, leaf.name, allowed, hint)
    if any(FUNCTION in str(value) for value in leaf.overrides.values()):
        allowed = f"its group sets a {FUNCTION}, which only a task's own file may"
        raise ConfigurationError(place, leaf.name, allowed)
    if config.num_fewshot and settings.get("num_fewshot") == 0:
        raise ConfigurationError(
            f"{field.rpartition('.')[0]}.num_fewshot".removeprefix("."),
            config.num_fewshot,
            f"the task {leaf.name} is defined without examples: leave it empty, or 0",
        )


def _require_no_code(leaf: Leaf, known: Catalogue, place: str) -> None:
    """Nothing that a file of the user, or the hub, brings along is run."""
    if leaf.local and leaf.functions:
        allowed = f"its file {leaf.path} runs Python ({FUNCTION} {leaf.functions[0]})"
        raise ConfigurationError(place, leaf.name, allowed, _TRUST_HINT)
    if leaf.local and "class" in leaf.config:
        allowed = "it is defined by a class, which runs Python"
        raise ConfigurationError(place, leaf.name, allowed, _TRUST_HINT)
    if leaf.config.get("process_results"):
        return  # its own function, and no metric is looked up
    for metric in leaf.config.get("metric_list") or []:
        name = metric.get("metric")
        if isinstance(name, str) and (metric.get("hf_evaluate") or name not in known.metrics):
            allowed = f"its metric {name} is code from the hub, or does not exist"
            raise ConfigurationError(place, leaf.name, allowed, _TRUST_HINT)


def _resolved(leaf: Leaf, place: str, trust: Trust) -> ResolvedTask:
    data = resolve_data(leaf, field=place, trusted=trust.remote_code)
    settings = {key: value for key, value in leaf.config.items() if key not in data.described}
    metadata = leaf.config.get("metadata")
    identity = {
        "harness": version(),
        "task": leaf.name,
        "version": str(metadata.get("version")) if isinstance(metadata, dict) else None,
        "settings": digest_of(_plain(settings)),
        "data": _plain(data.identity),
    }
    if leaf.config.get("output_type") == "loglikelihood_rolling":
        identity["prefix"] = "once"  # figures without it counted a second BOS
    if "class" in leaf.config:
        identity["scale"] = "its own"  # figures without it may be per cent, called shares
    files = [*data.files, *(leaf.files if leaf.local else ())]
    if leaf.local and leaf.functions:
        scripts = _scripts(leaf)
        identity["python"] = folder_digest(scripts)
        files += scripts.values()
    return ResolvedTask(
        leaf.name,
        identity,
        str(leaf.path or ""),
        _plain({**leaf.overrides, **data.overrides}),
        {str(path): file_digest(path) for path in files},
        {leaf.group.name: _plain(leaf.group.aggregates)} if leaf.group else {},
        alone=leaf.group is None,
    )


def _scripts(leaf: Leaf) -> dict[str, Path]:
    """Python that a task may run: all below the folders of its file and of what that includes.

    Returns:
        Number of the folder, in order of the files, and path inside it → file.
    """
    folders = enumerate(dict.fromkeys(file.parent for file in leaf.files))
    return {
        f"{number}/{path.relative_to(folder).as_posix()}": path
        for number, folder in folders
        for path in sorted(folder.glob("**/*.py"))
    }


def _plain(value: Any) -> Any:
    """As JSON has it: dates of YAML as text, keys as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
