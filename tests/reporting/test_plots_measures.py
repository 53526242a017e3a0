"""Plots of every measure: which there are, what is in them, and that print can be read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tasks.reporting import plots
from tasks.reporting.measures import DECODE, HARDWARE
from tasks.reporting.plot_errors import draw_errors
from tasks.reporting.plot_layers import draw_layers
from tasks.reporting.plot_sparsity import draw_sparsity
from tasks.reporting.quality import accuracy, agreement, divergence, speed
from tasks.reporting.rows import Row
from tasks.reporting.style import WIDTH, method_styles, plain_style

from .conftest import cell_row, dense_row
from .realistic import large_sweep, layers_of

SMALL = large_sweep(methods=("wanda",), tasks=("arc_easy",))
SMALL = [row for row in SMALL if row["target"] in ("", "0.5")]


def _written(rows: list[Row], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Every figure of a report by its file's name; not saved, which takes most of the time."""
    figures: dict[str, Figure] = {}

    def noted(figure: Figure, path: Path) -> Path:
        figures[path.name] = figure
        return path

    monkeypatch.setattr(plots, "save", noted)
    names = dict.fromkeys(str(row["model"]) for row in rows)
    layers = {model: layers_of(rows, model) for model in names}
    written = plots.write_plots(
        rows,
        folder,
        {model: zeros for model, (zeros, _) in layers.items()},
        {model: errors for model, (_, errors) in layers.items()},
    )
    assert [path.name for path in written] == list(figures)
    return figures


@pytest.mark.parametrize("case", ["large", "two models", "small"])
def test_everything_is_inside_and_readable(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "large": lambda: large_sweep(seeds=(0, 1)),
        "two models": lambda: large_sweep(("llama", "org/neox"), ("wanda", "ast")),
        "small": lambda: SMALL,
    }[case]()
    figures = _written(rows, tmp_path, monkeypatch)
    assert len(figures) > 8
    for name, figure in figures.items():
        # Cells beside each other may make a plot wider than a column, never its text smaller.
        assert figure.get_figwidth() == pytest.approx(WIDTH), name
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible():
                assert text.get_fontsize() >= 8, (name, text)
        for axes in figure.axes:
            assert axes.bbox.height > 40, name
            labels = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
            for text in [label for label in labels if label.get_text()]:
                box = text.get_window_extent()
                assert box.x0 >= -1 and box.y0 >= -1, (name, text)
                assert box.x1 <= figure.bbox.width + 1, (name, text)
                assert box.y1 <= figure.bbox.height + 1, (name, text)
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width, name
            assert box.y0 >= 0 and box.y1 <= min(axes.bbox.y0 for axes in figure.axes), name


def test_each_measure_has_its_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(_written(SMALL, tmp_path, monkeypatch)) == [
        "perplexity-vs-sparsity.png",
        "kl-vs-sparsity.png",
        "agreement-vs-sparsity.png",
        "accuracy-vs-sparsity.png",
        "prefill-speed-vs-sparsity.png",
        "decoding-speed-vs-sparsity.png",
        "time-vs-quality.png",
        "time-vs-accuracy.png",
        "sparsity-by-layer-smollm2-135m.png",
        "error-by-block-smollm2-135m-0.5.png",
    ]


def test_accuracy_has_bars_of_one_standard_error() -> None:
    rows = SMALL
    row = rows[1]
    with plain_style():
        figure = draw_sparsity(rows, "smollm2-135m", accuracy(rows, "smollm2-135m"))
        assert figure is not None
        axes = figure.axes[0]
        (bar,) = axes.collections[0].get_segments()  # type: ignore[attr-defined]
    mean = 100 * float(str(row["zero_shot/mean"]))
    assert [y for _, y in bar] == pytest.approx([mean - 2.0, mean + 2.0])
    dense = 100 * float(str(rows[0]["zero_shot/mean"]))
    assert any(list(line.get_ydata()) == pytest.approx([dense, dense]) for line in axes.lines)
    low, high = axes.get_ylim()
    assert low < mean - 2.0 and high > dense


def test_agreement_is_linear_and_divergence_as_the_spread_demands() -> None:
    rows = [
        cell_row("wanda", target, 50.0) | {"kl/docs": kl, "top1_agreement/docs": share}
        for target, kl, share in (("0.1", 0.001, 0.99), ("0.5", 2.0, 0.01), ("0.7", math.inf, 0.0))
    ]
    with plain_style():
        scales = []
        for quality, chosen in (
            (agreement("docs"), rows),
            (divergence("docs"), rows),
            (divergence("docs"), rows[1:]),
        ):
            figure = draw_sparsity(chosen, "tiny", quality)
            assert figure is not None
            scales.append(figure.axes[0].get_yscale())
            logarithmic = "log" in figure.axes[0].get_ylabel()
            assert logarithmic == (scales[-1] == "log")
    assert scales == ["linear", "log", "linear"]


def test_speed_noise_does_not_fill_the_axis_and_other_hardware_is_named() -> None:
    rows = [dense_row() | {DECODE: 20.0, HARDWARE: "here"}]
    rows += [cell_row("wanda", "0.5", 50.0) | {DECODE: 20.2, HARDWARE: "here"}]
    rows += [cell_row("wanda", "0.7", 50.0) | {DECODE: 99.0, HARDWARE: "there"}]
    quality = speed(rows, "tiny", DECODE)
    assert quality.note == "only on here"
    assert [point.values for point in quality.points(rows, "tiny")] == [(1.01,)]
    with plain_style():
        figure = draw_sparsity(rows, "tiny", quality)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert low <= 0.5 and high >= 1.5


def test_errors_are_means_of_each_block() -> None:
    zeros = {"wanda 0.5": {"h.0.q": 0.4, "h.0.up": 0.6, "h.1.q": 0.5}}
    errors = {
        "wanda 0.5": {"h.0.q": 0.2, "h.0.up": 0.4, "h.1.q": 0.1},
        "wanda 0.7": {"h.0.q": 0.9},
    }
    with plain_style():
        figure = draw_errors("m", "0.5", zeros, errors)
        assert figure is not None
        assert draw_errors("m", "2:4", zeros, errors) is None
        upper, lower = figure.axes
    (shares,), (means,) = upper.lines, lower.lines
    assert list(shares.get_xdata()) == [0, 1] == list(means.get_xdata())
    assert list(shares.get_ydata()) == pytest.approx([50, 50])
    assert list(means.get_ydata()) == pytest.approx([0.3, 0.1])


def test_even_cells_are_counted_rather_than_drawn() -> None:
    even = {f"wanda 0.{k}": {"h.0.q": k / 10, "h.1.q": k / 10} for k in range(1, 8)}
    uneven = {"mine 0.5": {"h.0.q": 0.4, "h.1.q": 0.6}}
    with plain_style():
        mixed, plain = draw_layers("m", even | uneven), draw_layers("m", even)
        few = draw_layers("m", {"wanda 0.5": even["wanda 0.5"]} | uneven)
    assert mixed is not None and plain is not None and few is not None
    assert mixed.axes[0].get_title(loc="left").startswith("mine 0.5")
    assert "7 more with the same in every layer" in mixed.get_supxlabel()
    # Panels and the colour bar.
    assert [len(figure.axes) for figure in (mixed, plain, few)] == [1 + 1, 3 + 1, 2 + 1]


def test_methods_differ_without_colour() -> None:
    styles = method_styles(["mine", "yours"])
    assert len({style.marker for style in styles.values()}) == len(styles)
    assert len({(style.marker, str(style.line)) for style in styles.values()}) == len(styles)
