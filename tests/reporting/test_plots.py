"""Plots exist where there is something to show, can be read, and are equal for equal rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from tasks.measures.registry import figures_of
from tasks.reporting.charts import charts_of
from tasks.reporting.charts.style import method_styles
from tasks.reporting.plots import paper, write_plots
from tasks.reporting.plots.blocks import draw_blocks
from tasks.reporting.plots.chart import draw_chart
from tasks.reporting.plots.curves import draw_curve
from tasks.reporting.plots.layers import draw_layers
from tasks.reporting.rows import Row

from .conftest import cell_row, dense_row, figure_of, figures_in
from .realistic import large_sweep, layers_of

LAYERS = {
    "wanda 0.5": {
        f"model.layers.{block}.{kind}_proj": 0.5 for block in range(3) for kind in ("q", "up")
    }
}
SMALL = [
    row
    for row in large_sweep(methods=("wanda", "magnitude"), tasks=("arc_easy",))
    if row["target"] in ("", "0.5")
]


def _write(rows: list[Row], folder: Path, layers: Any = None) -> list[Path]:
    return write_plots(rows, figures_in(rows), layers or {}, folder)


def _drawn(rows: list[Row], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure of a report by its file's name; not saved, which takes most of the time."""
    figures: dict[str, Figure] = {}

    def noted(figure: Figure, path: Path) -> Path:
        figures[path.name] = figure
        return path

    monkeypatch.setattr(paper, "save", noted)
    names = dict.fromkeys(str(row["model"]) for row in rows)
    found = {model: layers_of(rows, model) for model in names}
    columns = ("sparsity", "reconstruction_error")
    layers = {c: {m: both[k] for m, both in found.items()} for k, c in enumerate(columns)}
    assert [path.name for path in _write(rows, folder, layers)] == list(figures)
    return figures


@pytest.mark.parametrize("seed", [None, 7])
def test_layers_and_curves_say_which_of_several_seeds_they_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int | None
) -> None:
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(paper, "save", lambda f, path: figures.setdefault(path.stem, f) and path)
    rows = [dense_row(), cell_row("wanda", "0.5", 60.0, **{"slot_f1/covid": 0.5})]
    layers = {column: {"tiny": LAYERS} for column in ("sparsity", "reconstruction_error")}
    rows[1] |= {"reconstruction_error": 0.5}
    curves = {"slot_f1/covid": {"tiny": {"wanda 0.5": [(0.5, 0.2), (1.0, 0.1)]}}}
    write_plots(rows, figures_in(rows), layers, tmp_path, curves, seed=seed)
    drawn = {stem: f for stem, f in figures.items() if "-by-" in stem}
    assert len(drawn) == 3
    for figure in drawn.values():
        told = figure.get_suptitle() + figure.axes[0].get_title(loc="left")
        assert ("tiny, seed 7" in told) == (seed == 7), told


def _labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["large", "two models"])
def test_everything_is_inside_and_readable(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "large": lambda: large_sweep(seeds=(0, 1)),
        "two models": lambda: large_sweep(("llama", "org/neox"), ("wanda", "ast"), tasks=()),
    }[case]()
    rows = [row for row in rows if row["target"] in ("", "0.3", "0.5", "0.7", "2:4", "4:8")]
    rows[1] |= {"learned": "weights", "training_tokens": 123_456_789, "departs": "its own way"}
    figures = _drawn(rows, tmp_path, monkeypatch)
    assert len(figures) > 8
    for name, figure in figures.items():
        with paper.plain_style():
            figure.draw_without_rendering()
        told = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        ticks = {label for one in figure.axes for axis in (one.xaxis, one.yaxis)
                 for label in axis.get_ticklabels()}  # fmt: skip
        for text in told:
            assert float(text.get_fontsize()) >= 8, (name, text)
            box = text.get_window_extent()
            if text not in ticks:
                assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 1, (name, text)
                assert box.y0 >= -1 and box.y1 <= figure.bbox.height + 1, (name, text)
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width, name
            axes = [one for one in figure.axes if one.get_visible()]
            assert box.y0 >= 0 and box.y1 <= min(one.bbox.y0 for one in axes), name
            assert all(one.bbox.height > 40 for one in axes), name


