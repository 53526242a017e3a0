"""A figure that the paper behind a preset reports.

Its inputs are those of the preset, which renders the paper's setting as far as it is known. What
depends on the machine, and ``dtype: auto``, is not stated and so not compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from configs.errors import ConfigurationError
from tasks.provenance.manifests import EVALUATION, Inputs
from tasks.provenance.recorded import split_of
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
        if other.method == "dense" and other.model == entry.model
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
    inputs = {"model": entry.model, "method": entry.method, "target": entry.target or "none"}
    if preset.dtype != "auto":
        inputs["dtype"] = preset.dtype
    for evaluation in preset.evaluation.perplexity:
        count = evaluation.windows or "all"
        inputs |= _text(
            f"{EVALUATION}{evaluation.name}", evaluation.corpus, evaluation.sequence_length, count
        )
    if entry.method == "dense":
        return inputs
    method = preset.method(entry.method)
    if entry.method != method.name:
        inputs["variant_of"] = method.name
    inputs["options"] = json.dumps(asdict(method), sort_keys=True)
    if method.uses_calibration:
        calibration = preset.calibration
        inputs |= _text(
            "calibration", calibration.corpus, calibration.sequence_length, calibration.samples
        )
        inputs["calibration/sampling"] = calibration.sampling
    if method.uses_training:
        training = preset.training
        corpus = training.corpus or preset.calibration.corpus
        inputs |= _text("training", corpus, training.sequence_length, training.samples or "all")
    return inputs


def _text(prefix: str, corpus: Corpus, length: int, windows: int | str) -> Inputs:
    # Of hub data sets alone: what a file or a Python version holds is not known before it is read.
    parts = (corpus.dataset, corpus.config, corpus.split)
    return {
        f"{prefix}/window_tokens": str(length),
        f"{prefix}/windows": str(windows),
        **({f"{prefix}/corpus": " ".join(p for p in parts if p)} if corpus.dataset else {}),
        **({f"{prefix}/split": split} if (split := split_of(corpus, "")) else {}),
    }
