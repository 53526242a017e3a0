"""A sweep as a graph: models × methods × targets × seeds, each cell with its steps; no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from configs.schema import SweepConfig
from tasks.compression.checkpoint import CHECKPOINT, Recipe
from tasks.compression.coresets import ChosenWindows
from tasks.data.texts import Windows
from tasks.measures.base import Subject
from tasks.models.sources.sources import ResolvedModel
from tasks.plan.sources import Sources
from tasks.store.needs import training_place
from tasks.store.steps import MEMBER, Step, fingerprint, walk

Measured = Mapping[str, Mapping[str, Step]]
"""Measure → name within the measure → the step that computes it."""


def steps_of(measured: Measured) -> list[Step]:
    """Every step, each once, in the order in which they are computed."""
    steps = (step for named in measured.values() for step in named.values())
    return list(dict.fromkeys(steps))


def fingerprints(measured: Measured) -> dict[str, dict[str, str]]:
    """What identifies the figures."""
    return {
        measure: {name: step.fingerprint for name, step in named.items()}
        for measure, named in measured.items()
    }


@dataclass(frozen=True)
class ModelPlan:
    """A model as it came, and what is measured of it."""

    model: ResolvedModel
    subject: Subject
    measured: Measured

    @property
    def spec(self) -> str:
        """As the sweep names it."""
        return self.model.spec

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of the model that was named, in sentences."""
        unread = self.subject.weights.words.get("unread")
        said = f"{self.spec}: tensors of its files that the model does not read, {unread}"
        notes = [f"{said}; checkpoints carry them over as they are"] if unread else []
        notes += self.doubts
        layers, weights, counted = self.model.contents.excluded if self.model.contents else (0,) * 3
        if layers:
            notes.append(
                f"{self.spec}: exclude leaves {layers} layers dense, {weights / counted:.1%} of "
                "the weights that zeros are counted over"
            )
        return notes

    @property
    def doubts(self) -> list[str]:
        """Why its figures may be of other tokens than it was trained on, in at most a sentence."""
        doubt = self.model.contents.doubt if self.model.contents else ""
        return [f"{self.spec}: {doubt}"] if doubt else []

    @property
    def measured_windows(self) -> list[tuple[Step, Windows]]:
        """Steps that measure on a text, each with its windows."""
        found = ((step, step.needs.get("tokens")) for step in steps_of(self.measured))
        return [(step, t.about) for step, t in found if t and isinstance(t.about, Windows)]

    @property
    def goals(self) -> list[Step]:
        """What its row needs, the model itself first."""
        return [self.subject.weights, *steps_of(self.measured)]

    @cached_property
    def fingerprint(self) -> str:
        """Identifies its row."""
        return fingerprint(
            {
                "model": self.model.digest,
                "method": "dense",
                "measures": fingerprints(self.measured),
            }
        )