def test_each_figure_has_its_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(_drawn(SMALL, tmp_path, monkeypatch)) == [
        "perplexity-vs-sparsity.png",
        "kl-vs-sparsity.png",
        "top-1-vs-sparsity.png",
        "layer-error-vs-sparsity.png",
        "zero-shot-vs-sparsity.png",
        "prefill-vs-sparsity.png",
        "decode-vs-sparsity.png",
        "perplexity-vs-prune.png",
        "perplexity-vs-memory.png",
        "zero-shot-vs-prune.png",
        "zero-shot-vs-memory.png",
        "sparsity-by-layer-smollm2-135m.png",
        "reconstruction_error-by-block-smollm2-135m-0.5.png",
    ]


def test_files_are_png_and_equal_whatever_the_user_has_set(tmp_path: Path) -> None:
    rows = [dense_row(), *(cell_row(name, "0.5", 60.0) for name in ("wanda", "swiftprune"))]
    layers = {"sparsity": {"org/tiny": LAYERS, "none": {}}, "unknown": {"tiny": LAYERS}}
    first = _write(rows, tmp_path / "a", layers)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        second = _write(rows, tmp_path / "b", layers)
        assert mpl.rcParams["font.size"] == 20
    assert [path.name for path in first] == [
        "perplexity-vs-sparsity.png", "perplexity-vs-prune.png", "sparsity-by-layer-org-tiny.png",
    ]  # fmt: skip
    assert sorted(first) == sorted((tmp_path / "a" / "plots").iterdir())
    for one, other in zip(first, second, strict=True):
        content = one.read_bytes()
        assert content == other.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
        assert b"Software" not in content and b"matplotlib" not in content


def test_without_a_completed_cell_nothing_is_written(tmp_path: Path) -> None:
    assert _write([dense_row()], tmp_path, {"sparsity": {"tiny": {"wanda 0.5": {}}}}) == []
    assert not (tmp_path / "plots").exists()


def test_the_legend_shows_the_colours_and_marks_that_are_drawn() -> None:
    rows = [dense_row()]
    for target, scores in (("0.3", (60.0, 40.0, 50.0)), ("0.5", (99.0, 98.0, 95.0))):
        for method, score in zip(("magnitude", "swiftprune", "wanda"), scores, strict=True):
            rows.append(cell_row(method, target, score))
    chart = next(c for c in charts_of(rows, figures_in(rows)) if c.stem == "perplexity-vs-prune")
    with paper.plain_style():
        figure = draw_chart(chart)
        figure.draw_without_rendering()
    drawn = {
        (str(line.get_color()), str(line.get_marker()))
        for axes in figure.axes
        for line in axes.lines
        if line.get_linestyle() == "None"
    }
    handles: Any = figure.legends[0].findobj(Line2D)
    shown = {(str(line.get_color()), str(line.get_marker())) for line in handles}
    assert shown - {("#000000", "None")} == drawn
    styles = method_styles([])
    wanda = {styles["wanda"].colour, styles["wanda"].pale}
    assert {colour for colour, marker in drawn if marker == "s"} == wanda  # beaten at 0.3 alone
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "magnitude", "swiftprune", "wanda", "Pareto front", "dense (28.10)",
    ]  # fmt: skip


def test_layers_are_mapped_by_block_and_kind() -> None:
    layers = {"h.0.attn.q": 0.4, "h.0.mlp.experts.0.up": 0.2, "h.0.mlp.experts.1.up": 0.4}
    sparsity = figure_of([], "sparsity")
    with paper.plain_style():
        figure = draw_layers("m", sparsity, {"a": layers | {"h.1.attn.q": 0.6}})
        told = draw_layers("m", sparsity, {"a": {"enc.0.q": 0.5, "dec.0.q": 0.5}})
        alone = draw_layers("m", sparsity, {"b": {"lm_head": 0.5}})
    assert figure is not None and told is not None and alone is not None
    axes = figure.axes[0]
    shown: Any = axes.images[0].get_array()
    assert _labels(axes.yaxis) == ["q", "up"]
    assert shown.filled(-1).tolist() == [[40, 60], [pytest.approx(30), -1]]
    assert "20.0 to 60.0" in axes.get_title(loc="left")
    assert _labels(told.axes[0].yaxis) == ["enc.q", "dec.q"]


