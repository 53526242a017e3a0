"""Agreement, zero-shot tasks, speed and size in ``report.md``; a table of each where measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.reporting.measures import (
    AGREEMENT,
    DECODE,
    KL,
    LATENCY_P50,
    LATENCY_P95,
    ON_DISK,
    PREFILL,
    RECONSTRUCTION,
    SPEED_FIGURES,
    SPEED_MEMORY,
    ZERO_SHOT_MEAN,
    corpora_of,
    hardware,
    measured,
    speed_notes,
    speedup,
    standard_error,
    zero_shot_tasks,
)
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed
from tasks.reporting.text import (
    escape_markdown,
    format_bytes,
    format_count,
    format_figure,
    format_percent,
    format_ratio,
    markdown_table,
)
from tasks.reporting.views import figure, models, several_seeds

_TASKS_ABREAST = 6
"""Zero-shot tasks in one table; further ones stand in another below it."""
Column = tuple[str, Callable[[Row], str]]
"""A header and what stands in each row's cell."""


def measures_markdown(rows: Sequence[Row]) -> list[str]:
    """Headings, tables and notes, in order; empty where nothing but perplexity was measured."""
    completed = [row for row in rows if is_completed(row)]
    return [*_agreement(completed), *_zero_shot(completed), *_speed(completed)]


def name_columns(rows: Sequence[Row]) -> list[Column]:
    """What names a row: model and seed only where there are several."""
    columns: list[Column] = []
    if len(models(rows)) > 1:
        columns.append(("model", lambda row: escape_markdown(str(row.get("model")))))
    columns.append(("method", lambda row: escape_markdown(str(row.get("method")))))
    columns.append(("target", lambda row: escape_markdown(target_text(row.get("target")))))
    if several_seeds(rows):
        seed = ("seed", lambda row: "" if row.get("seed") is None else str(row.get("seed")))
        columns.append(seed)
    return columns


def _agreement(rows: Sequence[Row]) -> list[str]:
    columns: list[Column] = []
    for name in corpora_of(rows, KL):
        shown = escape_markdown(name)
        columns.append((f"KL {shown} (nats/token)", _cell(KL + name, format_figure)))
    for name in corpora_of(rows, AGREEMENT):
        shown = escape_markdown(name)
        columns.append((f"top-1 {shown} (%)", _cell(AGREEMENT + name, format_percent)))
    if measured(rows, RECONSTRUCTION):
        columns.append(("reconstruction error", _cell(RECONSTRUCTION, format_figure)))
    if not columns:
        return []
    told = [
        "KL: mean divergence of the pruned model's predictions from the dense model's. Top-1: how "
        "often both predict the same token."
    ]
    if measured(rows, RECONSTRUCTION):
        told.append(
            "Reconstruction error: ‖X(W−Ŵ)ᵀ‖ / ‖XWᵀ‖ of a layer on the dense model's inputs, "
            "mean over layers; 0 is unpruned, 1 is as bad as a layer of zeros."
        )
    return ["### Agreement with the dense model", _table(rows, columns), " ".join(told)]


def _zero_shot(rows: Sequence[Row]) -> list[str]:
    tasks = zero_shot_tasks(rows)
    has_mean = measured(rows, ZERO_SHOT_MEAN) and len(tasks) != 1
    if not tasks and not has_mean:
        return []

    def of(column: str) -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            error = standard_error(row, column, tasks)
            shown = format_percent(figure(row, column))
            return f"{shown} ± {format_percent(error)}" if shown and error is not None else shown

        return cell

    columns = [("**mean**", of(ZERO_SHOT_MEAN))] if has_mean else []
    for task, column in tasks.items():
        metric = column.rpartition("/")[2]
        columns.append((f"{escape_markdown(task)} ({escape_markdown(metric)})", of(column)))
    tables = [
        _table(rows, columns[first : first + _TASKS_ABREAST])
        for first in range(0, len(columns), _TASKS_ABREAST)
    ]
    note = "In percent, ± one standard error; the mean is over each task's metric named here."
    return ["### Zero-shot tasks", *tables, note]


def _speed(rows: Sequence[Row]) -> list[str]:
    columns: list[Column] = []
    for name, column in (("prefill", PREFILL), ("decode", DECODE)):
        if measured(rows, column):
            columns.append((f"{name} (tokens/s)", _cell(column, format_figure)))
            columns.append(
                ("× dense", lambda row, column=column: format_ratio(speedup(row, rows, column)))
            )
    for name, column in (("p50 (ms)", LATENCY_P50), ("p95 (ms)", LATENCY_P95)):
        if measured(rows, column):
            columns.append((f"latency {name}", _cell(column, format_figure)))
    for name, column in (("peak memory", SPEED_MEMORY), ("on disk", ON_DISK)):
        if measured(rows, column):
            columns.append((name, _cell(column, format_bytes)))
    if not any(measured(rows, column) for column in (*SPEED_FIGURES, ON_DISK)):
        return []
    if len(hardware(rows)) > 1:
        columns.append(("hardware", lambda row: escape_markdown(str(row.get("speed/hardware")))))
    if measured(rows, "nonzero_parameters"):
        columns.append(("non-zeros", _cell("nonzero_parameters", format_count)))
    notes = [escape_markdown(" ".join(speed_notes(rows)))] if speed_notes(rows) else []
    return ["### Speed and size", _table(rows, columns), *notes]


def _cell(column: str, shown: Callable[[float], str]) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = figure(row, column)
        return "" if value is None else shown(value)

    return cell


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """The rows that have any of ``columns``."""
    names = name_columns(rows)
    lines = []
    for row in rows:
        cells = [cell(row) for _, cell in columns]
        if any(cells):
            lines.append([*(name(row) for _, name in names), *cells])
    texts = sum(header in ("model", "method", "target") for header, _ in names)
    header = [header for header, _ in (*names, *columns)]
    return markdown_table(header, lines, text_columns=texts)
