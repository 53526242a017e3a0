"""``report.md`` and ``report.html``: what was run, what came out, what failed, what took time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from tasks.measures.figures import Figure
from tasks.reporting.context import ModelFacts, ReportContext
from tasks.reporting.ordering import target_text
from tasks.reporting.pages.html import REPORT_HTML, render_html
from tasks.reporting.plots.write import LAYER_PLOT, PARETO_PLOT, SPARSITY_PLOT
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.tables.markdown import results_markdown
from tasks.reporting.text import escape_markdown, markdown_table, one_line, shown
from tasks.reporting.views import cell_label
from tasks.store.files import write_atomically

REPORT_NAME = "report.md"
_ERROR_WIDTH = 600
_LAYERS = "Layer by layer"
_KINDS = {
    SPARSITY_PLOT: ("Against sparsity", ""),
    PARETO_PLOT: (
        "What it costs",
        "A panel a target. Joined, in full colour: what no other cell of the target beats in both. "
        "Paler: what another beats.",
    ),
    LAYER_PLOT: (_LAYERS, ""),
}
"""Part of a plot's name → heading and note."""


def write_report(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    context: ReportContext,
    folder: Path,
    plots: Iterable[Path] = (),
) -> Path:
    """Write ``report.md`` and ``report.html`` to ``folder``, each whole or not at all.

    Args:
        rows: in the order they shall stand in.
        plots: PNG files to embed, linked relative to ``folder``; they exist already.

    Returns:
        The path of ``report.md``.
    """
    path = folder / REPORT_NAME
    links = [Path(os.path.relpath(plot, folder)).as_posix() for plot in plots]
    text = render_report(rows, figures, context, links)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))
    page = render_html(text, folder, f"Sweep {context.name}")
    write_atomically(folder / REPORT_HTML, page.encode("utf-8", "backslashreplace"))
    return path


def render_report(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    context: ReportContext,
    plots: Sequence[str] = (),
) -> str:
    """The report as Markdown that GitHub renders.

    Args:
        plots: links to embed, relative to the report.
    """
    parts = [
        f"# Sweep {escape_markdown(context.name)}",
        _what_was_run(rows, context),
        "## Results",
        *results_markdown(rows, figures),
        *_section("Across cells", _across(context)),
        *_section("How to read the figures", _notes(context)),
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


def _what_was_run(rows: Sequence[Row], context: ReportContext) -> str:
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
    if len(context.models) > 1:
        sentences.append(
            "Each model counts tokens of its own tokenizer: compare figures per token within a "
            "model."
        )
    return " ".join(sentences)


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
    return [markdown_table(("cell", "error"), lines, text_columns=2)] if lines else []


def _skipped(context: ReportContext) -> list[str]:
    lines = [[escape_markdown(part) for part in entry] for entry in context.skipped]
    header = ("model", "method", "target", "reason")
    return [markdown_table(header, lines, text_columns=4)] if lines else []


def _facts(context: ReportContext) -> str:
    lines = [f"- {_model_line(model)}" for model in context.models]
    if calibration := context.calibration:
        sampling = calibration.sampling + (
            f" with seed {calibration.seed}" if calibration.sampling == "random" else ""
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
        f"- {escape_markdown(title)}: {escape_markdown(text)}"
        for title, text in context.measured.items()
    ]
    lines.append(f"- Weights in {escape_markdown(context.dtype)}")
    lines += [
        f"- {escape_markdown(name)}: {escape_markdown(value)}"
        for name, value in context.environment.items()
    ]
    return "\n".join(lines)


def _across(context: ReportContext) -> list[str]:
    lines = [
        [escape_markdown(figure.label), shown(figure, {figure.column: value})]
        for figure, value in context.across
    ]
    return [markdown_table(("figure", "value"), lines)] if lines else []


def _notes(context: ReportContext) -> list[str]:
    return ["\n".join(f"- {escape_markdown(note)}" for note in context.notes)] * bool(context.notes)


def _model_line(model: ModelFacts) -> str:
    revision = f", revision `{model.revision}`" if model.revision else ""
    return (
        f"Model {escape_markdown(model.name)}: {escape_markdown(model.source)}{revision}, "
        f"{model.parameters / 1e6:.1f} M parameters; SHA-256 `{model.digest}`"
    )


def _again(context: ReportContext) -> str:
    kept = (
        "Pruned models: the `checkpoint` column of [results.csv](results.csv) names each folder; "
        "`from_pretrained` loads it."
        if context.checkpoints_kept
        else "The pruned models were not kept (`save_checkpoints: false`)."
    )
    resolved = "In this folder, where [config.yaml](config.yaml) is the sweep as resolved:"
    return f"{resolved}\n\n```sh\n{context.reproduce}\n```\n\n{kept}"


def _listed(names: Iterable[str]) -> str:
    *front, last = list(names) or ["nothing"]
    return f"{', '.join(front)} and {last}" if front else last
