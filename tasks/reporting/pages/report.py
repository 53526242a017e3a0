"""The report as Markdown that GitHub renders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from tasks.measures.figures import Figure, present
from tasks.reporting.charts import cost, scatter, selections, side_by_side, sparsity
from tasks.reporting.context import ModelFacts, ReportContext
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.tables.markdown import pipe_table, table_markdown
from tasks.reporting.tables.table import OVER_SEEDS, results_tables
from tasks.reporting.text import escape_markdown, one_line, shown
from tasks.reporting.views import cell_label, several_seeds

REPORT_NAME = "report.md"
_ERROR_WIDTH = 600
_LAYERS = "Layer by layer"
_COVERAGE = (
    "From left to right more of the questions count, the surest by U first; on the right all do."
)
_RECALL = (
    "As one threshold for all slots moves. Tables tell precision and recall at thresholds of each "
    "slot's own, where the sweep chooses such."
)
_KINDS = {
    "-by-model": (side_by_side.SECTION, ""),
    "-vs-sparsity": (sparsity.SECTION, ""),
    "-vs-": (cost.SECTION, cost.NOTE),
    "-by-selection": (selections.SECTION, ""),
    "-by-source": ("What the windows are of", ""),
    "-against-": (scatter.SECTION, scatter.NOTE),
    "-by-coverage": ("The surest questions first", _COVERAGE),
    "-by-recall": ("Precision against recall", _RECALL),
    "-by-part": ("What each part lost", ""),
    "-by-": (_LAYERS, ""),
}
"""Part of a plot's name → heading and note; the first that fits counts."""
_EXACT = "Exact figures: [results.csv](results.csv), [results.json](results.json)."


def render_report(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    context: ReportContext,
    plots: Sequence[str] = (),
) -> str:
    """The report.

    Args:
        plots: links to embed, relative to the report.
    """
    parts = [
        f"# Sweep {escape_markdown(context.name)}",
        _what_was_run(rows, figures, context),
        *_results(rows, figures, context),
        *_section("Across the sweep", _across(context)),
        *_section("Plots", _plots(plots)),
        *_section("Failed", _failed(rows)),
        *_section("Skipped", _skipped(context)),
        *_section("Time", [context.timings.markdown()] if context.timings else []),
        "## What was used",
        _facts(context),
        "## Run it again",
        _again(context),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"## {title}", *parts] if parts else []


def _results(rows: Sequence[Row], figures: Sequence[Figure], context: ReportContext) -> list[str]:
    """A table each of the headline figures, of what pruning took, and of every group."""
    completed = [row for row in rows if is_completed(row)]
    if not completed:
        return ["## Results", "No cell completed."]
    first, *further = results_tables(completed, figures)
    bold = any(column.best for table in (first, *further) for column in table.columns)
    seeds = f"; of several seeds their mean, in *{OVER_SEEDS}*" if several_seeds(completed) else ""
    note = f"In bold: the best of each target, and what ties with it{seeds}. " if bold else ""
    parts = ["## Results", table_markdown(first), note + _EXACT]
    for table in further:
        parts += [f"### {escape_markdown(table.title)}", table_markdown(table)]
    notes = "\n".join(f"- {escape_markdown(note)}" for note in context.notes)
    return [*parts, *(["### How to read them", notes] if notes else [])]


def _across(context: ReportContext) -> list[str]:
    lines = [
        f"- {escape_markdown(figure.label)}: "
        f"{escape_markdown(f'{shown(figure, value)} {figure.unit}'.strip())}"
        for figure, value in context.across
        if value is not None
    ]
    return ["\n".join(lines)] if lines else []


def _what_was_run(rows: Sequence[Row], figures: Sequence[Figure], context: ReportContext) -> str:
    cells = [row for row in rows if not is_dense(row) and row.get("status") != "skipped"]
    completed = sum(is_completed(row) for row in cells)
    methods = dict.fromkeys(str(row.get("method")) for row in cells)
    targets = dict.fromkeys(target_text(row.get("target")) for row in cells)
    named = [escape_markdown(model.name) for model in context.models]
    sentences = [
        f"{_listed(named)} in {escape_markdown(context.dtype)}, pruned with "
        f"{_listed(map(escape_markdown, methods))} to {_listed(map(escape_markdown, targets))}: "
        f"{completed} of {len(cells)} cells completed.",
        "Targets are the fraction of zeros, or keep:group.",
    ]
    if calibration := context.calibration:
        sentences.append(
            f"Calibration: {escape_markdown(calibration.description)}, {calibration.windows} "
            f"windows of {calibration.window_tokens} tokens."
        )
    headline = [figure for figure in present(figures, rows) if figure.headline]
    told = [f"{escape_markdown(figure.label)} ({figure.better} is better)" for figure in headline]
    if told:
        sentences.append(f"Judged by {_listed(told)}.")
    return " ".join(sentences)