@dataclass(frozen=True)
class Cell:
    """One point of the sweep.

    Attributes:
        name: of the method or variant, as the sweep calls it.
        checkpoint: the step of the pruned model's folder.
        pruned: the step of its facts alone, which a sweep that keeps no checkpoints keeps.
        kept: whether the checkpoint is to stay.
        selection: of the sweep's selections; empty where it has none.
    """

    model: ModelPlan
    name: str
    recipe: Recipe
    checkpoint: Step
    pruned: Step
    kept: bool
    subject: Subject
    measured: Measured
    selection: str = ""

    @property
    def seed(self) -> int:
        """Of the sweep's seeds."""
        return self.recipe.seed

    @property
    def label(self) -> str:
        """Method, how windows were chosen where the sweep compares that, and target."""
        return " ".join(filter(None, (self.name, self.selection, str(self.recipe.target))))

    @property
    def axes(self) -> dict[str, str | int]:
        """Its place in the sweep, as rows and flow runs name it."""
        return {
            "model": self.model.spec,
            "method": self.name,
            "target": str(self.recipe.target),
            **({"selection": self.selection} if self.selection else {}),
            "seed": self.seed,
        }

    @property
    def goals(self) -> list[Step]:
        """What its row needs."""
        first = [self.checkpoint] if self.kept else []
        return [*first, self.pruned, *steps_of(self.measured)]

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the row: its steps, and its place in the sweep."""
        return fingerprint(
            {
                **self.axes,
                "model": self.model.model.digest,
                "pruned": self.pruned.fingerprint,
                "measures": fingerprints(self.measured),
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
    selection: str = ""


@dataclass(frozen=True)
class Plan:
    """A sweep, resolved.

    Attributes:
        sources: the models and texts that were found.
        across: measures of several cells together.
    """

    config: SweepConfig
    models: tuple[ModelPlan, ...]
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    sources: Sources
    across: Measured = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the sweep by what it computes: its name, cells and dense evaluations."""
        return fingerprint(
            {
                "name": self.config.name,
                "cells": [cell.fingerprint for cell in self.cells],
                "dense": [model.fingerprint for model in self.models],
                "across": fingerprints(self.across),
            }
        )

    @property
    def goals(self) -> list[Step]:
        """What the whole sweep needs."""
        rows = (goal for row in (*self.models, *self.cells) for goal in row.goals)
        return [*rows, *steps_of(self.across)]

    @property
    def text_notes(self) -> list[str]:
        """What a reader has to know of the texts, in sentences."""
        return [*self._fewer_windows(), *self._seen_notes()]

    @property
    def option_notes(self) -> list[str]:
        """Whose options no cell has."""
        config = self.config
        used = {*config.methods, *(variant.method for variant in config.variants.values())}
        unused = [
            f"options.{name}"
            for name, options in config.options
            if name not in used and options != type(options)()
        ]
        if not unused:
            return []
        return [f"{', '.join(unused)}: no method or variant of this sweep takes them."]

    def _fewer_windows(self) -> list[str]:
        """Whose statistics are of a part of the calibration windows."""
        notes: dict[str, None] = {}
        for cell in self.cells:
            count, calibration = cell.recipe.statistics_windows, cell.recipe.calibration
            if count is not None and calibration and count != calibration.count:
                notes[
                    f"{cell.name} looks at {count} of the {calibration.count} calibration windows."
                ] = None
        return list(notes)

    def _seen_notes(self) -> list[str]:
        notes = (
            f"{step.label} is measured on a text that {' and '.join(uses)} read too, so the figure "
            "says less about text that the models have not seen."
            for step, uses in self.seen_texts.items()
            if uses
        )
        return list(dict.fromkeys(notes))

    @property
    def seen_texts(self) -> dict[Step, list[str]]:
        """Steps that measure on a text → what reads the same corpus, or a part of it, before."""
        seen: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            recipe, method = cell.recipe, cell.recipe.method
            for windows, use, uses in (
                (recipe.calibration, "calibration", method.uses_calibration),
                (recipe.training, "training", method.uses_training),
            ):
                for digest in windows.facts.digests if windows and uses else ():
                    seen.setdefault(digest, {})[use] = None
        return {
            step: list({use: None for d in windows.facts.digests for use in seen.get(d, ())})
            for model in self.models
            for step, windows in model.measured_windows
        }

    def steps(self) -> list[Step]:
        """Every step of the sweep, each once, needs first."""
        return list(walk(self.goals))

    def shared(
        self, cells: Iterable[Cell], there: Callable[[Step], bool] = lambda _: False
    ) -> Iterator[Step]:
        """What several cells may need and no cell makes: texts and statistics, needs first.

        Args:
            there: whether a step's artifact is there; then what it needs is of no interest.
        """
        goals = [goal for cell in cells for goal in cell.goals]
        for step in walk(goals, into=lambda step: not there(step)):
            if all(behind.name not in (CHECKPOINT, MEMBER) for behind in walk([step])):
                yield step

    def windows(self, model: ModelPlan) -> list[Windows]:
        """Every text that the sweep cuts for a model; a pool for each number of windows that are
        to be chosen from it, which is no input of its step."""
        mine = [goal for cell in self.cells if cell.model is model for goal in cell.goals]
        abouts = (step.about for step in walk([*model.goals, *mine]))
        cut = (about.pool if isinstance(about, ChosenWindows) else about for about in abouts)
        found = {(w.step, w.at_least): w for w in cut if isinstance(w, Windows)}
        return list(found.values())

    def cell(self, model: str, method: str, target: str, seed: int, selection: str = "") -> Cell:
        """The cell by its axes.

        Raises:
            LookupError: when the sweep has no such cell.
        """
        axes = {"model": model, "method": method, "target": target, "seed": seed}
        axes |= {"selection": selection} if selection else {}
        for cell in self.cells:
            if cell.axes == axes:
                return cell
        raise LookupError(f"the sweep has no cell {method} {target} of {model} with seed {seed}")


def needed_places(plan: Plan, *, ended: bool) -> list[str]:
    """What ``gc`` must keep for a sweep, as ``name/fingerprint`` below ``artifacts/``.

    Args:
        ended: whether it computes nothing more: of a checkpoint that it does not keep it then needs
            only what an interrupted training goes on from.
    """
    passing = {cell.checkpoint for cell in plan.cells if not cell.kept} if ended else set()
    return [
        training_place(step) if step in passing else step.place
        for step in plan.steps()
        if step.outside is None
    ]
