"""Whether estimates without labels follow the accuracy over a sweep's cells, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Value, instances
from tasks.measures.uncertainty.measure import ALL, REASON, Uncertainty
from tasks.measures.uncertainty.ranks import interval, kendall, spearman
from tasks.measures.uncertainty.settings import AcrossSettings
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

PREFIX = "uncertainty_across/"
FEW = 8
"""Cells below which a correlation tells nothing."""
_ESTIMATES = {"u": ("−U", -1), "entropy": ("−entropy", -1), "margin": ("margin", 1),
              "agreement": ("agreement with dense", 1)}  # fmt: skip
_CELLS, _TASKS = "cells", "tasks of cells"


class UncertaintyAcross(Measure):
    """Reads every cell's uncertainty; it ranks estimates, never cells."""

    name = "uncertainty_across"
    summary = "whether uncertainty follows accuracy over a sweep's cells: rank correlations"
    scope = "sweep"
    writes = (f"{PREFIX}<points>/<estimate>", f"{PREFIX}<points>/<estimate>/spearman")
    Settings = AcrossSettings

    def sweep_steps(self, subjects: Sequence[Subject]) -> Mapping[str, Step]:
        # Cells that differ in what members do not look at, such as a seed, share one ensemble.
        distinct = {
            step.fingerprint: step
            for subject in subjects
            for name, step in Uncertainty().steps(subject).items()
            if name != REASON
        }
        needs = {f"{number}": step for number, step in enumerate(distinct.values())}
        if not needs:
            return {}
        step = Step(
            name="uncertainty_across",
            version=self.version,
            inputs={},
            needs=needs,
            produce=_produce,
            label="uncertainty against accuracy",
            group="sweep",
        )
        return {"all": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for points, told in found["all"].facts["points"].items():
            for name, facts in told["estimates"].items():
                row[f"{PREFIX}{points}/{name}"] = _words(told["count"], points, facts)
                if facts["spearman"] is not None:
                    row[f"{PREFIX}{points}/{name}/spearman"] = facts["spearman"]
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        found: list[Figure] = []
        for instance in instances(columns, PREFIX):
            points, name, *kind = instance.split("/")
            label = f"{_ESTIMATES[name][0]} against accuracy, over {points}"
            found.append(
                Figure(
                    column=PREFIX + instance,
                    label=f"Spearman of {label}" if kind else label,
                    heading=_ESTIMATES[name][0],
                    group="uncertainty against accuracy",
                    format="number" if kind else "text",
                    better="",
                )
            )
        return found


def _words(count: int, points: str, facts: Mapping[str, Any]) -> str:
    if count < FEW:
        return f"{count} {points}, too few to tell"
    if facts["spearman"] is None:
        return f"{count} {points} that do not differ"
    bounds = facts["interval"]
    within = f" (95 % {bounds[0]:+.2f} to {bounds[1]:+.2f})" if bounds else ""
    return (
        f"Spearman {facts['spearman']:+.2f}{within}, Kendall {facts['kendall']:+.2f}, n = {count}"
    )


def _produce(work: Work) -> Facts:
    cells: list[Mapping[str, Any]] = []
    tasks: list[Mapping[str, Any]] = []
    for role in work.step.needs:
        told = work.need(role).facts["tasks"]
        own = [facts for task, facts in told.items() if task != ALL]
        tasks += own
        cells.append(told.get(ALL, own[0]))
    points = {_CELLS: _correlated(cells)}
    if len(tasks) > len(cells):
        points[_TASKS] = _correlated(tasks)
    return {"points": points}


def _correlated(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of points whose accuracy is known; none of fewer than :data:`FEW`."""
    known = [facts for facts in told if facts["accuracy"] is not None]
    accuracy = [facts["accuracy"] for facts in known]
    estimates: dict[str, dict[str, Any]] = {}
    for name, (_, sign) in _ESTIMATES.items():
        values = [sign * facts[name] for facts in known]
        few = len(known) < FEW
        estimates[name] = {
            "spearman": None if few else spearman(values, accuracy),
            "kendall": None if few else kendall(values, accuracy),
            "interval": None if few else interval(spearman, values, accuracy),
        }
    return {"count": len(known), "estimates": estimates}