def shown_in(folder: Path) -> set[Path]:
    """The plots that a folder's report shows, as far as there is one."""
    path = folder / REPORT_NAME
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {folder / unquote(link) for link in re.findall(r"\]\((plots/[^/)]+\.png)\)", text)}


def _plots(links: Sequence[str]) -> list[str]:
    """The images, under a heading for each kind where there are several."""
    kinds: dict[str, list[str]] = {title: [] for title, _ in _KINDS.values()}
    for link in links:
        stem = link.rpartition("/")[2]
        title = next((title for part, (title, _) in _KINDS.items() if part in stem), _LAYERS)
        kinds[title].append(_image(link))
    notes = dict(_KINDS.values())
    kinds = {title: images for title, images in kinds.items() if images}
    if len(kinds) < 2:
        return [image for images in kinds.values() for image in images]
    return [
        part
        for title, images in kinds.items()
        for part in (f"### {title}", *([notes[title]] if notes[title] else []), *images)
    ]


def _image(link: str) -> str:
    stem = link.rpartition("/")[2].removesuffix(".png")
    return f"![{escape_markdown(stem.replace('-', ' '))}]({quote(link)})"


def _failed(rows: Sequence[Row]) -> list[str]:
    lines = [
        [
            escape_markdown(cell_label(row)),
            escape_markdown(one_line(str(row.get("error") or "no message"), _ERROR_WIDTH)),
        ]
        for row in rows
        if row.get("status") == "failed"
    ]
    return [pipe_table(("cell", "error"), lines, text_columns=2)] if lines else []


def _skipped(context: ReportContext) -> list[str]:
    lines = [[escape_markdown(part) for part in entry] for entry in context.skipped]
    header = ("model", "method", "target", "reason")
    return [pipe_table(header, lines, text_columns=4)] if lines else []


def _facts(context: ReportContext) -> str:
    lines = [f"- {_model_line(model)}" for model in context.models]
    if calibration := context.calibration:
        sampling = calibration.sampling + (
            f" (seed {calibration.seed} and the cell's own)"
            if {"random", "coreset"} & set(calibration.sampling.split(" | "))
            else ""
        )
        lines.append(
            f"- Calibration: {escape_markdown(calibration.description)}; {calibration.windows} "
            f"windows of {calibration.window_tokens} tokens, {sampling}; "
            f"SHA-256 `{calibration.digest}`"
        )
    if training := context.training:
        rest = f" beyond its first {training.skipped_tokens} tokens" * bool(training.skipped_tokens)
        lines.append(
            f"- Training: {escape_markdown(training.description)}{rest}; {training.windows} "
            f"windows of {training.window_tokens} tokens; SHA-256 `{training.digest}`"
        )
    lines += [
        f"- {escape_markdown(title[:1].upper() + title[1:])}: {escape_markdown(text)}"
        for title, text in context.measured.items()
    ]
    lines.append(f"- Weights in {escape_markdown(context.dtype)}")
    lines += [
        f"- {escape_markdown(name)}: {escape_markdown(value)}"
        for name, value in context.environment.items()
    ]
    return "\n".join(lines)


def _model_line(model: ModelFacts) -> str:
    revision = f", revision `{model.revision}`" if model.revision else ""
    return (
        f"Model {escape_markdown(model.name)}: {escape_markdown(model.source)}{revision}, "
        f"{model.parameters / 1e6:.1f} M parameters; SHA-256 `{model.digest}`"
    )


def _again(context: ReportContext) -> str:
    kept = (
        "Pruned models: the `checkpoint` column of [results.csv](results.csv) names each folder; "
        "`from_pretrained` loads it; where heads or channels were removed or side branches added, "
        "`tasks.models.saved.pruned.load_pruned` loads what was measured."
        if context.checkpoints_kept
        else "The pruned models were not kept (`save_checkpoints: false`)."
    )
    resolved = "In this folder, where [config.yaml](config.yaml) is the sweep as resolved:"
    return f"{resolved}\n\n```sh\n{context.reproduce}\n```\n\n{kept}"


def _listed(names: Iterable[str]) -> str:
    *front, last = list(names) or ["nothing"]
    return f"{', '.join(front)} and {last}" if front else last
