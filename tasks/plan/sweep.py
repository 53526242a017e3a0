"""From a sweep file to its plan: every source resolved, every fingerprint known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from configs.corpora import Calibration, Training
from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from tasks.compression.checkpoint import Recipe
from tasks.compression.coresets import ChosenWindows
from tasks.compression.members import EnsembleOf
from tasks.data.corpora import ResolvedCorpus
from tasks.data.texts import Texts, Windows
from tasks.measures.base import Measure, Subject
from tasks.measures.registry import measures
from tasks.models.examine import contents_of
from tasks.models.prepare import model_step, needs_preparation
from tasks.models.sources.digests import MEMORY
from tasks.models.sources.sources import ResolvedModel, resolve_model
from tasks.plan import encoders
from tasks.plan.completions import require_counted
from tasks.plan.plan import Cell, Measured, ModelPlan, Plan, Skipped
from tasks.plan.sources import Sources, read_files
from tasks.plan.traits import may_prefix, may_rescale
from tasks.pruning.core.methods import Method
from tasks.pruning.core.targets import SemiStructured, Target
from tasks.selection.registry import Sampling
from tasks.store.home import home

_NOTHING_RESOLVED = Sources()
_TRAINING_STREAM = 104_729


def plan_sweep(config: SweepConfig, *, dtype: str, sources: Sources = _NOTHING_RESOLVED) -> Plan:
    """Resolve and expand a sweep; computes nothing.

    Args:
        dtype: what ``config.dtype`` means on this hardware.
        sources: what is known already: none of it is read again.

    Raises:
        ConfigurationError: for a source that is missing, broken or too short, or when no
            combination of methods and targets is possible.
    """
    config = config.model_copy(update={"dtype": dtype})
    methods = {name: config.method(name) for name in config.entries}
    combinations = [(n, m, t) for n, m in methods.items() for t in config.parsed_targets()]
    _require_possible(config, combinations)
    corpora = dict(sources.corpora)
    found = [_resolved(config, index, sources) for index in range(len(config.models))]
    if not sources.models:  # what another machine resolved need not lie on this one
        read_files(config, corpora)
    found = [
        model if model.spec in sources.models else _examined(config, index, model)
        for index, model in enumerate(found)
    ]
    encoders.require_measurable(config, found)
    require_counted(config, methods.values(), found)
    resolved = {m.name: m.resolve(config.evaluation, config.trust) for m in measures().values()}
    models: list[ModelPlan] = []
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    for model in found:
        planner = _Planner(config, model, corpora, resolved, list(methods.values()))
        models.append(planner.dense)
        for name, method, target in combinations:
            for selection, seed in product(config.selections or ("",), config.seeds):
                if reason := _impossible(
                    method, target, planner.dense.model, config.training.sequence_length
                ):
                    place = (planner.dense.spec, name, str(target), seed)
                    skipped.append(Skipped(*place, reason, selection))
                else:
                    cells.append(planner.cell(name, method, target, seed, selection))
    if not cells:
        reasons = "; ".join(dict.fromkeys(entry.reason for entry in skipped))
        allowed = f"no method here can do any of them in these models: {reasons}"
        raise ConfigurationError("targets", list(config.targets), allowed)
    _require_distinct(config, models)
    subjects = [row.subject for row in (*models, *cells)]
    across = _asked("sweep", lambda measure: measure.sweep_steps(subjects))
    known = Sources({model.spec: model.model for model in models}, corpora)
    return Plan(config, tuple(models), tuple(cells), tuple(skipped), known, across)


class _Planner:
    """Plans the cells of one model."""

    def __init__(
        self,
        config: SweepConfig,
        model: ResolvedModel,
        corpora: dict[str, ResolvedCorpus],
        resolved: dict[str, Any],
        methods: list[Method],
    ) -> None:
        self.config = config
        step = model_step(model)
        self.texts = Texts(step, corpora)
        self.calibrates = any(method.uses_calibration for method in methods)
        self.learns = any(method.uses_training for method in methods)
        subject = Subject(
            label=f"{model.spec} dense",
            weights=step,
            dense=None,
            dtype=config.dtype,
            evaluation=config.evaluation,
            resolved=resolved,
            windows=self.texts.windows,
        )
        self.dense = ModelPlan(model, subject, _measured(subject))
        encoders.require_measured(self.dense)

    def calibration(self, sampling: Sampling, seed: int) -> Windows | ChosenWindows | None:
        """What methods calibrate on, with one of the sweep's seeds; None where none does."""
        if not self.calibrates:
            return None
        calibration = self.config.calibration
        seed = (calibration.seed + seed) % 2**63
        windows = self.texts.calibration(calibration, sampling, seed)
        chosen = sampling == "coreset"
        return self._chosen(windows, calibration, seed) if chosen else windows

    def training(self, seed: int) -> Windows | ChosenWindows | None:
        """What methods learn from, with one of the sweep's seeds; None where none does."""
        if not self.learns:
            return None
        training, rest = self.config.training, "contiguous" in self.config.samplings
        # A stream of its own: with calibration's, random windows would be calibration's again.
        drawn = (seed + _TRAINING_STREAM) % 2**63
        windows = self.texts.training(training, self.config.calibration, drawn, rest=rest)
        chosen = training.sampling == "coreset"
        return self._chosen(windows, training, seed) if chosen else windows

    def _chosen(self, pool: Windows, asked: Calibration | Training, seed: int) -> ChosenWindows:
        assert asked.samples is not None
        return ChosenWindows(
            pool=pool,
            options=asked.coreset,
            count=asked.samples,
            seed=seed,
            dtype=self.config.dtype,
        )

    def cell(
        self,
        name: str,
        method: Method,
        target: Target,
        seed: int,
        selection: Sampling | Literal[""],
    ) -> Cell:
        """The cell of one method, target, seed and one of the sweep's selections, if it has any."""
        recipe = self._recipe(name, method, target, seed, selection)
        checkpoint, pruned = recipe.steps()
        subject = self._subject(
            recipe,
            lambda: {
                other: self._subject(self._recipe(name, method, target, other, selection))
                for other in self.config.seeds
            },
        )
        return Cell(
            self.dense,
            name,
            recipe,
            checkpoint,
            pruned,
            self.config.save_checkpoints,
            subject,
            _measured(subject),
            selection,
        )

    def _recipe(
        self,
        name: str,
        method: Method,
        target: Target,
        seed: int,
        selection: Sampling | Literal[""],
    ) -> Recipe:
        spec, dense = self.dense.spec, self.dense.subject
        which = f"seed {seed}" if len(self.config.seeds) > 1 else ""
        return Recipe(
            model=dense.weights,
            method=method,
            target=target,
            seed=seed,
            dtype=dense.dtype,
            calibration=self.calibration(selection or self.config.calibration.sampling, seed),
            training=self.training(seed),
            training_options=self.config.training,
            exclude=tuple(sorted(self.config.exclude)),
            prefixed=self.dense.model.prefixed,
            rescaled=self.dense.model.rescaled,
            label=" ".join(filter(None, (spec, name, selection, str(target), which))),
        )

    def _subject(
        self, recipe: Recipe, siblings: Callable[[], Mapping[int, Subject]] = dict
    ) -> Subject:
        dense = self.dense.subject
        return Subject(
            label=recipe.label,
            weights=recipe.steps()[0],
            dense=dense,
            dtype=dense.dtype,
            evaluation=dense.evaluation,
            resolved=dense.resolved,
            windows=dense.windows,
            exclude=recipe.exclude,
            members=EnsembleOf(recipe, self.texts, self.config.calibration),
            siblings=siblings,
            pruned_again=lambda model: replace(recipe, model=model).steps()[0],
        )


