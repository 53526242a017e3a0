"""Reads a sweep file for a command, and tells first what takes no heavy import to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.trust import Trust
from configs.yaml_file import read, validate
from tasks.models.sources.sources import check_local

if TYPE_CHECKING:
    from configs.schema import SweepConfig


def read_sweep(name: str, settings: Sequence[str]) -> SweepConfig:
    """A validated sweep: as :func:`configs.yaml_file.load`, its local models looked at first.

    Raises:
        ConfigurationError: for what is no sweep, or a model whose files cannot be used.
    """
    raw = read(name, settings, base=Path.cwd())
    _check_models(raw)
    return validate(raw)


def _check_models(raw: Mapping[str, Any]) -> None:
    """What is wrong with models that lie here; what is no model at all is validation's to tell."""
    given = raw.get("models")
    try:
        trust = Trust.model_validate(raw.get("trust", {}))
    except ValidationError:
        return
    for index, spec in enumerate(given if isinstance(given, list) else []):
        if isinstance(spec, str) and spec:
            check_local(spec, field=f"models[{index}]", base=Path.cwd(), trust=trust)
