"""Results as a table artifact of Prefect: few columns, floats rounded, inf and nan as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.measures.figures import Figure, Value, present
from tasks.reporting.rows import Row
from tasks.reporting.text import one_line
from tasks.reporting.views import learning, ratio_to_dense

_DIGITS = 5
_NAMES = ("model", "method", "target", "seed", "status")


def results_artifact(rows: Sequence[Row], figures: Sequence[Figure]) -> list[dict[str, Value]]:
    """The rows' headline figures, quality, speed and costs."""
    rows = list(rows)
    told = [f for f in present(figures, rows) if f.role != "detail" or f.group == "pruning"]
    lines: list[dict[str, Value]] = []
    for row in rows:
        line: dict[str, Value] = {key: row.get(key) for key in _NAMES}
        for figure in told:
            line[figure.column] = row.get(figure.column)
            if figure.relative:
                line[f"{figure.heading} × dense"] = ratio_to_dense(row, rows, figure)
        line["learned"] = learning(row) or None
        line["error"] = None if row.get("error") is None else one_line(str(row["error"]), 200)
        lines.append({key: _plain(value) for key, value in line.items()})
    return lines


def _plain(value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return float.__repr__(value)
    return float(f"{value:.{_DIGITS}g}")
