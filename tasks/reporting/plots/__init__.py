"""Every plot of a report as PNG, for print; none where no cell completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tasks.measures.figures import Figure
from tasks.reporting.charts import charts_of
from tasks.reporting.charts.chart import distinct
from tasks.reporting.ordering import target_key
from tasks.reporting.rows import Row
from tasks.reporting.text import short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

    from tasks.reporting.plots.composition import Compositions
    from tasks.reporting.plots.curves import Curves

FOLDER = "plots"
Layers = Mapping[str, Mapping[str, float]]
"""Label of a cell → layer name → value, layers in the model's order."""


def write_plots(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    layers: Mapping[str, Mapping[str, Layers]],
    folder: Path,
    curves: Mapping[str, Mapping[str, Curves]] = MappingProxyType({}),
    compositions: Mapping[str, Compositions] = MappingProxyType({}),
    seed: int | None = None,
) -> list[Path]:
    """Write all plots to ``folder/plots``.

    Args:
        rows: results, methods in the order that legends shall have.
        layers: column → model → label of a cell → layer → value there.
        curves: column → model → label of a cell → its curve over a share.
        seed: the one that layers and curves are of, where there are several; titles say it.
        compositions: ``calibration`` or ``training`` → how windows were chosen → their sources.

    Returns:
        The paths written, in the order a report shows them.
    """
    from tasks.reporting.plots.chart import draw_chart  # matplotlib, which takes a second
    from tasks.reporting.plots.paper import plain_style, save

    drawn: list[tuple[str, Callable[[], Drawn | None]]] = [
        (chart.stem, partial(draw_chart, chart)) for chart in charts_of(rows, figures)
    ]
    drawn += _of_parts(rows, figures)
    drawn += _of_sources(compositions)
    drawn += [*_of_layers(figures, layers, seed), *_of_curves(figures, curves, seed)]
    written: list[Path] = []
    for stem, (_, draw) in zip(distinct([name for name, _ in drawn]), drawn, strict=True):
        with plain_style():
            made = draw()
            if made is not None:
                written.append(save(made, folder / FOLDER / f"{stem}.png"))
    return written


def _of_sources(
    compositions: Mapping[str, Compositions],
) -> list[tuple[str, Callable[[], Drawn | None]]]:
    """``<field>-by-source``, a bar for each way to choose windows."""
    from tasks.reporting.plots.composition import draw_composition

    return [
        (f"{field}-by-source", partial(draw_composition, field, mine))
        for field, mine in compositions.items()
    ]


def _of_curves(
    figures: Sequence[Figure], curves: Mapping[str, Mapping[str, Curves]], seed: int | None
) -> Iterator[tuple[str, Callable[[], Drawn | None]]]:
    """``<column>-by-<what it runs over>-<model>-<target>``, a line a method."""
    from tasks.reporting.plots.curves import DENSE, draw_curve

    known = {figure.column: figure for figure in figures}
    for column, models in curves.items():
        names = _names(models, seed)
        for model, cells in models.items():
            targets = {label.split(" ")[-1] for label in cells if label != DENSE}
            for target in sorted(targets, key=target_key):
                drawn = partial(draw_curve, names[model], target, known[column], cells)
                yield f"{column}-by-{known[column].over}-{model}-{target}", drawn


def _names(models: Iterable[str], seed: int | None) -> dict[str, str]:
    """Model → what titles call it, with the seed that is drawn where there are several."""
    of_seed = "" if seed is None else f", seed {seed}"
    return {model: f"{name}{of_seed}" for model, name in short_names(models).items()}


def _of_parts(
    rows: Sequence[Row], figures: Sequence[Figure]
) -> list[tuple[str, Callable[[], Drawn | None]]]:
    """``<column>-by-part-<model>``, of figures that have parts."""
    from tasks.reporting.plots.parts import draw_parts, wholes_of

    known = {figure.column: figure for figure in figures}
    names = short_names(dict.fromkeys(str(row["model"]) for row in rows))
    return [
        (
            f"{whole}-by-part-{model}",
            partial(
                draw_parts,
                name,
                known[whole],
                parts,
                [row for row in rows if row["model"] == model],
            ),
        )
        for whole, parts in wholes_of(figures).items()
        for model, name in names.items()
    ]


def _of_layers(
    figures: Sequence[Figure], layers: Mapping[str, Mapping[str, Layers]], seed: int | None
) -> list[tuple[str, Callable[[], Drawn | None]]]:
    """``<column>-by-layer-<model>``, a map of each cell, of a figure with no direction; else
    ``<column>-by-block-<model>-<target>``, a line a method above which zeros stand."""
    from tasks.reporting.plots.blocks import draw_blocks
    from tasks.reporting.plots.layers import draw_layers

    known = {figure.column: figure for figure in figures}
    zeros = layers.get("sparsity", {})
    found: list[tuple[str, Callable[[], Drawn | None]]] = []
    for column, models in layers.items():
        figure = known.get(column)
        if figure is None:
            continue
        names = _names(models, seed)
        for model, cells in models.items():
            name = names[model]
            if not figure.better:
                drawn = partial(draw_layers, name, figure, cells)
                found.append((f"{column}-by-layer-{model}", drawn))
                continue
            for target in sorted({label.split(" ")[-1] for label in cells}, key=target_key):
                both = [(known["sparsity"], zeros.get(model, {})), (figure, cells)]
                drawn = partial(draw_blocks, name, target, both)
                found.append((f"{column}-by-block-{model}-{target}", drawn))
    return found
