"""Where a sweep's time went: what pruning and evaluating took, and what running them added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group

from tasks.reporting.tables.markdown import table_markdown
from tasks.reporting.tables.table import Column, Table
from tasks.reporting.tables.terminal import terminal_table
from tasks.reporting.text import format_seconds

_HEADER = ("step", "prune", "evaluate", "overhead", "wall")


@dataclass(frozen=True)
class CellTiming:
    """Seconds of one cell in this run; what came from the store took none of it."""

    label: str
    prune: float
    evaluate: float
    wall: float
    """From the cell's start to its end."""

    @property
    def overhead(self) -> float:
        """Wall time that was neither pruning nor evaluating: loading, storing, recording."""
        return self.wall - self.prune - self.evaluate


@dataclass(frozen=True)
class Timings:
    """Seconds of one sweep.

    Attributes:
        shared: of each step that is done once for all cells, such as loading the dense model.
        cells: one entry a cell.
        total_wall: from the sweep's start to its end.
    """

    shared: Mapping[str, float] = field(default_factory=dict)
    cells: Sequence[CellTiming] = ()
    total_wall: float = 0.0

    @property
    def work(self) -> float:
        """Shared steps, pruning and evaluation together."""
        return sum(self.shared.values()) + sum(cell.prune + cell.evaluate for cell in self.cells)

    @property
    def overhead(self) -> float:
        """Wall time beyond the work; negative where cells ran in parallel."""
        return self.total_wall - self.work

    @property
    def ratio(self) -> float | None:
        """Wall time over work: 1 is no overhead; None when nothing was done."""
        return self.total_wall / self.work if self.work > 0 else None

    def table(self) -> Group:
        """The breakdown for a terminal."""
        return Group("Time (s)", terminal_table(self._table()), self._summary())

    def markdown(self) -> str:
        """The breakdown as a Markdown table and a sentence."""
        return f"Seconds.\n\n{table_markdown(self._table())}\n\n{self._summary()}"

    def _table(self) -> Table:
        lines = [[name, "", "", "", format_seconds(took)] for name, took in self.shared.items()]
        for cell in self.cells:
            parts = (cell.prune, cell.evaluate, cell.overhead, cell.wall)
            lines.append([cell.label, *map(format_seconds, parts)])
        pruning = sum(cell.prune for cell in self.cells)
        evaluating = sum(cell.evaluate for cell in self.cells)
        total = (pruning, evaluating, self.overhead, self.total_wall)
        lines.append(["whole sweep", *map(format_seconds, total)])
        columns = [
            Column(heading, cells, is_name=heading == "step")
            for heading, *cells in zip(_HEADER, *lines, strict=True)
        ]
        return Table("Time", columns, ["completed"] * (len(lines) - 1) + ["total"])

    def _summary(self) -> str:
        spent = (
            f"Shared steps, pruning and evaluation: {format_seconds(self.work)} s; "
            f"whole sweep: {format_seconds(self.total_wall)} s"
        )
        return f"{spent}." if self.ratio is None else f"{spent}; ratio {self.ratio:.2f}."
