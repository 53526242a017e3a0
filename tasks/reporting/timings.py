"""Where a sweep's time went: what pruning and evaluating took, and what running them added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text

from tasks.reporting.text import escape_markdown, format_seconds, markdown_table

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

    def table(self) -> Table:
        """The breakdown for a terminal."""
        table = Table(
            title="Time (s)",
            title_justify="left",
            caption=self._summary(),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for place, name in enumerate(_HEADER):
            table.add_column(
                Text(name),
                justify="left" if place == 0 else "right",
                no_wrap=True,
                overflow="ellipsis",
            )
        *parts, total = self._lines()
        for line in parts:
            table.add_row(*(Text(cell) for cell in line))
        table.add_section()
        table.add_row(*(Text(cell) for cell in total), style="bold")
        return table

    def markdown(self) -> str:
        """The breakdown as a Markdown table and a sentence."""
        lines = [[escape_markdown(label), *figures] for label, *figures in self._lines()]
        lines[-1] = [f"**{cell}**" if cell else "" for cell in lines[-1]]
        return f"Seconds.\n\n{markdown_table(_HEADER, lines)}\n\n{self._summary()}"

    def _lines(self) -> list[list[str]]:
        lines = [[name, "", "", "", format_seconds(took)] for name, took in self.shared.items()]
        lines += [
            [
                cell.label,
                *map(format_seconds, (cell.prune, cell.evaluate, cell.overhead, cell.wall)),
            ]
            for cell in self.cells
        ]
        figures = (
            sum(cell.prune for cell in self.cells),
            sum(cell.evaluate for cell in self.cells),
            self.overhead,
            self.total_wall,
        )
        return [*lines, ["whole sweep", *map(format_seconds, figures)]]

    def _summary(self) -> str:
        spent = (
            f"Shared steps, pruning and evaluation: {format_seconds(self.work)} s; "
            f"whole sweep: {format_seconds(self.total_wall)} s"
        )
        return f"{spent}." if self.ratio is None else f"{spent}; ratio {self.ratio:.2f}."