def _measured(subject: Subject) -> Measured:
    return _asked("subject", lambda measure: measure.steps(subject))


def _asked(scope: str, steps: Any) -> Measured:
    """The steps of every measure of a scope that has any."""

    def of(measure: Measure) -> Any:
        return steps(measure) if measure.scope == scope else {}

    return {m.name: found for m in measures().values() if (found := of(m))}


def _resolved(config: SweepConfig, index: int, sources: Sources) -> ResolvedModel:
    given, field = config.models[index], f"models[{index}]"
    if known := sources.models.get(given):
        return known
    return resolve_model(
        given,
        field=field,
        base=Path.cwd(),
        trust=config.trust,
        digest_cache=home() / MEMORY,
    )


def _examined(config: SweepConfig, index: int, model: ResolvedModel) -> ResolvedModel:
    """With what names of checkpoints depend on, and a folder with what its headers tell."""
    methods = [config.method(name) for name in config.entries]
    if any(method.cuts(config.training.sequence_length) for method in methods):
        model = replace(model, prefixed=may_prefix(model, config.trust))
    if any(method.weighs_attention for method in methods):
        model = replace(model, rescaled=may_rescale(model, config.trust))
    if needs_preparation(model) or not model.path:
        return model
    contents = contents_of(
        Path(model.path),
        config.trust,
        config.exclude,
        field=f"models[{index}]",
        given=model.spec,
    )
    return replace(model, contents=contents)


def _impossible(method: Method, target: Target, model: ResolvedModel, length: int) -> str | None:
    """Why a method cannot prune a model to a target; None where nothing speaks against it.

    Args:
        length: tokens of a training window.
    """
    if reason := method.refuses(target):
        return reason
    if encoders.is_one(model) and (reason := encoders.refusal(method, length)):
        return reason
    contents = model.contents
    if contents is None:
        return None
    if method.structured and contents.unstructured:
        return f"{method.name} removes heads and channels: {contents.unstructured}"
    if isinstance(target, SemiStructured):
        odd = [str(width) for width in contents.widths if width % target.group]
        if odd:
            return f"{target} needs rows of a multiple of {target.group}; some have {odd[0]}"
    return None


def _require_possible(config: SweepConfig, combinations: list[tuple[str, Method, Target]]) -> None:
    if all(method.refuses(target) for _, method, target in combinations):
        reasons = "; ".join(dict.fromkeys(filter(None, (m.refuses(t) for _, m, t in combinations))))
        raise ConfigurationError(
            "targets", list(config.targets), f"no method here can do any of them: {reasons}"
        )
    for name, method, _ in combinations:
        if method.uses_training and config.training.sequence_length < method.training_length:
            raise ConfigurationError(
                "training.sequence_length",
                config.training.sequence_length,
                f"{name} learns from sequences of {method.training_length} tokens, cut from them",
            )


def _require_distinct(config: SweepConfig, models: list[ModelPlan]) -> None:
    seen: dict[str, str] = {}
    for index, plan in enumerate(models):
        former = seen.setdefault(plan.model.digest, plan.spec)
        if former != plan.spec:
            raise ConfigurationError(
                f"models[{index}]", config.models[index], f"it is the same model as {former!r}"
            )
