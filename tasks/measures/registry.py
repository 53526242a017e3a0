"""Every measure, by name: those of this folder, and those that installed packages bring.

A package names its measures under the entry points ``secateur.measures``; each names a class
derived from :class:`tasks.measures.base.Measure`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import entry_points

from tasks.measures.base import Measure
from tasks.measures.figures import Figure

ENTRY_POINTS = "secateur.measures"
_ORDER = ("perplexity", "agreement", "reconstruction", "zero_shot", "answers", "uncertainty",
    "uncertainty_across", "slot_filling", "text_classification", "token_classification",
    "speed", "size",
)  # fmt: skip
"""Ours come first, in the order in which tables show them; a measure that is not here follows."""


@cache
def measures() -> dict[str, Measure]:
    """All measures, in the order in which they are computed and shown.

    Raises:
        ValueError: when two are called the same.
    """
    import tasks.measures

    found: dict[str, Measure] = {}
    for module in pkgutil.iter_modules(tasks.measures.__path__, "tasks.measures."):
        for kind in _classes(importlib.import_module(module.name)):
            _add(found, kind)
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        _add(found, entry.load())
    rank = {name: position for position, name in enumerate(_ORDER)}
    return {name: found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))}


def _classes(module: object) -> Iterable[type[Measure]]:
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Measure) and not inspect.isabstract(kind):
            yield kind


def _add(found: dict[str, Measure], kind: type[Measure]) -> None:
    former = found.get(kind.name)
    if former is not None and type(former) is not kind:
        raise ValueError(f"two measures are called {kind.name!r}: {type(former)} and {kind}")
    found[kind.name] = kind()


def figures_of(columns: Sequence[str]) -> list[Figure]:
    """What the columns of results mean, measure by measure; columns of no measure are left out."""
    return [figure for measure in measures().values() for figure in measure.figures(columns)]
