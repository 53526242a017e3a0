"""Reads the harness's YAML files without running what they name.

In these files ``!function utils.f`` stands for a function of a Python file beside the YAML, which
the harness imports when it loads the task. Here such a tag is only noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FUNCTION = "!function"


class TaskFileError(ValueError):
    """A task file that cannot be read: what is wrong with it, and where."""


@dataclass(frozen=True)
class TaskFile:
    """
    Attributes:
        config: with all includes merged; a function is ``{"!function": "utils.f"}``.
        functions: every ``!function`` of the file and its includes, also of keys that others
            override: the harness runs them all.
        files: itself and what it includes.
    """

    config: Mapping[str, Any]
    functions: tuple[str, ...]
    files: tuple[Path, ...]


class _Loader(yaml.SafeLoader):
    """Knows ``!function`` beside YAML's own tags."""


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, str]:
    assert isinstance(node, yaml.ScalarNode)
    return {FUNCTION: str(loader.construct_scalar(node))}


_Loader.add_constructor(FUNCTION, _function)


def read_task_file(path: Path) -> TaskFile:
    """The task, group or base that ``path`` holds, includes merged as the harness does.

    Raises:
        TaskFileError: it or what it includes is missing, no YAML, or no mapping.
    """
    functions: list[str] = []
    files: list[Path] = []
    config = _read(path.resolve(), (), functions, files)
    return TaskFile(config, tuple(functions), tuple(files))


def _read(
    path: Path, above: tuple[Path, ...], functions: list[str], files: list[Path]
) -> dict[str, Any]:
    if path in above:
        raise TaskFileError(f"{path} includes itself")
    try:
        # The loader is YAML's safe one with one more tag, which it notes.
        config = yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506
    except OSError as error:
        raise TaskFileError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, AssertionError, ValueError) as error:
        raise TaskFileError(f"{path} is no task file: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise TaskFileError(f"{path} must hold a mapping, not {type(config).__name__}")
    functions.extend(_functions_of(config))
    files.append(path)
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        included = _read((path.parent / str(name)).resolve(), (*above, path), functions, files)
        included.pop("task_list", None)
        merged.update(included)
    return merged | config


def _functions_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        if value.keys() == {FUNCTION}:
            return [str(value[FUNCTION])]
        return [name for entry in value.values() for name in _functions_of(entry)]
    if isinstance(value, list):
        return [name for entry in value for name in _functions_of(entry)]
    return []
