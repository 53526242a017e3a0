"""``report.html``: the report as one file that needs nothing else, for a phone, a mail, a printer.

Plots are inlined as images, which print and a browser without scripts show; elsewhere the page's
own script draws them so that a reader can point at a mark. A policy in the page forbids any request
and any other script, however its text came about. Text of the report cannot become markup: of HTML
in the Markdown only ``<br>``, which tables need, is let through.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tasks.reporting.charts.chart import Chart
from tasks.reporting.pages.live import scripts

REPORT_HTML = "report.html"
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
_STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: #fff; color: #1b1b1b;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .5em } h1 { margin-top: 0 }
h2 { border-bottom: 1px solid #d0d0d0; padding-bottom: .2em }
a { color: #0050a0 } code { font-size: .9em; overflow-wrap: anywhere }
pre { padding: .7em; background: #f4f4f4; overflow-x: auto }
.table { overflow-x: auto; margin: 1em 0 }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { padding: .25em .6em; border-bottom: 1px solid #e2e2e2; white-space: nowrap;
  vertical-align: top }
th { background: #f4f4f4; text-align: left; border-bottom: 2px solid #909090 }
td.long { white-space: normal; min-width: 18rem }
tr.group td { border-top: 2px solid #909090 }
p:has(> .plot) { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top;
  max-width: 100% }
.plot { display: block; width: var(--width); max-width: 100% }
.plot img { display: block; width: 100%; height: auto }
.live { display: none } .caption { display: block; font-size: .8rem; line-height: 1.3 }
@media (max-width: 40rem) { body { padding: .75rem } table { font-size: .75rem }
  th, td { padding: .25em .35em }
  p:has(> .plot) { display: block; margin-right: 0 } }
@media screen { .drawn img { display: none } .drawn .live { display: block } }
@media print { body { max-width: none; padding: 0; font-size: 9.5pt } a { color: inherit }
  .table { overflow: visible } table { font-size: 7.5pt } th, td { padding: .1em .4em }
  thead { display: table-header-group } tr, p:has(> .plot) { break-inside: avoid }
  .plot { width: calc(var(--width) * .873) } h2, h3 { break-after: avoid }
  pre { white-space: pre-wrap } }
@page { margin: 1.5cm }
"""
_COLUMN_PIXELS = 1003
"""Of a plot that is one column of a paper wide."""
_LONG = 60
"""Cells with more characters than this wrap."""


def render_html(
    markdown: str, folder: Path, title: str, charts: Mapping[str, Chart] | None = None
) -> str:
    """The page.

    Args:
        markdown: the report, as ``render_report`` makes it.
        folder: what its links to PNG files are relative to; one that cannot be read is named.
        title: of the page, as plain text.
        charts: a plot's name, without suffix → what it shows.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.add_render_rule("html_inline", _markup)
    parser.add_render_rule("html_block", _markup)
    parser.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("image", _image)
    tokens = parser.parse(markdown)
    _mark_cells(tokens)
    known = {"folder": folder, "charts": charts or {}}
    body = parser.renderer.render(tokens, parser.options, known)
    code, allowed = scripts(charts) if charts else ("", [])
    policy = _POLICY + (f"; script-src {' '.join(allowed)}" if allowed else "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}{code}</body>\n</html>\n"
    )


def _markup(_: Any, tokens: Sequence[Any], place: int, *__: Any) -> str:
    content = tokens[place].content
    return "<br>" if content == "<br>" else html.escape(content)


def _image(
    renderer: Any, tokens: Sequence[Any], place: int, options: Any, env: dict[str, Any]
) -> str:
    token = tokens[place]
    text = html.escape(renderer.renderInlineAsText(token.children, options, env))
    # Only what lies in the report's own folder; an address elsewhere is no file of it.
    folder = env["folder"].resolve()
    try:
        path = (folder / unquote(str(token.attrs.get("src", "")))).resolve()
        if not path.is_relative_to(folder) or path.suffix != ".png":
            raise FileNotFoundError(path)
        data = path.read_bytes()
    except (OSError, ValueError):
        return f"<em>{text} (plot not found)</em>"
    image = f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{text}">'
    chart = env["charts"].get(path.stem)
    if chart is None:
        return f'<span class="plot" style="--width: {_width(data):g}rem">{image}</span>'
    note = html.escape(f"{chart.title}\n{chart.note}").replace("\n", "<br>")
    return (
        f'<span class="plot" data-chart="{html.escape(path.stem)}" '
        f'style="--width: {_width(data):g}rem">{image}<span class="live">'
        f'<span class="caption">{note}</span><span class="canvas"></span></span></span>'
    )


def _width(png: bytes) -> float:
    """In rem: a narrow plot, one column of print, has 23, so that three fit abreast."""
    pixels = int.from_bytes(png[16:20])
    return round(23 * pixels / _COLUMN_PIXELS, 2)


def _mark_cells(tokens: Sequence[Any]) -> None:
    """Let long cells wrap, and draw a line where a first column's name changes to another."""
    for opened, inline in pairwise(tokens):
        if opened.type == "td_open" and len(inline.content) > _LONG:
            opened.attrSet("class", "long")
    former, grouped = None, False
    for row, opened, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if row.type == "tr_open" and opened.type == "th_open":
            former = None
            grouped = inline.content in ("model", "method")
        elif row.type == "tr_open" and opened.type == "td_open":
            if grouped and former is not None and inline.content != former:
                row.attrSet("class", "group")
            former = inline.content
