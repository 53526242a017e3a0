"""``report.md`` and ``report.html``: what was run, what came out, what failed, what took time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from tasks.reporting.html_page import REPORT_HTML, render_html
from tasks.reporting.markdown_measures import measures_markdown
from tasks.reporting.markdown_results import results_markdown

from tasks.reporting.context import ModelFacts, ReportContext
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import escape_markdown, markdown_table, one_line
from tasks.reporting.views import cell_label
from tasks.store.files import write_atomically

REPORT_NAME = "report.md"
_ERROR_WIDTH = 600
_LAYERS = "Layer by layer"
_TRADE = (
    "What a quality costs",
    "In colour and joined: what no other cell beats in both. In grey: what another beats. Time is "
    "compared between cells of the same target, size, memory and speed between all and with the "
    "dense model.",
)
_KINDS = {
    "-vs-sparsity": ("Against sparsity", ""),
    "-vs-quality": _TRADE,
    "-vs-accuracy": _TRADE,
    "-by-": (_LAYERS, ""),
}
"""Part of a plot's name → heading and note."""


def write_report(
    rows: Sequence[Row], context: ReportContext, folder: Path, plots: Iterable[Path] = ()
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
    text = render_report(rows, context, links)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))
    page = render_html(text, folder, f"Sweep {context.name}")
    write_atomically(folder / REPORT_HTML, page.encode("utf-8", "backslashreplace"))
    return path


def render_report(rows: Sequence[Row], context: ReportContext, plots: Sequence[str] = ()) -> str:
    """The report as Markdown that GitHub renders.

    Args:
        plots: links to embed, relative to the report.
    """
    parts = [
        f"# Sweep {escape_markdown(context.name)}",
        _what_was_run(rows, context),
        "## Results",
        results_markdown(rows),
        *measures_markdown(rows),
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
    evaluated = [
        f"{escape_markdown(corpus.name)} ({corpus.windows} windows of {corpus.window_tokens} "
        f"tokens)"
        for corpus in context.evaluations
    ]
    sentences.append(f"Perplexity on {_listed(evaluated)}; lower is better.")
    if len(context.models) > 1:
        sentences.append(
            "Each model counts tokens of its own tokenizer: compare perplexities within a model."
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
    for corpus in context.evaluations:
        start = "each window starts with BOS" if corpus.bos else "no BOS"
        lines.append(
            f"- Evaluation {escape_markdown(corpus.name)}: {escape_markdown(corpus.description)}; "
            f"{corpus.windows} windows of {corpus.window_tokens} tokens, "
            f"{corpus.predicted_tokens} predicted tokens, {start}; SHA-256 `{corpus.digest}`"
        )
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
        "`from_pretrained` loads it."
        if context.checkpoints_kept
        else "The pruned models were not kept (`save_checkpoints: false`)."
    )
    resolved = "In this folder, where [config.yaml](config.yaml) is the sweep as resolved:"
    return f"{resolved}\n\n```sh\n{context.reproduce}\n```\n\n{kept}"


def _listed(names: Iterable[str]) -> str:
    *front, last = list(names) or ["nothing"]
    return f"{', '.join(front)} and {last}" if front else last
