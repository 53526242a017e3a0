"""From a sweep to its steps: every source resolved, every fingerprint known, nothing computed.

``plan_sweep`` reads the corpora and the digests of models, expands models × methods × targets ×
seeds and gives each step the fingerprint under which the store keeps its artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.corpora import Calibration, Training
from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from tasks.models.sources.sources import ResolvedModel, resolve_model
from tasks.plan.corpora import Windows, calibration_windows, evaluation_windows, training_windows
from tasks.plan.measures import Measures, measures_of
from tasks.plan.resolved import known_model
from tasks.pruning.core.methods import LayerMethod, Method
from tasks.pruning.core.targets import Target
from tasks.store.home import home
from tasks.store.store import Step, fingerprint

if TYPE_CHECKING:
    from tasks.measures.zero_shot.tasks import ResolvedTask

VERSIONS = {"model": 1, "statistics": 1}
"""Raise one when its step's results change: artifacts of the former version are not reused."""


@dataclass(frozen=True)
class ModelPlan:
    """What all cells of one model share.

    Attributes:
        prepared: the step that writes the plain folder of a model that needs it.
        statistics: number of calibration windows → the step that collects dense statistics.
        dense: the steps that measure the dense model.
    """

    model: ResolvedModel
    dtype: str
    prepared: Step
    calibration: Windows | None
    training: Windows | None
    evaluations: Mapping[str, Windows]
    zero_shot: tuple[ResolvedTask, ...]
    statistics: Mapping[int, Step]
    dense: Measures


@dataclass(frozen=True)
class Cell:
    """One point of the sweep.

    Attributes:
        name: of the method or variant, as the sweep calls it.
        method: with its options.
        statistics_windows: how many calibration windows its statistics need; 0 for none.
        training: how methods which train weights do it. The number of processes changes the
            result by the order of sums alone, and is recorded with it.
        pruned: the step of the pruned model's facts; its checkpoint is ``checkpoint``.
        measures: the steps that measure the pruned model.
    """

    model: ModelPlan
    name: str
    method: Method
    target: Target
    seed: int
    statistics_windows: int
    pruned: Step
    measures: Measures
    training: Training

    @property
    def checkpoint(self) -> Step:
        return replace(self.pruned, name="checkpoint")

    @property
    def label(self) -> str:
        return f"{self.name} {self.target}"

    @property
    def action(self) -> str:
        """What is done to the model, in a word."""
        return "retrain" if self.method.learns == "weights" else "prune"

    @property
    def fingerprint(self) -> str:
        """Identifies the row: its steps, and its place in the sweep."""
        return fingerprint(
            {
                "model": self.model.model.digest,
                "method": self.name,
                "target": str(self.target),
                "seed": self.seed,
                "pruned": self.pruned.fingerprint,
                "measures": self.measures.fingerprints,
            }
        )


@dataclass(frozen=True)
class Skipped:
    """A combination that its method cannot do."""

    model: str
    method: str
    target: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """A sweep, resolved."""

    config: SweepConfig
    models: tuple[ModelPlan, ...]
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]

    @property
    def fingerprint(self) -> str:
        """Identifies the sweep by what it computes: its name, cells and dense evaluations."""
        return fingerprint(
            {
                "name": self.config.name,
                "cells": [cell.fingerprint for cell in self.cells],
                "dense": [model.dense.fingerprints for model in self.models],
            }
        )

    def steps(self) -> Iterator[Step]:
        """Every step of the sweep, each once."""
        seen: set[str] = set()
        for step in self._all_steps():
            if step.fingerprint not in seen:
                seen.add(step.fingerprint)
                yield step

    def _all_steps(self) -> Iterator[Step]:
        for model in self.models:
            yield model.prepared
            yield from (w.step for w in (model.calibration, model.training) if w)
            yield from (windows.step for windows in model.evaluations.values())
            yield from model.statistics.values()
            yield from model.dense.steps()
        for cell in self.cells:
            yield from (cell.pruned, cell.checkpoint, *cell.measures.steps())


