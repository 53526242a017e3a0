"""Reads a sweep file: YAML, then ``--set``, then validation, with errors that name the field.

Relative paths are made absolute here, relative to the sweep file, or to the working folder when
they come with ``--set``; nothing after this depends on where it runs.

Reading is quick. Validating needs the schema, whose fields are those of all methods and measures:
its import brings torch and takes seconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from configs.errors import ConfigurationError
from configs.overrides import apply
from configs.paths import absolute, local_path
from configs.safe_yaml import MOST_CHARACTERS, parse

if TYPE_CHECKING:
    from configs.schema import SweepConfig

PRESETS = Path(__file__).parent / "presets"


def presets() -> dict[str, Path]:
    """The sweep files that come with the package, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def find(name: str) -> Path:
    """A sweep file by path, or a preset by name.

    Raises:
        ConfigurationError: when there is neither.
    """
    path = local_path(name, "CONFIG.yaml")
    if path.is_file():
        return path
    known = presets()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else ""
    allowed = f"it must be a sweep file that exists, or a preset: {', '.join(known)}"
    raise ConfigurationError("CONFIG.yaml", name, allowed, hint)


def load(name: str, settings: Iterable[str] = ()) -> SweepConfig:
    """Read and validate a sweep; as :func:`read`, then :func:`validate`."""
    return validate(read(name, settings, base=Path.cwd()))


def read(name: str, settings: Iterable[str] = (), *, base: Path | None) -> dict[str, Any]:
    """Read a sweep file as plain data, not validated.

    Args:
        name: path of a sweep file, or the name of a preset.
        settings: ``dotted.field=value`` entries; the value is YAML, so lists work.
        base: what relative paths in ``settings`` are relative to; None leaves them as they are.

    Raises:
        ConfigurationError: for what cannot be read, is no YAML, or names a list entry not there.
    """
    path = find(name)
    try:
        with path.open(encoding="utf-8") as file:
            raw = parse(file.read(MOST_CHARACTERS + 1), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "CONFIG.yaml", path, "it must be a UTF-8 text file that can be read", str(error)
        ) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(
            "CONFIG.yaml", raw, "a sweep file is a mapping of fields such as 'name: my-sweep'"
        )
    raw = absolute(raw, path.resolve().parent)
    for setting in settings:
        raw = apply(raw, setting, base)
    return raw


def validate(raw: Mapping[str, Any]) -> SweepConfig:
    """Validate an already parsed sweep.

    Raises:
        ConfigurationError: naming the first wrong field, and how many more there are.
    """
    from pydantic import ValidationError

    from configs.messages import translated
    from configs.schema import SweepConfig

    try:
        return SweepConfig.model_validate(raw)
    except ValidationError as error:
        raise translated(error) from None


def dump(config: SweepConfig) -> str:
    """The sweep as YAML that :func:`load` reads back to an equal sweep."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
