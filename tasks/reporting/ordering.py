"""The order of rows and of targets in every table, plot and file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.measures.figures import Value
from tasks.pruning.core.targets import Fraction, TargetError, parse_target
from tasks.reporting.rows import DENSE, Row


def sort_rows(
    rows: Sequence[Row], methods: Sequence[str] = (), models: Sequence[str] = ()
) -> list[Row]:
    """Rows by model, dense first, then method, target (least sparse first), selection and seed.

    Args:
        methods: their order; others follow in order of appearance.
        models: likewise.
    """
    model_order = _ranks([*models, *(str(row.get("model")) for row in rows)])
    selection_order = _ranks(str(row.get("selection")) for row in rows)
    method_order = _ranks([DENSE, *methods, *(str(row.get("method")) for row in rows)])

    def key(row: Row) -> tuple[Any, ...]:
        seed = row.get("seed")
        return (
            model_order[str(row.get("model"))],
            method_order[str(row.get("method"))],
            target_key(row.get("target")),
            selection_order[str(row.get("selection"))],
            seed if isinstance(seed, int | float) else -1,
        )

    return sorted(rows, key=key)


def target_key(target: Value) -> tuple[float, int, int, str]:
    """Sorts targets by sparsity; of equal ones fractions first, then by group; others last."""
    text = target_text(target)
    try:
        parsed = parse_target(text)
    except TargetError:
        return (0.0 if not text else math.inf, 0, 0, text)
    if isinstance(parsed, Fraction):
        return (parsed.sparsity, 0, 0, "")
    return (parsed.sparsity, parsed.group, parsed.keep, "")


def target_text(target: Value) -> str:
    """The target as written; empty for a dense model."""
    return "" if target is None else str(target)


def _ranks(names: Iterable[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(dict.fromkeys(names))}