def plan_sweep(config: SweepConfig, *, dtype: str) -> Plan:
    """Resolve and expand a sweep.

    Args:
        dtype: what ``config.dtype`` means on this hardware.

    Raises:
        ConfigurationError: for a source that is missing, broken or too short, or when no
            combination of methods and targets is possible.
    """
    config = config.model_copy(update={"dtype": dtype})
    methods = {name: config.method(name) for name in config.entries}
    combinations = [(n, m, t) for n, m in methods.items() for t in config.parsed_targets()]
    if all(method.refuses(target) for _, method, target in combinations):
        reasons = "; ".join(dict.fromkeys(filter(None, (m.refuses(t) for _, m, t in combinations))))
        raise ConfigurationError(
            "targets", list(config.targets), f"no method here can do any of them: {reasons}"
        )
    for name, method in methods.items():
        if method.uses_training and config.training.sequence_length < method.training_length:
            raise ConfigurationError(
                "training.sequence_length",
                config.training.sequence_length,
                f"{name} learns from sequences of {method.training_length} tokens, cut from them",
            )
    zero_shot = _zero_shot_tasks(config)
    models = tuple(
        _plan_model(config, index, list(methods.values()), zero_shot)
        for index in range(len(config.models))
    )
    _require_distinct(config, models)
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    for model in models:
        for name, method, target in combinations:
            for seed in config.seeds:
                if reason := method.refuses(target):
                    skipped.append(Skipped(model.model.spec, name, str(target), seed, reason))
                else:
                    cells.append(_plan_cell(config, model, name, target, seed, zero_shot))
    return Plan(config, models, tuple(cells), tuple(skipped))


def _require_distinct(config: SweepConfig, models: tuple[ModelPlan, ...]) -> None:
    seen: dict[str, str] = {}
    for index, plan in enumerate(models):
        former = seen.setdefault(plan.model.digest, plan.model.spec)
        if former != plan.model.spec:
            raise ConfigurationError(
                f"models[{index}]", config.models[index], f"it is the same model as {former!r}"
            )


def _zero_shot_tasks(config: SweepConfig) -> tuple[ResolvedTask, ...]:
    if not config.evaluation.zero_shot.tasks:
        return ()
    from tasks.measures.zero_shot.tasks import resolve_tasks

    return resolve_tasks(config.evaluation.zero_shot, trust=config.trust)


def _plan_model(
    config: SweepConfig, index: int, methods: list[Method], zero_shot: tuple[ResolvedTask, ...]
) -> ModelPlan:
    model = known_model(config.models[index]) or resolve_model(
        config.models[index],
        field=f"models[{index}]",
        base=Path.cwd(),
        trust=config.trust,
        digest_cache=home() / "digests.json",
    )
    calibration = None
    statistics: dict[int, Step] = {}
    if any(method.uses_calibration for method in methods):
        calibration = calibration_windows(config.calibration, model)
        for method in methods:
            if count := _statistics_windows(method, config.calibration):
                statistics[count] = Step(
                    "statistics",
                    {
                        "version": VERSIONS["statistics"],
                        "model": model.digest,
                        "dtype": config.dtype,
                        "tokens": calibration.step.fingerprint,
                        "windows": count,
                    },
                )
    training = None
    if any(method.uses_training for method in methods):
        training = training_windows(config.training, config.calibration, model)
    evaluations = {
        entry.name: evaluation_windows(entry, model, position)
        for position, entry in enumerate(config.evaluation.perplexity)
    }
    return ModelPlan(
        model=model,
        dtype=config.dtype,
        prepared=Step("model", {"version": VERSIONS["model"], "model": model.digest}),
        calibration=calibration,
        training=training,
        evaluations=evaluations,
        zero_shot=zero_shot,
        statistics=statistics,
        dense=measures_of(config.evaluation, model.digest, config.dtype, evaluations, zero_shot),
    )


def _statistics_windows(method: Method, calibration: Calibration) -> int:
    if not (isinstance(method, LayerMethod) and method.uses_statistics):
        return 0
    return method.calibration_windows(calibration.samples, calibration.sequence_length)


def _plan_cell(
    config: SweepConfig,
    model: ModelPlan,
    name: str,
    target: Target,
    seed: int,
    zero_shot: tuple[ResolvedTask, ...],
) -> Cell:
    method = config.method(name)
    count = _statistics_windows(method, config.calibration)
    inputs: dict[str, Any] = {
        "version": method.version,
        "model": model.model.digest,
        "dtype": model.dtype,
        "method": method.name,
        "options": asdict(method),
        "target": str(target),
        "seed": seed if method.uses_seed else None,
        "calibration": None,
    }
    if count:
        inputs["calibration"] = model.statistics[count].fingerprint
    elif method.uses_calibration:
        assert model.calibration is not None
        inputs["calibration"] = model.calibration.step.fingerprint
    if method.uses_training:
        assert model.training is not None
        inputs["training"] = model.training.step.fingerprint
    pruned = Step("pruned", inputs)
    measures = measures_of(
        config.evaluation,
        pruned.fingerprint,
        model.dtype,
        model.evaluations,
        zero_shot,
        dense=model.dense,
    )
    return Cell(model, name, method, target, seed, count, pruned, measures, config.training)