def test_even_cells_are_counted_rather_than_drawn() -> None:
    even = {f"wanda 0.{k}": {"h.0.q": k / 10, "h.1.q": k / 10} for k in range(1, 8)}
    uneven = {"mine 0.5": {"h.0.q": 0.4, "h.1.q": 0.6}}
    sparsity = figure_of([], "sparsity")
    cases = (even | uneven, even, {"wanda 0.5": even["wanda 0.5"]} | uneven)
    with paper.plain_style():
        drawn = [draw_layers("m", sparsity, cells) for cells in cases]
    figures = [figure for figure in drawn if figure is not None]
    assert figures[0].axes[0].get_title(loc="left").startswith("mine 0.5")
    assert "7 more with the same in every layer" in figures[0].get_supxlabel()
    # Panels and the colour bar.
    assert [len(figure.axes) for figure in figures] == [1 + 1, 3 + 1, 2 + 1]


def test_blocks_show_means_under_their_zeros_on_linear_axes() -> None:
    zeros = {"wanda 0.5": {"h.0.q": 0.01, "h.0.up": 0.03, "h.1.q": 0.5}}
    errors = {
        "wanda 0.5": {"h.0.q": 0.2, "h.0.up": 0.4, "h.1.q": 0.1},
        "wanda 0.7": {"h.0.q": 0.9},
    }
    rows: list[Row] = [{"reconstruction_error": 0.1}]
    shown = [(figure_of([], "sparsity"), zeros), (figure_of(rows, "reconstruction_error"), errors)]
    with paper.plain_style():
        figure = draw_blocks("m", "0.5", shown)
        assert draw_blocks("m", "2:4", shown) is None
    assert figure is not None
    upper, lower = figure.axes
    assert upper.get_yscale() == lower.get_yscale() == "linear"
    for axes, expected in ((upper, [2, 50]), (lower, [0.3, 0.1])):
        line: Any = axes.lines[0]
        assert list(line.get_xdata()) == [0, 1]
        assert list(line.get_ydata()) == pytest.approx(expected)


def test_curves_over_the_questions(tmp_path: Path) -> None:
    rows = [dense_row(), cell_row("wanda", "0.5", 60.0, **{"uncertainty/tales/accuracy": 0.7})]
    points = [(0.5, 0.9), (1.0, 0.7)]
    curves = {"uncertainty/tales/accuracy": {"tiny": {"wanda 0.5": points, "wanda 2:4": []}}}
    written = write_plots(rows, figures_in(rows), {}, tmp_path, curves)
    drawn = [path.stem for path in written if "by-coverage" in path.stem]
    assert drawn == ["uncertainty-tales-accuracy-by-coverage-tiny-0.5"]


def test_precision_against_recall_beside_the_dense_model_s() -> None:
    figure = figures_of(["slot_f1/a", "slot_f1/a/precision"])[-1]
    cells = {"dense": [(0.2, 1.0), (0.9, 0.8)], "wanda 0.5": [(0.1, 0.7), (0.6, 0.4)]}
    with paper.plain_style():
        drawn = draw_curve("tiny", "0.5", figure, cells)
        assert draw_curve("tiny", "2:4", figure, cells) is None
    assert drawn is not None
    (axes,) = drawn.axes
    assert axes.get_xlabel() == "recall (%)"
    lines: Any = {tuple(line.get_xdata()): list(line.get_ydata()) for line in axes.lines}  # type: ignore[arg-type]
    assert lines == {(20, 90): [1.0, 0.8], (10, 60): [0.7, 0.4]}
    assert axes.get_ylim()[1] >= 1.0
