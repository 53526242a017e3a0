"""Every plot of a report, as PNG in the folder ``plots``; none where no cell completed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from tasks.measures.figures import Figure, present
from tasks.reporting.ordering import target_key
from tasks.reporting.plots.blocks import draw_blocks
from tasks.reporting.plots.layers import Layers, draw_layers
from tasks.reporting.plots.pareto import draw_pareto
from tasks.reporting.plots.sparsity import draw_sparsity
from tasks.reporting.plots.style import plain_style, save
from tasks.reporting.rows import Row
from tasks.reporting.views import models

FOLDER = "plots"
SPARSITY_PLOT, PARETO_PLOT, LAYER_PLOT = "-vs-sparsity", "-vs-cost-", "-by-"
"""Parts of the files' names by which a report sorts plots under headings."""
Draw = Callable[[], Drawing | None]


def write_plots(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    layers: Mapping[str, Mapping[str, Layers]],
    folder: Path,
) -> list[Path]:
    """Write all plots to ``folder/plots``.

    Args:
        rows: results, methods in the order that legends shall have.
        layers: column → model → label of a cell → layer name → value, layers in the model's order.

    Returns:
        The paths written, in the order a report shows them.
    """
    there = present(figures, rows)
    drawn = [
        *_against_sparsity(rows, there),
        *_against_costs(rows, there),
        *_by_layer(there, layers),
    ]
    return _write(folder, drawn)


def _against_sparsity(rows: Sequence[Row], there: Sequence[Figure]) -> Iterator[tuple[str, Draw]]:
    """``<column>-vs-sparsity[-<model>].png``, of quality and speed."""
    for model in models(rows):
        for figure in there:
            if figure.role in ("quality", "speed"):
                name = _named(f"{figure.column}{SPARSITY_PLOT}", rows, model)
                yield name, partial(draw_sparsity, rows, model, figure)


def _against_costs(rows: Sequence[Row], there: Sequence[Figure]) -> Iterator[tuple[str, Draw]]:
    """``<column>-vs-cost-<column>[-<model>].png``, of headline figures."""
    costs = [figure for figure in there if figure.role == "cost"]
    costs += [figure for figure in there if figure.role == "speed"]
    for model in models(rows):
        for figure in (figure for figure in there if figure.headline):
            for cost in costs:
                name = _named(f"{figure.column}{PARETO_PLOT}{cost.column}", rows, model)
                yield name, partial(draw_pareto, rows, model, figure, cost)


def _by_layer(
    there: Sequence[Figure], layers: Mapping[str, Mapping[str, Layers]]
) -> Iterator[tuple[str, Draw]]:
    """``sparsity-by-layer-<model>.png``, and ``<column>-by-block-<model>-<target>.png``."""
    zeros = layers.get("sparsity", {})
    for model, cells in zeros.items():
        yield f"sparsity{LAYER_PLOT}layer-{model}", partial(draw_layers, model, cells)
    for figure in (f for f in there if f.column in layers and f.column != "sparsity"):
        for model, cells in layers[figure.column].items():
            for target in sorted({label.split(" ")[-1] for label in cells}, key=target_key):
                name = f"{figure.column}{LAYER_PLOT}block-{model}-{target}"
                drawn = partial(draw_blocks, model, target, zeros.get(model, {}), cells, figure)
                yield name, drawn


def _named(stem: str, rows: Sequence[Row], model: str) -> str:
    return f"{stem}-{model}" if len(models(rows)) > 1 else stem


def _write(folder: Path, drawings: Iterable[tuple[str, Draw]]) -> list[Path]:
    """Draw and save each under its name, made one for files; None is left out."""
    written: list[Path] = []
    for stem, draw in _distinct(drawings):
        with plain_style():
            drawing = draw()
            if drawing is not None:
                written.append(save(drawing, folder / FOLDER / f"{stem}.png"))
    return written


def _distinct(drawings: Iterable[tuple[str, Draw]]) -> Iterator[tuple[str, Draw]]:
    """Names for files: other characters become dashes, and a number tells equal ones apart."""
    taken: set[str] = set()
    for name, draw in drawings:
        base = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:120]
        stem, number = base, 2
        while stem.lower() in taken:
            stem, number = f"{base}-{number}", number + 1
        taken.add(stem.lower())
        yield stem, draw
