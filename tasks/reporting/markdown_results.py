"""The table of results in ``report.md``."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reporting.ordering import target_text
from tasks.reporting.rows import PERPLEXITY, Row, corpora, is_completed, is_dense
from tasks.reporting.text import (
    escape_markdown,
    format_percent,
    format_perplexity,
    format_ratio,
    format_seconds,
    markdown_table,
)
from tasks.reporting.views import best, figure, learning, models, ratio_to_dense, several_seeds

_SECONDS = {
    "prune_seconds": "prune (s)",
    "calibration_seconds": "calibrate (s)",
    "evaluate_seconds": "evaluate (s)",
}
_LEARNED = (
    "Methods with an entry under *learned* trained on so many tokens (repetitions counted) of the "
    "training text: *weights*, the whole model was retrained; *mask*, only which heads and "
    "channels stay. The others change weights once, from calibration alone. "
)
_EXACT = "Exact figures: [results.csv](results.csv), [results.json](results.json)."


def results_markdown(rows: Sequence[Row]) -> str:
    """Completed rows in the given order; in bold the lowest perplexity of each target.

    The columns for model and seed stand only where there are several.
    """
    completed = [row for row in rows if is_completed(row)]
    if not completed:
        return "No cell completed."
    names, several, seeds = corpora(rows), len(models(rows)) > 1, several_seeds(rows)
    bold = {
        (model, method, target, name)
        for model in models(rows)
        for name in names
        for method, target in best(rows, model, name)
    }
    learned = any(map(learning, completed))
    lines = [
        [*_names(row, several, seeds), *_figures(row, rows, names, bold, learned)]
        for row in completed
    ]
    header = [*(["model"] if several else []), "method", "target", *(["seed"] if seeds else [])]
    for name in names:
        header += [f"perplexity {escape_markdown(name)}", "× dense"]
    header += ["zeros (%)", *(["learned"] if learned else []), *_SECONDS.values()]
    table = markdown_table(header, lines, text_columns=2 + several)
    mean = ", by the mean over the seeds" if seeds else ""
    note = f"In bold: the lowest perplexity of each target{mean}. " if bold else ""
    return f"{table}\n\n{note}{_LEARNED if learned else ''}{_EXACT}"


def _names(row: Row, several_models: bool, seeds: bool) -> list[str]:
    cells = [escape_markdown(str(row.get("model")))] if several_models else []
    cells += [escape_markdown(str(row.get("method")))]
    cells += [escape_markdown(target_text(row.get("target")))]
    seed = row.get("seed")
    return [*cells, *(["" if seed is None else str(seed)] if seeds else [])]


def _figures(
    row: Row,
    rows: Sequence[Row],
    names: Sequence[str],
    bold: set[tuple[str, str, str, str]],
    learned: bool,
) -> list[str]:
    cell = (str(row.get("model")), str(row.get("method")), target_text(row.get("target")))
    cells: list[str] = []
    for name in names:
        shown = format_perplexity(figure(row, PERPLEXITY + name))
        cells.append(f"**{shown}**" if shown and (*cell, name) in bold else shown)
        cells.append(format_ratio(ratio_to_dense(row, rows, name)))
    zeros = "" if is_dense(row) else format_percent(figure(row, "sparsity"))
    cells += [zeros, *([learning(row)] if learned else [])]
    return [*cells, *(format_seconds(figure(row, column)) for column in _SECONDS)]
