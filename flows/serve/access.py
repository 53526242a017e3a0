"""What a sweep that came through the Prefect page may reach: the data folder, and no code.

Whoever reaches the page fills in the form, so its paths are relative to one folder that the
operator named (``secateur up --data``, ``SECATEUR_DATA``), and what would run code stays off unless
the operator allowed it. The command line is the user's own and is not restricted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from configs.errors import ConfigurationError
from configs.paths import is_task_file, looks_like_path

ALLOW_TRUST = "SECATEUR_ALLOW_TRUST"
DATA = "SECATEUR_DATA"
_FORMATS = ("arrow", "csv", "json", "parquet", "text")
_PATTERNS = "*?[]{}"
_OF_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""A data set of the hub, by owner: bare names are readers' too (``xml``, ``pandas``)."""


def data_folder() -> Path:
    """The folder that forms may read: SECATEUR_DATA, else ``data`` in the working folder."""
    return Path(os.environ.get(DATA) or "data").expanduser().absolute()


def trust_allowed() -> bool:
    """Whether the operator lets forms turn on ``trust``."""
    return os.environ.get(ALLOW_TRUST, "").lower() in ("1", "true")


def restricted(raw: Mapping[str, Any], *, data: Path, allow_trust: bool) -> dict[str, Any]:
    """The fields of a form with every local path made absolute, inside ``data``.

    Raises:
        ConfigurationError: for a path that leaves ``data``, or ``trust`` that is not allowed.
    """
    trust = raw.get("trust")
    if isinstance(trust, dict) and not allow_trust:
        for name, value in trust.items():
            if value not in (False, None):
                raise ConfigurationError(
                    f"trust.{name}",
                    value,
                    "a form may not turn it on",
                    "Who runs the server allows it with: secateur up --allow-trust",
                )
    gate = _Gate(data)
    result = gate.visit(dict(raw), "", "")
    assert isinstance(result, dict)
    return result


class _Gate:
    """Walks the fields of a sweep and lets through what lies in the data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def visit(self, node: Any, key: str, field: str) -> Any:
        if isinstance(node, dict):
            node = {
                name: self.visit(value, str(name), f"{field}.{name}".lstrip("."))
                for name, value in node.items()
            }
            return self._corpus(node, field) if "data_files" in node or "dataset" in node else node
        if isinstance(node, list | tuple):
            return [self.visit(value, key, f"{field}[{i}]") for i, value in enumerate(node)]
        if not isinstance(node, str):
            return node
        if is_task_file(key, field) or key in ("files", "include_path"):
            return self.inside(node, field)
        if key in ("models", "dataset"):
            return self._name_or_path(node, field)
        if key == "tasks" and (looks_like_path(node) or "/" in node or node.endswith(_TASK_FILES)):
            raise ConfigurationError(field, node, "a form takes names of tasks, not files")
        return node

    def _name_or_path(self, spec: str, field: str) -> str:
        """A hub id or alias as it is; a folder or file of the data folder by its path."""
        if looks_like_path(spec) or spec.lower().endswith(".gguf") or (self.data / spec).exists():
            return self.inside(spec, field)
        if "://" in spec or "::" in spec or ".." in spec.split("/") or Path(spec).exists():
            raise ConfigurationError(field, spec, self._allowed())
        return spec

    def _corpus(self, corpus: dict[str, Any], field: str) -> dict[str, Any]:
        """Files of a data set: of the hub's repository by name, local ones by their path.

        The data set itself is a reader that is known, a folder, or the hub's by its owner.
        """
        dataset, files = corpus.get("dataset"), corpus.get("data_files")
        local = isinstance(dataset, str) and (dataset in _FORMATS or dataset.startswith("/"))
        if isinstance(dataset, str) and not local and not _OF_THE_HUB.fullmatch(dataset):
            allowed = (
                f"a form takes {', '.join(_FORMATS)}, a folder below data, or the hub's OWNER/NAME"
            )
            raise ConfigurationError(f"{field}.dataset", dataset, allowed)
        if not isinstance(files, list):
            return corpus
        checked = []
        for index, file in enumerate(files):
            where = f"{field}.data_files[{index}]"
            if not isinstance(file, str):
                checked.append(file)
            elif local:
                if any(sign in file for sign in _PATTERNS):
                    raise ConfigurationError(where, file, "a form names each file: no pattern")
                base = Path(str(dataset)) if str(dataset).startswith("/") else self.data
                checked.append(self.inside(file, where, base))
            elif _leaves(file) or ":" in file:  # "file:" and "local:" name this machine's
                raise ConfigurationError(where, file, "it must be a file of the hub's data set")
            else:
                checked.append(file)
        return corpus | {"data_files": checked}

    def inside(self, text: str, field: str, base: Path | None = None) -> str:
        """The absolute path of ``text``, which lies in the data folder after every link.

        Raises:
            ConfigurationError: an absolute path, one that climbs, or a link that leads out.
        """
        if _leaves(text) or "://" in text or "::" in text or "\0" in text:
            raise ConfigurationError(field, text, self._allowed())
        root = self.data.resolve()
        path = ((base or self.data) / text).resolve()
        if not path.is_relative_to(root):
            raise ConfigurationError(field, text, self._allowed(), "A link leads out of it.")
        for link in _links(path):
            if not link.resolve().is_relative_to(root):
                hint = f"{link.relative_to(path)} in it is a link that leads out."
                raise ConfigurationError(field, text, self._allowed(), hint)
        return str(path)

    def _allowed(self) -> str:
        return f"a form reads only below the data folder, by relative path: {self.data}"


_TASK_FILES = (".yaml", ".yml", ".json", ".py")


def _leaves(text: str) -> bool:
    """Whether a path is absolute, of a user's home, or climbs, on any system."""
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    climbs = ".." in posix.parts or ".." in windows.parts
    return posix.is_absolute() or bool(windows.anchor) or text.startswith("~") or climbs


def _links(path: Path) -> Iterator[Path]:
    """Links below a folder: its reader would follow them."""
    if not path.is_dir():
        return
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            entry = Path(folder, name)
            if entry.is_symlink():
                yield entry
