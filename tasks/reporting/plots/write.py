"""Every plot of a report, as PNG in the folder ``plots``; none where no cell completed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tasks.reporting.costs import costs
from tasks.reporting.measures import ZERO_SHOT_MEAN, measured
from tasks.reporting.plot_errors import draw_errors
from tasks.reporting.plot_layers import LayerSparsity, draw_layers
from tasks.reporting.plot_pareto import draw_pareto
from tasks.reporting.plot_sparsity import draw_sparsity
from tasks.reporting.quality import accuracy, perplexity, qualities
from tasks.reporting.style import plain_style, save

from tasks.reporting.ordering import target_key
from tasks.reporting.rows import Row, corpora
from tasks.reporting.views import models, of_model

FOLDER = "plots"


def write_plots(
    rows: Sequence[Row],
    folder: Path,
    layer_sparsity: Mapping[str, LayerSparsity] | None = None,
    layer_errors: Mapping[str, LayerSparsity] | None = None,
) -> list[Path]:
    """Write all plots to ``folder/plots``.

    Args:
        rows: results, methods in the order that legends shall have.
        layer_sparsity: for each model, label of a cell → layer name → fraction of zeros, layers
            in the model's order.
        layer_errors: likewise, relative reconstruction error.

    Returns:
        The paths written, in the order a report shows them.
    """
    return [
        *plot_against_sparsity(rows, folder),
        *plot_pareto(rows, folder),
        *plot_sparsity_by_layer(layer_sparsity or {}, folder),
        *plot_errors_by_block(layer_sparsity or {}, layer_errors or {}, folder),
    ]


def plot_against_sparsity(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``<measure>-vs-sparsity[-<model>][-<corpus>].png``; names stand where there are several."""
    names = corpora(rows)
    return _write(
        folder,
        (
            (_name(quality.stem, rows, model, corpus), _drawn(draw_sparsity, rows, model, quality))
            for model in models(rows)
            for quality, corpus in qualities(of_model(rows, model), model, names)
        ),
    )


def plot_pareto(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``<cost>-vs-quality[-<model>][-<corpus>].png`` for perplexity, ``<cost>-vs-accuracy…`` for
    the mean over zero-shot tasks; only costs that were measured and differ."""
    figures = []
    for model in models(rows):
        mine = of_model(rows, model)
        wanted = [(perplexity(mine, model, corpus), corpus, "") for corpus in corpora(rows)]
        if measured(mine, ZERO_SHOT_MEAN):
            wanted.append((accuracy(mine, model), "", "accuracy"))
        for quality, corpus, word in wanted:
            for cost in costs(mine, model):
                stem = cost.stem.replace("quality", word) if word else cost.stem
                name = _name(stem, rows, model, corpus)
                figures.append((name, _drawn(draw_pareto, rows, model, quality, cost)))
    return _write(folder, figures)


def plot_sparsity_by_layer(layer_sparsity: Mapping[str, LayerSparsity], folder: Path) -> list[Path]:
    """``sparsity-by-layer-<model>.png`` for each model with a pruned layer."""
    return _write(
        folder,
        [
            (f"sparsity-by-layer-{model}", partial(draw_layers, model, cells))
            for model, cells in layer_sparsity.items()
        ],
    )


def plot_errors_by_block(
    layer_sparsity: Mapping[str, LayerSparsity],
    layer_errors: Mapping[str, LayerSparsity],
    folder: Path,
) -> list[Path]:
    """``error-by-block-<model>-<target>.png`` for each target with a measured cell."""
    figures = []
    for model, errors in layer_errors.items():
        zeros = layer_sparsity.get(model, {})
        for target in sorted({label.split(" ")[-1] for label in errors}, key=target_key):
            name = f"error-by-block-{model}-{target}"
            figures.append((name, partial(draw_errors, model, target, zeros, errors)))
    return _write(folder, figures)


def _drawn(
    draw: Callable[..., Figure | None], rows: Sequence[Row], model: str, *more: Any
) -> Callable[[], Figure | None]:
    return partial(draw, of_model(rows, model), model, *more)


def _name(stem: str, rows: Sequence[Row], model: str, corpus: str) -> str:
    several_models, several_corpora = len(models(rows)) > 1, len(corpora(rows)) > 1
    return (
        stem
        + (f"-{model}" if several_models else "")
        + (f"-{corpus}" if several_corpora and corpus else "")
    )


def _write(folder: Path, figures: Iterable[tuple[str, Callable[[], Figure | None]]]) -> list[Path]:
    """Draw and save each figure under its name, made one for files; None is left out."""
    named = list(figures)
    stems = _distinct([name for name, _ in named])
    written: list[Path] = []
    for stem, (_, draw) in zip(stems, named, strict=True):
        with plain_style():
            drawn = draw()
            if drawn is not None:
                written.append(save(drawn, _path(folder, stem)))
    return written


def _path(folder: Path, stem: str) -> Path:
    return folder / FOLDER / f"{stem}.png"


def _distinct(names: Sequence[str]) -> list[str]:
    """Names for files: other characters become dashes, and a number tells equal ones apart."""
    stems: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:120]
        stem, number = base, 2
        while stem.lower() in (taken.lower() for taken in stems):
            stem, number = f"{base}-{number}", number + 1
        stems.append(stem)
    return stems
