"""What the dashboard opens with: columns, order and charts, kept as saved views.

MLflow's page of runs shows none of a run's params by default, and draws every metric of the first
ten runs. A saved view says what to show instead. The dashboard keeps views as tags of the
experiment, ``mlflow.sharedViewState.ID``, lists them in its menu "Views", and opens one by the
address ``…/runs?viewStateShareKey=ID``. The format is the dashboard's own (MLflow 3.17), so nothing
but these two views depends on it: without them, the same runs are there under MLflow's defaults.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.figures import Figure, Row, present
from tasks.tracking.figures import drawn, finite, metrics_of
from tasks.tracking.names import clean_name, digest

KEY = "mlflow.sharedViewState."
PREFIX = "secateur-"
CELLS, CURVES = "cells", "curves"
TAG_LIMIT = 5000
"""Characters that MLflow takes for the tag of an experiment."""
_SECTION = "secateur"
_WIDE = 10
"""A linear axis crushes figures that lie further apart than this factor."""


def view_id(kind: str, name: str) -> str:
    """Id of a sweep's view; the same for every sweep of the same name, so that they never pile up.

    Args:
        kind: CELLS or CURVES.
        name: the sweep's name.
    """
    return f"{PREFIX}{kind}-{digest(name)[:12]}"


def saved_views(
    name: str, sweep: str, rows: Sequence[Row], figures: Sequence[Figure], made_at: int
) -> Mapping[str, str]:
    """Tags of the experiment that hold the two views of a sweep.

    Args:
        name: the sweep's name.
        sweep: its fingerprint; of several sweeps with the same name the views show the latest.
        figures: what the rows' columns mean.
        made_at: milliseconds since 1970.
    """
    shown = present(figures, rows)
    metrics = sorted({metric for row in rows for metric in metrics_of(row, figures)})
    states = {
        CELLS: (f"{name}: cells", _cells(sweep, metrics, shown, rows)),
        CURVES: (f"{name}: quality against sparsity", _curves(sweep, metrics, shown, rows)),
    }
    packed = {kind: _packed(title, state, made_at) for kind, (title, state) in states.items()}
    # Columns may be so many that a view is too long; better none than a broken one.
    return {
        KEY + view_id(kind, name): text for kind, text in packed.items() if len(text) <= TAG_LIMIT
    }


def view_path(experiment_id: str, kind: str, name: str) -> str:
    """Address of a view within the dashboard, which otherwise opens with its pages for agents.

    MLflow 3.17 and 3.18 take the kind of page from the address, else from what the browser did
    last; the experiment's tag ``mlflow.experimentKind``, tried, changes nothing.
    """
    mode = "&compareRunsMode=CHART" if kind == CURVES else ""
    key = f"viewStateShareKey={view_id(kind, name)}"
    return f"#/experiments/{experiment_id}/runs?{key}&workflowType=machine_learning{mode}"


def _cells(
    sweep: str, metrics: Sequence[str], figures: Sequence[Figure], rows: Sequence[Row]
) -> Mapping[str, Any]:
    headlines = [_name(figure) for figure in figures if figure.headline]
    quality = [_name(f) for f in figures if f.role in ("quality", "speed") and not f.headline]
    costs = [_name(figure) for figure in figures if figure.role == "cost"]
    names = [
        *map(_param, ("method", "target")),
        *map(_metric, dict.fromkeys((*headlines, *quality, *costs, "sparsity"))),
        *([_param("selection")] if any(row.get("selection") for row in rows) else []),
        *map(_param, ("seed", "model", "status")),
    ]
    charts = [_scatter(headline, cost) for headline in headlines for cost in costs]
    charts += [_chart("BAR", headline, metricKey=headline) for headline in headlines]
    return {
        "searchFilter": _filter(sweep, "!= 'curve'") + " and tags.`secateur.kind` != 'sweep'",
        # Not by time: then MLflow would fold the cells into their parent.
        "orderByKey": _metric(headlines[0]) if headlines else _param("method"),
        "selectedColumns": names,
        "columnOrder": names,  # else all metrics would come before all params
        **_charts("Quality against costs", metrics, charts),
    }


def _curves(
    sweep: str, metrics: Sequence[str], figures: Sequence[Figure], rows: Sequence[Row]
) -> Mapping[str, Any]:
    charts = [_line(_name(figure), _scale(figure, rows)) for figure in drawn(figures)]
    return {
        "searchFilter": _filter(sweep, "= 'curve'"),
        "orderByKey": _param("method"),
        "selectedColumns": [*map(_param, ("method", "targets", "seed", "model"))],
        **_charts("Quality against sparsity", metrics, charts),
    }


def _scale(figure: Figure, rows: Sequence[Row]) -> str:
    """``log`` or ``linear``: the figure's own axis, or as the spread of its values demands."""
    if figure.axis != "auto":
        return figure.axis
    told = [figure.dense, *(figure.value(row) for row in rows)]
    values = [found for value in told for found in finite({"": value}).values()]
    wide = bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)
    return "log" if wide else "linear"


def _name(figure: Figure) -> str:
    return clean_name(figure.column)


def _filter(sweep: str, kind: str) -> str:
    return f"tags.`secateur.sweep` = '{sweep}' and tags.`secateur.kind` {kind}"


def _packed(title: str, state: Mapping[str, Any], made_at: int) -> str:
    common = {"startTime": "ALL", "orderByAsc": True, "runsHiddenMode": "SHOW_ALL"}
    text = json.dumps(common | dict(state), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    view = {"name": title, "createdAt": made_at, "updatedAt": made_at, "state": f"deflate;{packed}"}
    return json.dumps(view)


def _charts(
    title: str, metrics: Sequence[str], charts: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Exactly these charts, one below the other; MLflow would add one for each other metric."""
    section = {"uuid": _SECTION, "name": title, "display": True, "isReordered": True,
               "deleted": False, "isGenerated": False, "columns": 1, "cardHeight": 480}  # fmt: skip
    drawn = {chart.get("metricKey") for chart in charts}
    unwanted = [
        _chart("BAR", metric, metricKey=metric, deleted=True, isGenerated=True)
        for metric in metrics
        if metric not in drawn
    ]
    return {
        "compareRunSections": [section],
        "compareRunCharts": [*charts, *unwanted],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _chart(kind: str, name: str, **fields: Any) -> Mapping[str, Any]:
    return {
        "type": kind,
        "uuid": digest(kind, name)[:8],
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
        **fields,
    }


def _line(metric: str, scale: str) -> Mapping[str, Any]:
    """A curve of each method."""
    axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": "sparsity", "useGlobalXaxisKey": False}
    # By default MLflow smooths, which draws lines past the figures.
    exact = {"lineSmoothness": 0, "useGlobalLineSmoothing": False, "displayPoints": True}
    metrics = {"metricKey": metric, "selectedMetricKeys": [metric]}
    return _chart("LINE", metric, scaleType=scale, **metrics, **axis, **exact)


def _scatter(metric: str, cost: str) -> Mapping[str, Any]:
    axes = {"xaxis": {"key": cost, "type": "METRIC"}, "yaxis": {"key": metric, "type": "METRIC"}}
    return _chart("SCATTER", f"{metric} {cost}", **axes)


def _param(name: str) -> str:
    return f"params.`{name}`"


def _metric(name: str) -> str:
    return f"metrics.`{name}`"
