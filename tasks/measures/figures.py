"""Figures: what a column of the results means, how it is shown, and which direction is better.

Measures declare them; tables, plots, pages, MLflow and the help read them. Nothing that shows a
figure knows which measure it came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | bool | None
Row = Mapping[str, Value]

Format = Literal["number", "precise", "percent", "bytes", "seconds", "count", "rate", "text"]
"""How a value is shown: ``number`` and ``rate`` with three significant digits, ``precise`` with
four, three decimals up to 1, ``percent`` of a share between 0 and 1, ``bytes`` in binary units,
``count`` with k and M. A plot's axis is scaled the same way."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of the results.

    Attributes:
        column: in ``results.csv``, such as ``perplexity/wikitext2``.
        label: names it where there is room: ``perplexity on wikitext2``.
        heading: names it above a table's column: ``perplexity``.
        group: figures of one group stand in one table, which bears its name.
        unit: of what is shown, after its format: ``nats/token``, ``%``, ``tokens/s``.
        better: which direction; empty where neither is.
        format: how tables and axes show it.
        axis: a logarithmic axis, a linear one, or as the spread of the values demands.
        role: ``quality`` and ``speed`` figures are plotted against sparsity; quality against every
            ``cost`` makes a Pareto plot; a ``detail`` stands in tables alone.
        headline: the one that tables of cells begin with, and by which the best cell is told.
        relative: tables show its ratio to the dense model's beside it, and the dense model's own
            value is repeated in each row as ``dense_<column>``.
        comparable: a column that must agree for that ratio to mean anything, such as the hardware.
        dense: what it is for the dense model by definition; None where it has to be measured.
        error: the column of its standard error; empty where it has none.
        bounds: values that a linear axis reaches, so that noise does not fill it.
        estimates: the column that it estimates, against which it is plotted; empty where none.
        added: columns of the same cost that plots add to it; tables show each alone.
        part_of: the column that it is one part of; parts are drawn together, as what each lost.
        over: what its curve runs over: the share of questions kept, the surest first, or recall.
    """

    column: str
    label: str
    heading: str
    group: str
    unit: str = ""
    better: Literal["lower", "higher", ""] = "lower"
    format: Format = "number"
    axis: Literal["log", "linear", "auto"] = "auto"
    role: Literal["quality", "speed", "cost", "detail"] = "detail"
    headline: bool = False
    relative: bool = False
    comparable: str = ""
    dense: float | None = None
    error: str = ""
    bounds: tuple[float, ...] = ()
    estimates: str = ""
    added: tuple[str, ...] = ()
    part_of: str = ""
    over: Literal["coverage", "recall"] = "coverage"

    @property
    def of_dense(self) -> str:
        """The column that repeats the dense model's value."""
        return f"dense_{self.column}"

    def value(self, row: Row) -> float | None:
        """The row's number, infinity included; None where it was not measured."""
        found = row.get(self.column)
        return float(found) if isinstance(found, int | float) else None

    def total(self, row: Row) -> float | None:
        """The row's number and those of the columns ``added`` to it; None where it has none."""
        mine, added = self.value(row), [row.get(column) for column in self.added]
        more = [number for number in added if isinstance(number, int | float)]
        return None if mine is None else math.fsum([mine, *more])

    def standard_error(self, row: Row) -> float | None:
        """Of the row's number; None where it has none."""
        found = row.get(self.error) if self.error else None
        return float(found) if isinstance(found, int | float) else None

    def is_better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``; NaN is better than nothing."""
        if math.isnan(a) or math.isnan(b) or not self.better:
            return False
        return a < b if self.better == "lower" else a > b


def present(figures: Iterable[Figure], rows: Sequence[Row]) -> list[Figure]:
    """The figures that at least one row has, in their order."""
    return [figure for figure in figures if any(row.get(figure.column) is not None for row in rows)]


def instances(columns: Iterable[str], prefix: str) -> list[str]:
    """What stands behind ``prefix`` in columns such as ``perplexity/docs``, each once, in order."""
    return list(dict.fromkeys(c.removeprefix(prefix) for c in columns if c.startswith(prefix)))


PRUNING: tuple[Figure, ...] = (
    Figure(column="sparsity", label="zeros", heading="zeros", unit="%",
           group="pruning", better="", format="percent", axis="linear"),
    Figure(column="exempt_weights", label="weights that no method prunes", heading="exempt",
           unit="weights", group="pruning", better="", format="count"),
    Figure(column="excluded_weights", label="weights excluded from pruning", heading="excluded",
           unit="weights", group="pruning", better="", format="count"),
    Figure(column="prune_seconds", label="time to prune", heading="prune", unit="s",
           group="pruning", format="seconds", role="cost",
           added=("calibration_seconds", "coreset/seconds", "training_coreset/seconds")),
    Figure(column="calibration_seconds", label="time of calibration", heading="calibrate",
           unit="s", group="pruning", better="", format="seconds"),
    Figure(column="training_tokens", label="tokens learned from", heading="learned from",
           unit="tokens", group="pruning", better="", format="count"),
    Figure(column="peak_memory_bytes", label="peak memory of the cell", heading="memory",
           unit="MiB", group="pruning", format="bytes", role="cost"),
    Figure(column="evaluate_seconds", label="time of evaluation", heading="evaluate", unit="s",
           group="pruning", better="", format="seconds"),
)  # fmt: skip
"""Figures of a row that no measure makes: what pruning removed, and what the cell cost."""


def _errors(prefix: str, purpose: str) -> tuple[Figure, ...]:
    told = (
        ("gradient_error", "gradient error", "gradient error"),
        ("raw_gradient_error", "plain gradients' error", "plain gradients"),
        ("column_norm_error", "column norms' error", "column norms"),
    )
    of = (("", "the coreset"), ("_random", "random windows"), ("_spread", "spread windows"))
    group = f"windows chosen for {purpose}"
    took = Figure(
        column=f"{prefix}/seconds",
        label="time to choose windows",
        heading="choose",
        unit="s",
        group=group,
        better="",
        format="seconds",
    )
    return took, *(
        Figure(
            column=f"{prefix}/{name}{suffix}",
            label=f"{label} of {whose}",
            heading=f"{heading}{suffix.replace('_', ' of ')}",
            group=group,
            format="precise",
        )
        for name, label, heading in told
        for suffix, whose in of
    )


SELECTION: tuple[Figure, ...] = (
    *_errors("coreset", "calibration"),
    *_errors("training_coreset", "training"),
)
"""How well a coreset stands for its pool, beside what costs nothing."""
