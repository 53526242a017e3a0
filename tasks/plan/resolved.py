"""What a sweep resolved, so that another machine plans the same cells without its files.

A corpus is known by its digest and a model by its own; both are in every fingerprint. The machine
that starts a sweep reads them once, and the workers are told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.corpora import Corpus
from tasks.data.corpora import ResolvedCorpus
from tasks.models.sources.sources import ResolvedModel
from tasks.store.store import fingerprint

if TYPE_CHECKING:
    from tasks.plan.corpora import Windows

_HOME = "{home}/"
"""Stands for the shared folder, which may be mounted elsewhere on another machine."""


@dataclass(frozen=True)
class Sources:
    """Models by their name in the sweep, corpora by what the sweep says of them."""

    models: Mapping[str, ResolvedModel] = field(default_factory=dict)
    corpora: Mapping[str, ResolvedCorpus] = field(default_factory=dict)


_known: ContextVar[Sources] = ContextVar("sources", default=Sources())  # noqa: B039 (frozen)


@contextlib.contextmanager
def knowing(sources: Sources) -> Iterator[None]:
    """Plans made inside take these sources as they are, and read nothing."""
    token = _known.set(sources)
    try:
        yield
    finally:
        _known.reset(token)


def known_model(spec: str) -> ResolvedModel | None:
    return _known.get().models.get(spec)


def known_corpus(corpus: Corpus, role: str) -> ResolvedCorpus | None:
    return _known.get().corpora.get(_key(corpus, role))


def _key(corpus: Corpus, role: str) -> str:
    return fingerprint({"corpus": corpus.model_dump(mode="json"), "role": role})


def to_json(models: list[ResolvedModel], texts: list[Windows], home: Path) -> dict[str, Any]:
    """The sources of a plan, as plain data; paths below ``home`` are written relative to it."""
    found: dict[str, Any] = {"models": {}, "corpora": {}}
    for model in models:
        path = Path(model.path)
        inside = model.path and path.is_relative_to(home)
        place = _HOME + path.relative_to(home).as_posix() if inside else model.path
        found["models"][model.spec] = {**asdict(model), "path": place}
    for windows in texts:
        facts = {**asdict(windows.facts), "facts": dict(windows.facts.facts)}
        found["corpora"][_key(windows.corpus, windows.role)] = facts
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
        models[spec] = ResolvedModel(**{**entry, "path": place})
    corpora = {key: ResolvedCorpus(**entry) for key, entry in found["corpora"].items()}
    return Sources(models, corpora)
