"""What a sweep resolved, so that another machine plans the same cells without its files.

A corpus is known by its digest and a model by its own; both are in every fingerprint. The machine
that starts a sweep reads them once, and the workers are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.data.corpora import ResolvedCorpus
from tasks.models.sources.sources import Contents, ResolvedModel

_HOME = "{home}/"
"""Stands for the shared folder, which may be mounted elsewhere on another machine."""


@dataclass(frozen=True)
class Sources:
    """Models by their name in the sweep, corpora by what the sweep says of them."""

    models: Mapping[str, ResolvedModel] = field(default_factory=dict)
    corpora: Mapping[str, ResolvedCorpus] = field(default_factory=dict)


def to_json(sources: Sources, home: Path) -> dict[str, Any]:
    """The sources of a plan, as plain data; paths below ``home`` are written relative to it."""
    found: dict[str, Any] = {"models": {}, "corpora": {}}
    for model in sources.models.values():
        path = Path(model.path)
        inside = model.path and path.is_relative_to(home)
        place = _HOME + path.relative_to(home).as_posix() if inside else model.path
        found["models"][model.spec] = {**asdict(model), "path": place}
    for key, corpus in sources.corpora.items():
        found["corpora"][key] = {**asdict(corpus), "facts": dict(corpus.facts)}
    return found


def from_json(found: Mapping[str, Any], home: Path) -> Sources:
    """The sources that :func:`to_json` wrote, with this machine's ``home``.

    Raises:
        KeyError, TypeError: when they are something else.
    """
    models = {}
    for spec, entry in found["models"].items():
        place = str(entry["path"])
        if place.startswith(_HOME):
            place = str(home / place.removeprefix(_HOME))
        told = entry.get("contents")
        # JSON has lists alone.
        lists = ("unread", "widths", "excluded")
        contents = told and Contents(**{**told, **{name: tuple(told[name]) for name in lists}})
        models[spec] = ResolvedModel(**{**entry, "path": place, "contents": contents})
    corpora = {key: ResolvedCorpus(**entry) for key, entry in found["corpora"].items()}
    return Sources(models, corpora)
