"""The map of what each part of a figure lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.measures.registry import figures_of
from tasks.reporting.plots import write_plots
from tasks.reporting.plots.parts import lost, wholes_of


def row(method: str, target: str, seed: int | None, **values: Any) -> dict[str, Any]:
    columns = {f"slot_f1/covid/{event}": value for event, value in values.items()}
    return {
        "model": "mine",
        "method": method,
        "target": target,
        "seed": seed,
        "status": "completed",
        "sparsity": 0.5 if target else 0.0,
        "slot_f1/covid": 0.5,
        **columns,
    }


ROWS = [
    row("dense", "", None, death=0.9, positive=0.8),
    row("wanda", "0.5", 0, death=0.9, positive=0.6),
    row("wanda", "0.5", 1, death=0.7, positive=0.4),
    row("magnitude", "0.5", 0, death=0.95),
]


def test_a_part_s_loss_is_the_mean_over_seeds_against_dense() -> None:
    figures = figures_of(list(ROWS[0]))
    ((whole, parts),) = wholes_of(figures).items()
    assert whole == "slot_f1/covid"
    assert [part.column for part in parts] == ["slot_f1/covid/death", "slot_f1/covid/positive"]
    found = lost(ROWS, parts)
    assert found["wanda 0.5"] == pytest.approx([0.1, 0.3])
    assert found["magnitude 0.5"] == [pytest.approx(-0.05), None]
    assert lost(ROWS[1:], parts) == {}, "nothing without a dense model"


def test_selections_are_cells_of_their_own() -> None:
    figures = figures_of(list(ROWS[0]))
    ((_, parts),) = wholes_of(figures).items()
    few = row("wanda", "0.5", 0, death=0.8, positive=0.7) | {"selection": "random"}
    many = row("wanda", "0.5", 0, death=0.4, positive=0.3) | {"selection": "coreset"}
    found = lost([ROWS[0], few, many], parts)
    assert found == {
        "wanda random 0.5": pytest.approx([0.1, 0.1]),
        "wanda coreset 0.5": pytest.approx([0.5, 0.5]),
    }


def test_it_is_drawn_among_the_plots(tmp_path: Path) -> None:
    written = write_plots(ROWS, figures_of(list(ROWS[0])), {}, tmp_path)
    assert any("by-part" in path.name for path in written)
