"""A sweep's rows as a report receives them: three methods, three targets, one dense model."""

from __future__ import annotations

import pytest

from tasks.measures.figures import PRUNING, Figure, Value
from tasks.measures.registry import figures_of
from tasks.pruning.core.targets import parse_target
from tasks.reporting.rows import Row

PERPLEXITIES = {
    "magnitude": {"0.3": 45.0, "0.5": 510.0, "2:4": 1481.0},
    "wanda": {"0.3": 33.0, "0.5": 60.5, "2:4": 179.7},
    "swiftprune": {"0.3": 33.5, "0.5": 62.0, "2:4": 195.0},
}
SECONDS = {"magnitude": 0.6, "wanda": 40.0, "swiftprune": 5.0}


def figures_in(rows: list[Row]) -> list[Figure]:
    """As the flow passes them."""
    return [*figures_of(list(dict.fromkeys(key for row in rows for key in row))), *PRUNING]


def figure_of(rows: list[Row], column: str = "perplexity/docs") -> Figure:
    return next(figure for figure in figures_in(rows) if figure.column == column)


def dense_row(model: str = "tiny", perplexity: float = 28.1) -> Row:
    return {
        "model": model,
        "method": "dense",
        "status": "completed",
        "perplexity/docs": perplexity,
        "evaluate_seconds": 30.0,
    }


def cell_row(method: str, target: str, perplexity: float, **more: Value) -> Row:
    row: Row = {
        "model": "tiny",
        "method": method,
        "target": target,
        "seed": 0,
        "status": "completed",
        "sparsity": parse_target(target).sparsity,
        "perplexity/docs": perplexity,
        "dense_perplexity/docs": 28.1,
        "prune_seconds": SECONDS.get(method, 1.0),
    }
    return row | more


def failed_row(error: str, method: str = "wanda", target: str = "0.7") -> Row:
    return {
        "model": "tiny",
        "method": method,
        "target": target,
        "seed": 0,
        "status": "failed",
        "error": error,
    }


@pytest.fixture
def rows() -> list[Row]:
    cells = [
        cell_row(method, target, perplexity)
        for method, found in PERPLEXITIES.items()
        for target, perplexity in found.items()
    ]
    return [dense_row(), *cells]
