"""What quality is weighed against: the time and memory of pruning, the size and speed after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.reporting.measures import DECODE, HARDWARE, ON_DISK, PREFILL, SPEED_MEMORY, measured
from tasks.reporting.rows import Row, is_dense
from tasks.reporting.views import figure, of_model, pruning_seconds

_MIB = 2**20
_NOISE = 0.1
"""The part by which speed and memory differ between runs of the same model."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The other axis of a Pareto plot."""

    stem: str
    """The plot's file name."""
    label: str
    """With its unit."""
    value: Callable[[Row], float | None]
    """Of a row; None where it was not measured."""
    lower_is_better: bool = True
    per_target: bool = False
    """Whether cells compete within their target only: that a lighter target is as quick to prune
    and less harmed is no choice. What a model weighs and how fast it is compares over targets."""
    dense_competes: bool = True
    """Whether the dense model is a choice too: it was never pruned, but it can be run."""

    least_difference: float = 0.01
    """Costs that differ by less than this part leave nothing to choose."""

    def differs(self, values: Sequence[float]) -> bool:
        """Whether ``values`` leave a choice."""
        return bool(values) and max(values) - min(values) > self.least_difference * max(values)


def costs(rows: Sequence[Row], model: str) -> list[Cost]:
    """Time, size, memory and speed: the first two always, the others as they were measured.

    Memory is that of running the model, or else that of pruning it; speed that of decoding, or
    else of prefill; both on the dense model's hardware only.
    """
    mine = of_model(rows, model)
    found = [
        Cost(
            stem="time-vs-quality",
            label="calibration and pruning time (s)",
            value=pruning_seconds,
            per_target=True,
            dense_competes=False,
        ),
        Cost(
            stem="size-vs-quality",
            label="size on disk (MiB)",
            value=lambda row: _mebibytes(figure(row, ON_DISK)),
        ),
    ]
    found.append(_memory_in_use(mine) if measured(mine, SPEED_MEMORY) else _memory_of_pruning())
    column = DECODE if measured(mine, DECODE) else PREFILL
    kind = "decoding" if column == DECODE else "prefill"
    return [
        *found,
        Cost(
            stem="speed-vs-quality",
            label=f"{kind} (tokens/s)",
            value=lambda row: figure(row, column) if _same(row, mine) else None,
            lower_is_better=False,
            least_difference=_NOISE,
        ),
    ]


def _memory_in_use(rows: Sequence[Row]) -> Cost:
    return Cost(
        stem="memory-vs-quality",
        label="peak memory in use (MiB)",
        value=lambda row: _mebibytes(figure(row, SPEED_MEMORY)) if _same(row, rows) else None,
        least_difference=_NOISE,
    )


def _memory_of_pruning() -> Cost:
    return Cost(
        stem="memory-vs-quality",
        label="peak memory of pruning (MiB)",
        value=lambda row: _mebibytes(figure(row, "peak_memory_bytes")),
        per_target=True,
        dense_competes=False,
    )


def _same(row: Row, rows: Sequence[Row]) -> bool:
    """Whether speed was measured where the dense model's was, or the first row's that has any."""
    placed = [entry.get(HARDWARE) for entry in rows if entry.get(HARDWARE)]
    dense = [entry.get(HARDWARE) for entry in rows if is_dense(entry) and entry.get(HARDWARE)]
    return row.get(HARDWARE) == next(iter([*dense, *placed]), None)


def _mebibytes(value: float | None) -> float | None:
    return None if value is None else value / _MIB
