"""Results as a Prefect table artifact."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.measures.figures import Figure, Value, present
from tasks.reporting.rows import Row
from tasks.reporting.text import one_line
from tasks.reporting.views import departure, learning, ratio

_DIGITS = 5
_ERROR_WIDTH = 200


def results_artifact(rows: Sequence[Row], figures: Sequence[Figure]) -> list[dict[str, Value]]:
    """Fewer columns than the rows have, floats rounded, inf and nan as text."""
    lines: list[dict[str, Value]] = []
    chosen = [figure for figure in present(figures, rows) if figure.role != "detail"]
    for row in rows:
        axes = ("model", "method", "target", "selection", "seed", "status")
        line = {key: row.get(key) for key in axes if key != "selection" or row.get(key)}
        for figure in chosen:
            line[figure.column] = row.get(figure.column)
            if figure.relative:
                line[f"{figure.column} × dense"] = ratio(row, rows, figure)
        line["learned"] = learning(row) or None
        line["departs"] = departure(row) or None
        for key in ("sparsity", "prune_seconds", "calibration_seconds", "evaluate_seconds"):
            line[key] = row.get(key)
        line["error"] = one_line(str(row["error"]), _ERROR_WIDTH) if row.get("error") else None
        lines.append({key: _plain(value) for key, value in line.items()})
    return lines


def _plain(value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else float.__repr__(value)
