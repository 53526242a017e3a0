"""``report.md`` and ``report.html``: what was run, what came out, what failed, what took time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tasks.measures.figures import Figure
from tasks.reporting.charts import charts_of
from tasks.reporting.context import ReportContext
from tasks.reporting.pages.html import REPORT_HTML, render_html
from tasks.reporting.pages.report import REPORT_NAME, render_report, shown_in
from tasks.reporting.rows import Row
from tasks.store.files import write_atomically

__all__ = ["shown_in", "write_report"]


def write_report(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    context: ReportContext,
    folder: Path,
    plots: Sequence[Path] = (),
) -> Path:
    """Write ``report.html`` and then ``report.md`` to ``folder``, each whole or not at all.

    Args:
        rows: in the order they shall stand in.
        plots: PNG files to embed, linked relative to ``folder``; they exist already. Where one
            shows a chart of the rows, the page draws it so that a reader can point at a mark.

    Returns:
        The path of ``report.md``.
    """
    there = {plot.stem for plot in plots}
    charts = {c.stem: c for c in charts_of(rows, figures) if c.stem in there} if there else {}
    links = [Path(os.path.relpath(plot, folder)).as_posix() for plot in plots]
    text = render_report(rows, figures, context, links)
    page = render_html(text, folder, f"Sweep {context.name}", charts)
    write_atomically(folder / REPORT_HTML, page.encode("utf-8", "backslashreplace"))
    write_atomically(folder / REPORT_NAME, text.encode("utf-8", "backslashreplace"))
    return folder / REPORT_NAME
