"""Charts that a reader can point at: what plotly draws in the page, and the page's scripts.

plotly's own module is never imported: the figures are plain data, and its script is a file.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tasks.reporting.charts.axis import Axis
from tasks.reporting.charts.chart import Chart, Mark
from tasks.reporting.charts.style import (
    DENSE_COLOUR,
    DENSE_DASHES,
    FAINT,
    SYMBOLS,
    MethodStyle,
    method_styles,
)
from tasks.reporting.pages.script import DRAW
from tasks.reporting.rows import DENSE


def scripts(charts: Mapping[str, Chart]) -> tuple[str, list[str]]:
    """The page's script elements, and what its policy must allow: the hash of each."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("plotly, which secateur needs for report.html")
    library = Path(found.origin).parent / "package_data" / "plotly.min.js"
    code = [library.read_text(encoding="utf-8"), DRAW]
    # Data is never run; "<" would end its element early.
    figures = {stem: chart_data(chart) for stem, chart in charts.items()}
    data = json.dumps(figures, allow_nan=False, ensure_ascii=True).replace("<", "\\u003c")
    parts = [f'<script type="application/json" id="charts">{data}</script>']
    parts += [f"<script>{text}</script>" for text in code]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    return "\n".join(parts), [f"'sha256-{digest}'" for digest in hashes]


def chart_data(chart: Chart) -> dict[str, Any]:
    """Traces and panels as plotly takes them; places in the page are for the script to find."""
    styles = method_styles(chart.methods)
    panels = [
        {
            "title": html.escape(panel.title),
            "weight": panel.weight,
            "x": _axis(panel.x),
            "y": _axis(panel.y),
        }
        for panel in chart.panels
    ]
    traces = _lines(chart, styles)
    for method in [*chart.methods, DENSE]:
        traces += _marks(chart, method, styles)
    names = [trace["name"] for trace in traces if trace["showlegend"]]
    return {
        "panels": panels,
        "traces": traces,
        "columns": chart.columns,
        "share_y": chart.share_y,
        "entries": [len(name) for name in names],
    }


def _axis(axis: Axis) -> dict[str, Any]:
    ends = [math.log10(end) if axis.log else end for end in (axis.low, axis.high)]
    return {
        "type": "log" if axis.log else "linear",
        "range": ends,
        "tickvals": [place for place, _ in axis.ticks],
        "ticktext": [html.escape(text).replace("\n", "<br>") for _, text in axis.ticks],
        "title": {"text": html.escape(axis.label), "standoff": 6},
    }


def _lines(chart: Chart, styles: Mapping[str, MethodStyle]) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    for place, panel in enumerate(chart.panels):
        across = (panel.x.low, panel.x.high)
        drawn: list[tuple[Sequence[tuple[float, float]], dict[str, Any], str]] = []
        if panel.y.strip is not None:
            strip = [(x, panel.y.strip) for x in across]
            drawn.append((strip, {"color": FAINT, "dash": "dot", "width": 1}, ""))
        if chart.dense is not None:
            look = {"color": DENSE_COLOUR, "dash": _dash(DENSE_DASHES), "width": 1.4}
            drawn.append(([(x, chart.dense) for x in across], look, chart.dense_text))
        for line in panel.lines:
            look = {"color": DENSE_COLOUR, "width": 1}
            if line.method:
                style = styles[line.method]
                dash = "dot" if line.dotted else _dash(style.dashes)
                look = {"color": style.colour, "dash": dash, "width": 1.8}
            drawn.append((line.points, look, "" if line.method else chart.front))
        for points, look, name in drawn:
            named = bool(name) and not any(trace["name"] == name for trace in traces)
            traces.append(
                _trace(place, points, name, showlegend=named)
                | {"mode": "lines", "line": look, "hoverinfo": "skip"}
            )
    return traces


def _marks(chart: Chart, method: str, styles: Mapping[str, MethodStyle]) -> list[dict[str, Any]]:
    """A trace a panel. The legend shows the first mark of one with a mark that nothing beats."""
    found: list[dict[str, Any]] = []
    for place, panel in enumerate(chart.panels):
        marks = [mark for mark in panel.marks if mark.method == method]
        marks.sort(key=lambda mark: mark.pale)
        shown = [(mark, mark.y, mark.bar) for mark in marks if mark.y is not None]
        shown += [(mark, panel.y.edge, 0.0) for mark in marks if mark.diverged]
        if not shown:
            continue
        name = ": ".join([method, *filter(None, [", ".join(chart.asides.get(method, ()))])])
        bars = {"thickness": 1.2, "width": 3, "array": [bar for _, _, bar in shown]}
        trace = _trace(place, [(mark.x, y) for mark, y, _ in shown], name, showlegend=False)
        looks = [_look(mark, styles) for mark, _, _ in shown]
        trace |= {
            "mode": "markers",
            "marker": {
                "symbol": SYMBOLS["*" if method == DENSE else styles[method].marker],
                "size": 13 if method == DENSE else 11,
                "color": [fill for fill, _ in looks],
                "line": {"color": [edge for _, edge in looks], "width": 1},
            },
            "text": [mark.text for mark, _, _ in shown],
            "hovertemplate": "%{text}<extra></extra>",
            "cliponaxis": False,
        }
        if any(bar for _, _, bar in shown):
            trace["error_y"] = bars | {"color": looks[0][1] if marks[0].pale else looks[0][0]}
        found.append(trace | {"best": not marks[0].pale})
    first = next((trace for trace in found if trace["best"]), found[0] if found else None)
    for trace in found:
        del trace["best"]
        trace["showlegend"] = trace is first and not (method == DENSE and chart.dense is not None)
    return found


def _look(mark: Mark, styles: Mapping[str, MethodStyle]) -> tuple[str, str]:
    """Fill and edge."""
    if mark.method == DENSE:
        return DENSE_COLOUR, "#FFFFFF"
    style = styles[mark.method]
    return (style.pale, style.colour) if mark.pale else (style.colour, "#FFFFFF")


def _trace(
    place: int, points: Sequence[tuple[float, float]], name: str, *, showlegend: bool
) -> dict[str, Any]:
    number = str(place + 1) if place else ""
    return {
        "type": "scatter",
        "xaxis": f"x{number}",
        "yaxis": f"y{number}",
        "x": [x for x, _ in points],
        "y": [y if math.isfinite(y) else None for _, y in points],
        "name": html.escape(name),
        "legendgroup": html.escape(name.partition(":")[0]),
        "showlegend": showlegend,
    }


def _dash(dashes: Sequence[float]) -> str:
    return ",".join(f"{2 * length:g}px" for length in dashes) if dashes else "solid"
