"""The measures that plots have on an axis: what they are called, where they come from, and which
direction is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.reporting.measures import (
    AGREEMENT,
    DECODE,
    HARDWARE,
    KL,
    PREFILL,
    ZERO_SHOT_MEAN,
    corpora_of,
    dense_figure,
    measured,
    speedup,
    standard_error,
    zero_shot_tasks,
)
from tasks.reporting.rows import PERPLEXITY, Row, is_dense
from tasks.reporting.text import format_perplexity
from tasks.reporting.views import Point, dense_perplexity, figure, of_model, points_of, short_name

LOG_SPREAD = 20
"""Values that differ by more than this factor stand on a logarithmic axis."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One measure of one model's cells."""

    stem: str
    """Begins a plot's file name."""
    label: str
    """With its unit."""
    value: Callable[[Row], float | None]
    """Of a row; None where it was not measured."""
    error: Callable[[Row], float | None] = lambda _: None
    """Its standard error."""
    dense: float | None = None
    """The dense model's; None where it has none or a line says nothing."""
    dense_text: str = "dense"
    """Names that line."""
    lower_is_better: bool = True
    scale: Literal["log", "linear", "auto"] = "auto"
    """Of its axis; auto: as the spread demands."""
    always_shown: tuple[float, ...] = ()
    """Values that the axis reaches, so that noise does not fill it."""
    note: str = ""
    """Stands above the plot, beside the model's name."""

    def points(self, rows: Sequence[Row], model: str) -> list[Point]:
        """The completed cells of ``model`` that have this measure, seeds together."""
        return points_of(rows, model, self.value, self.error)

    def is_log(self, values: Sequence[float]) -> bool:
        """Whether the spread of ``values`` demands a logarithmic axis."""
        if self.scale != "auto":
            return self.scale == "log"
        finite = [value for value in values if math.isfinite(value)]
        return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > LOG_SPREAD


def perplexity(rows: Sequence[Row], model: str, corpus: str) -> Quality:
    """Perplexity on one corpus."""
    dense = dense_perplexity(rows, model, corpus)
    return Quality(
        stem="perplexity-vs-sparsity",
        label=f"perplexity on {short_name(corpus, 24)}",
        value=lambda row: figure(row, PERPLEXITY + corpus),
        dense=dense,
        dense_text=f"dense ({format_perplexity(dense)})",
        scale="log",
    )


def divergence(corpus: str) -> Quality:
    """KL divergence from the dense model; the dense model's own is zero, which no line shows."""
    return Quality(
        stem="kl-vs-sparsity",
        note="KL divergence from the dense model",
        label=f"KL, {short_name(corpus, 12)} (nats/token)",
        value=lambda row: figure(row, KL + corpus),
    )


def agreement(corpus: str) -> Quality:
    """How often the pruned model's first choice is the dense model's."""
    return Quality(
        stem="agreement-vs-sparsity",
        note="top-1 agreement with the dense model",
        label=f"same first choice, {short_name(corpus, 12)} (%)",
        value=lambda row: percent(figure(row, AGREEMENT + corpus)),
        dense=100.0,
        dense_text="dense (100 %)",
        scale="linear",
        lower_is_better=False,
    )


def accuracy(rows: Sequence[Row], model: str, column: str = ZERO_SHOT_MEAN) -> Quality:
    """A zero-shot task's main metric, or the mean over tasks."""
    tasks = zero_shot_tasks(rows)
    dense = percent(dense_figure(rows, model, column))
    if column == ZERO_SHOT_MEAN:
        label = "zero-shot accuracy (%)" if len(tasks) < 2 else f"mean of {len(tasks)} tasks (%)"
    else:
        task, _, metric = column.split("/", 1)[1].rpartition("/")
        label = f"{short_name(task, 24)} {metric} (%)"
    bars = any(standard_error(row, column, tasks) is not None for row in rows)
    return Quality(
        stem="accuracy-vs-sparsity",
        label=label,
        value=lambda row: percent(figure(row, column)),
        error=lambda row: percent(standard_error(row, column, tasks)),
        dense=dense,
        dense_text="dense" if dense is None else f"dense ({dense:.1f} %)",
        lower_is_better=False,
        scale="linear",
        note="bars: ± 1 standard error" if bars else "",
    )


def speed(rows: Sequence[Row], model: str, column: str) -> Quality:
    """Tokens a second as a multiple of the dense model's, on the dense model's hardware."""
    mine = of_model(rows, model)
    places = {row.get(HARDWARE) for row in mine if figure(row, column) is not None}
    compared = [row.get(HARDWARE) for row in mine if is_dense(row) and row.get(HARDWARE)]
    note = f"only on {short_name(str(compared[0]), 24)}" if len(places) > 1 and compared else ""
    kind = "prefill" if column == PREFILL else "decoding"
    return Quality(
        stem=f"{kind}-speed-vs-sparsity",
        label=f"{kind} speed (× dense)",
        value=lambda row: speedup(row, rows, column),
        dense=1.0,
        dense_text="dense (1×)",
        scale="linear",
        always_shown=(0.5, 1.5),
        lower_is_better=False,
        note=note,
    )


def qualities(rows: Sequence[Row], model: str, corpora: Sequence[str]) -> list[tuple[Quality, str]]:
    """Everything to draw against sparsity, each with its corpus (empty where it has none)."""
    found = [(perplexity(rows, model, corpus), corpus) for corpus in corpora]
    found += [(divergence(corpus), corpus) for corpus in corpora_of(rows, KL)]
    found += [(agreement(corpus), corpus) for corpus in corpora_of(rows, AGREEMENT)]
    if measured(rows, ZERO_SHOT_MEAN):
        found.append((accuracy(rows, model), ""))
    found += [(speed(rows, model, name), "") for name in (PREFILL, DECODE) if measured(rows, name)]
    return found


def percent(fraction: float | None) -> float | None:
    """A fraction in percent."""
    return None if fraction is None else 100 * fraction
