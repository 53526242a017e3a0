"""Plots exist where there is something to show, and are the same bytes for the same rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tasks.reporting.costs import costs
from tasks.reporting.plot_layers import draw_layers
from tasks.reporting.plot_pareto import draw_pareto
from tasks.reporting.plot_sparsity import draw_sparsity
from tasks.reporting.plots import plot_sparsity_by_layer, write_plots
from tasks.reporting.quality import perplexity
from tasks.reporting.rows import Row
from tasks.reporting.style import DENSE_COLOUR, log_ticks, method_styles, plain_number, plain_style

from .conftest import cell_row, dense_row, failed_row

LAYERS = {
    "wanda 0.5": {
        f"model.layers.{block}.{kind}_proj": 0.5 for block in range(3) for kind in ("q", "up")
    }
}


def _sparsity(rows: list[Row]) -> Figure:
    figure = draw_sparsity(rows, "tiny", perplexity(rows, "tiny", "docs"))
    assert figure is not None
    return figure


def _time(rows: list[Row]) -> Figure:
    cost = costs(rows, "tiny")[0]
    figure = draw_pareto(rows, "tiny", perplexity(rows, "tiny", "docs"), cost)
    assert figure is not None
    return figure


def _places(data: Any) -> list[float]:
    return list(data)


def _labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_every_plot_is_a_png(rows: list[Row], tmp_path: Path) -> None:
    written = write_plots(rows, tmp_path, {"org/tiny": LAYERS})
    assert [path.name for path in written] == [
        "perplexity-vs-sparsity.png",
        "time-vs-quality.png",
        "sparsity-by-layer-org-tiny.png",
    ]
    for path in written:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
        assert b"Software" not in content and b"matplotlib" not in content
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(
        path.name for path in written
    )


def test_equal_rows_make_equal_bytes_whatever_the_user_has_set(
    rows: list[Row], tmp_path: Path
) -> None:
    first = write_plots(rows, tmp_path / "a", {"tiny": LAYERS})
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        second = write_plots(rows, tmp_path / "b", {"tiny": LAYERS})
        assert mpl.rcParams["font.size"] == 20
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("rows", [[], [dense_row()], [dense_row(), failed_row("no memory")]])
def test_without_a_completed_cell_nothing_is_written(rows: list[Row], tmp_path: Path) -> None:
    assert write_plots(rows, tmp_path, {"tiny": {}, "other": {"wanda 0.5": {}}}) == []
    assert not (tmp_path / "plots").exists()


def test_untimed_cells_have_no_time_plot(tmp_path: Path) -> None:
    written = write_plots([cell_row("wanda", "0.5", 60.0, prune_seconds=None)], tmp_path)
    assert [path.name for path in written] == ["perplexity-vs-sparsity.png"]


def test_names_tell_models_and_corpora_apart(tmp_path: Path) -> None:
    more = {"perplexity/c4": 70.0, "prune_seconds": None}
    rows = [cell_row("wanda", "0.5", 60.0, model=model, **more) for model in ("a/b", "a-b")]
    assert [path.name for path in write_plots(rows, tmp_path)] == [
        "perplexity-vs-sparsity-a-b-docs.png",
        "perplexity-vs-sparsity-a-b-c4.png",
        "perplexity-vs-sparsity-a-b-docs-2.png",
        "perplexity-vs-sparsity-a-b-c4-2.png",
    ]


def test_diverged_cells_stand_at_the_top(rows: list[Row]) -> None:
    rows[2]["perplexity/docs"] = math.inf
    with plain_style():
        for draw in (_sparsity, _time):
            figure = draw(rows)
            axes = figure.axes[0]
            assert _labels(axes.yaxis)[-1] == "diverged"
            edge = axes.get_yticks()[-1]
            assert edge > 1481
            markers = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
            assert any(_places(line.get_ydata()) == [edge] for line in markers)


@pytest.mark.parametrize("value", [math.inf, 1.0, 1e30])
def test_extreme_perplexities_are_drawn(value: float, tmp_path: Path) -> None:
    rows = [cell_row("wanda", target, value) for target in ("0.5", "2:4")]
    for row in rows:
        row["dense_perplexity/docs"] = None
    assert len(write_plots(rows, tmp_path)) == 2


def test_groups_stand_beside_the_line_with_their_label(rows: list[Row]) -> None:
    with plain_style():
        figure = _sparsity(rows)
        fractions, groups = figure.axes
        assert _labels(groups.xaxis) == ["2:4\n50 %"]
        joined = [line for line in fractions.lines if len(_places(line.get_xdata())) == 2]
        # One line a method, and the dense model's.
        assert len(joined) == 3 + 1
        assert all(
            len(_places(line.get_xdata())) == 1 or line.get_color() == DENSE_COLOUR
            for line in groups.lines
        )


def test_the_time_axis_is_logarithmic_when_times_differ_much(rows: list[Row]) -> None:
    with plain_style():
        wide = _time(rows)
        near = _time([row for row in rows if row["method"] != "magnitude"])
        assert wide.axes[0].get_xscale() == "log"
        assert near.axes[0].get_xscale() == "linear"


def test_layers_are_mapped_by_block_and_kind(tmp_path: Path) -> None:
    cells = {
        "a": {
            "h.0.attn.q": 0.4,
            "h.0.mlp.experts.0.up": 0.2,
            "h.0.mlp.experts.1.up": 0.4,
            "h.1.attn.q": 0.6,
        }
    }
    with plain_style():
        figure = draw_layers("m", cells)
        assert figure is not None
        axes = figure.axes[0]
        shown: Any = axes.images[0].get_array()
        assert _labels(axes.yaxis) == ["q", "up"]
        assert shown.filled(-1).tolist() == [[40, 60], [pytest.approx(30), -1]]
        assert "20.0 to 60.0" in axes.get_title(loc="left")
    assert plot_sparsity_by_layer({"m": {"b": {"lm_head": 0.5}}}, tmp_path)


def test_equal_last_names_are_told_apart() -> None:
    with plain_style():
        figure = draw_layers("m", {"a": {"enc.0.q": 0.5, "dec.0.q": 0.5}})
        assert figure is not None
        assert _labels(figure.axes[0].yaxis) == ["enc.q", "dec.q"]


def test_methods_keep_their_colour() -> None:
    everyone = method_styles(["wanda", "mine", "yours"])
    assert method_styles(["mine"])["wanda"] == everyone["wanda"]
    assert len({style.colour for style in everyone.values()}) == len(everyone)


@settings(deadline=None)
@given(st.floats(1e-3, 1e12), st.floats(1.1, 1e9))
def test_log_ticks_are_few_and_inside(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= low * factor for tick in ticks)


def test_ticks_are_plain_numbers() -> None:
    assert [plain_number(tick) for tick in log_ticks(25, 2000)] == (
        ["30", "50", "100", "200", "300", "500", "1,000", "2,000"]
    )
    assert plain_number(0.5) == "0.5"
    assert plain_number(1e7) == "$10^{7}$"
    assert plain_number(3e7) == "$3×10^{7}$"
