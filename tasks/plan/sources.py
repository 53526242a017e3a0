"""What a sweep resolved, so that another machine plans the same cells without its files.

A corpus is known by its digest and a model by its own; both are in every fingerprint. The machine
that starts a sweep reads them once, and the workers are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from configs.corpora import Corpus
from configs.schema import SweepConfig
from tasks.data.corpora import ResolvedCorpus
from tasks.data.texts import read_once
from tasks.models.sources.sources import Contents, ResolvedModel

_HOME = "{home}/"
"""Stands for the shared folder, which may be mounted elsewhere on another machine."""


@dataclass(frozen=True)
class Sources:
    """Models by their name in the sweep, corpora by what the sweep says of them."""

    models: Mapping[str, ResolvedModel] = field(default_factory=dict)
    corpora: Mapping[str, ResolvedCorpus] = field(default_factory=dict)


def read_files(config: SweepConfig, known: dict[str, ResolvedCorpus]) -> None:
    """Read the local texts that a sweep will ask for, before models are looked into.

    That takes seconds, and what is wrong with a text is told in less.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    methods = [config.method(name) for name in config.entries]
    used = [("evaluation", config.evaluation, "heldout")]
    if any(method.uses_calibration for method in methods):
        used.append(("calibration", config.calibration, "calibration"))
    if any(method.uses_training for method in methods):
        used.append(("training", config.training, "calibration"))
    for place, section, role in used:
        for asking, corpus in _corpora(section, place):
            if corpus.source == "files":
                read_once(known, corpus, role, asking)


def _corpora(value: Any, place: str) -> Iterator[tuple[str, Corpus]]:
    """The corpora in a part of a sweep, each with the field that holds it."""
    if isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield from _corpora(entry, f"{place}[{index}]")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            entry = getattr(value, name)
            if isinstance(entry, Corpus):
                yield place, entry
            else:
                yield from _corpora(entry, f"{place}.{name}")


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
