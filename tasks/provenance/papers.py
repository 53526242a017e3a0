"""A figure that the paper behind a preset reports.

Its inputs are those of the preset, which renders the paper's setting as far as it is known. What
depends on the machine, and ``dtype: auto``, is not stated and so not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from configs.errors import ConfigurationError
from tasks.provenance.inputs import DENSE, FIGURES, METHOD, NONE, Inputs, text_of
from tasks.provenance.references import REPORTED, Axes, Reference, choose
from tasks.provenance.result import Result, title_of

if TYPE_CHECKING:
    from configs.corpora import Corpus
    from configs.schema import Reported, SweepConfig


def reporting_presets() -> dict[str, SweepConfig]:
    """The presets with figures of a paper, by name."""
    from configs.yaml_file import load, presets

    texts = {name: path.read_text(encoding="utf-8") for name, path in presets().items()}
    named = [name for name, text in texts.items() if "\nreported:" in text]
    return {name: load(name) for name in named}


def read_reported(reference: Reference, preset: SweepConfig) -> Result:
    """The figures of one row of a paper's table.

    Raises:
        ConfigurationError: when the preset has no such figure, or several fit.
    """
    entries = preset.reported
    axes = list(dict.fromkeys(_axes(entry) for entry in entries))
    chosen = axes[choose(reference, axes, f"the paper behind {reference.sweep}")]
    found = [entry for entry in entries if _axes(entry) == chosen]
    metrics = {entry.metric: entry.value for entry in found}
    metrics |= _dense_metrics(found[0], entries)
    first = found[0]
    return Result(
        reference=reference.text,
        title=title_of(first.model, first.method, first.target or "", None),
        origin=f"{first.source}; inputs as the preset {preset.name} has them",
        metrics=metrics,
        inputs=_inputs(preset, first),
        reported=True,
    )


def _axes(entry: Reported) -> Axes:
    return Axes(entry.method, entry.target, None, entry.model)


def _dense_metrics(entry: Reported, entries: Sequence[Reported]) -> dict[str, float]:
    return {
        f"dense_{other.metric}": other.value
        for other in entries
        if other.method == DENSE and other.model == entry.model
    }


def unknown_sweep(reference: Reference, sweeps: Sequence[str], where: str) -> ConfigurationError:
    """The error for a name that is neither a sweep nor a preset with figures."""
    named = [f"{REPORTED}{name}" for name in reporting_presets()]
    known = ", ".join(sweeps) or "none yet"
    return ConfigurationError(
        reference.field,
        reference.text,
        f"there is no sweep {reference.sweep!r} with results below {where}; there are: {known}; "
        f"papers' figures: {', '.join(named)}",
    )


def _inputs(preset: SweepConfig, entry: Reported) -> Inputs:
    inputs = {"model": entry.model, METHOD: entry.method}
    if preset.dtype != "auto":
        inputs["pruning/dtype"] = preset.dtype
    for metric in dict.fromkeys(reported.metric for reported in preset.reported):
        measure, _, name = metric.partition("/")
        asked = next(e for e in getattr(preset.evaluation, measure) if e.name == name)
        inputs |= _text(f"{metric}/tokens", asked.corpus, asked.sequence_length, asked.windows)
        inputs[metric + FIGURES] = metric
        if preset.dtype != "auto":
            inputs[f"{metric}/dtype"] = preset.dtype
    if entry.method == DENSE:
        return inputs
    method = preset.method(entry.method)
    inputs |= {METHOD: method.name, "pruning/target": entry.target or NONE}
    inputs |= {f"pruning/options/{name}": text_of(v) for name, v in asdict(method).items()}
    if method.uses_calibration:
        calibration = preset.calibration
        length, seed = calibration.sequence_length, None
        if calibration.sampling in {"random", "coreset"}:
            seed = calibration.seed
        inputs |= _text("calibration", calibration.corpus, length, calibration.samples)
        inputs |= {"calibration/seed": text_of(seed), "calibration/sampling": calibration.sampling}
    if method.uses_training:
        training = preset.training
        corpus = training.corpus or preset.calibration.corpus
        inputs |= _text("training", corpus, training.sequence_length, training.samples)
        inputs["training/sampling"] = training.sampling
    return inputs


def _text(place: str, corpus: Corpus, length: int, count: int | None) -> Inputs:
    inputs = {f"{place}/length": str(length), f"{place}/count": text_of(count)}
    if not corpus.dataset:  # what a file or a Python version holds is not known before it is read
        return inputs
    parts = (corpus.dataset, corpus.config, corpus.split)
    inputs[f"{place}/corpus"] = " ".join(part for part in parts if part)
    return inputs | ({f"{place}/split": corpus.split} if corpus.split else {})
