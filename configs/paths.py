"""Where a user's text becomes a path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError

_LONGEST = 4_000
_TASK_FILE = re.compile(r"evaluation\.\w+(\[\d+\])?\.(data\.(train|dev|test)|(data\.)?slots)")
"""What a task learns from and is tested on, and its list of slots."""


def looks_like_path(spec: str) -> bool:
    """Whether a model's or data set's name is meant as a local path."""
    return spec.startswith((".", "/", "~")) or "\\" in spec or spec.endswith(".gguf")


def local_path(text: str, field: str) -> Path:
    """The path that a text means; it need not exist.

    Raises:
        ConfigurationError: no file system takes it, or it begins with an unknown user's home.
    """
    allowed = ""
    if not text:
        allowed = "a path has at least one character"
    elif any(ord(sign) < 32 or sign == "\x7f" for sign in text):
        allowed = "a path holds no control characters"
    elif len(text) > _LONGEST or any(len(part.encode("utf-8", "replace")) > 255
                                     for part in text.split("/")):  # fmt: skip
        allowed = f"a path has at most {_LONGEST:,} characters, and 255 bytes between slashes"
    if allowed:
        raise ConfigurationError(field, text, allowed)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(field, text, "there is no such user's home", str(error)) from None


def is_task_file(key: str, field: str) -> bool:
    """Whether a field is a path to the data of a task that models are tuned for.

    By its name alone, as in every measure: to ask the measures would import torch.
    """
    return bool(_TASK_FILE.fullmatch(field)) and field.endswith(key)


def absolute(raw: Any, base: Path, *, key: str = "", field: str = "") -> Any:
    """A copy of a sweep's plain data, or of a part of it, whose local paths are absolute.

    Args:
        base: what relative ones are relative to.
        key, field: of a part: the name that it has in the sweep, and its whole field.

    Raises:
        ConfigurationError: for a text that can be no path.
    """

    def resolve(text: str, field: str) -> str:
        return str((base / local_path(text, field)).absolute())

    def is_local(key: str, text: str, field: str) -> bool:
        if key in ("models", "dataset"):
            return looks_like_path(text) or (base / local_path(text, field)).is_dir()
        # A builder such as json reads local files; a hub data set's files lie in its repository.
        if is_task_file(key, field):
            return True
        return key in ("files", "include_path") or (key == "data_files" and looks_like_path(text))

    def visit(node: Any, key: str, field: str) -> Any:
        if isinstance(node, dict):
            return {
                name: visit(value, str(name), f"{field}.{name}".lstrip("."))
                for name, value in node.items()
            }
        if isinstance(node, list):
            return [visit(value, key, f"{field}[{i}]") for i, value in enumerate(node)]
        if not isinstance(node, str):
            return node
        return resolve(node, field) if is_local(key, node, field) else node

    return visit(raw, key, field)
