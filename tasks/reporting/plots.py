"""Every plot of a report, as PNG in the folder ``plots``; none where no cell completed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tasks.reporting.plot_layers import LayerSparsity, draw_layers
from tasks.reporting.plot_sparsity import draw_sparsity
from tasks.reporting.plot_time import draw_time
from tasks.reporting.rows import Row, corpora
from tasks.reporting.style import plain_style, save
from tasks.reporting.views import models, of_model

FOLDER = "plots"


def write_plots(
    rows: Sequence[Row],
    folder: Path,
    layer_sparsity: Mapping[str, LayerSparsity] | None = None,
) -> list[Path]:
    """Write all plots to ``folder/plots``.

    Args:
        rows: results, methods in the order that legends shall have.
        layer_sparsity: for each model, label of a cell → layer name → fraction of zeros, layers
            in the model's order.

    Returns:
        The paths written, in the order a report shows them.
    """
    return [
        *plot_perplexity_vs_sparsity(rows, folder),
        *plot_time_vs_quality(rows, folder),
        *plot_sparsity_by_layer(layer_sparsity or {}, folder),
    ]


def plot_perplexity_vs_sparsity(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``perplexity-vs-sparsity[-<model>][-<corpus>].png``; names stand where there are several."""
    return _per_model_and_corpus("perplexity-vs-sparsity", draw_sparsity, rows, folder)


def plot_time_vs_quality(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``time-vs-quality[-<model>][-<corpus>].png``, named likewise; only cells that were timed."""
    return _per_model_and_corpus("time-vs-quality", draw_time, rows, folder)


def plot_sparsity_by_layer(layer_sparsity: Mapping[str, LayerSparsity], folder: Path) -> list[Path]:
    """``sparsity-by-layer-<model>.png`` for each model with a pruned layer."""
    stems = _distinct([f"sparsity-by-layer-{model}" for model in layer_sparsity])
    written: list[Path] = []
    for stem, (model, cells) in zip(stems, layer_sparsity.items(), strict=True):
        with plain_style():
            drawn = draw_layers(model, cells)
            if drawn is not None:
                written.append(save(drawn, _path(folder, stem)))
    return written


def _per_model_and_corpus(
    name: str,
    draw: Callable[[Sequence[Row], str, str], Figure | None],
    rows: Sequence[Row],
    folder: Path,
) -> list[Path]:
    pairs = [(model, corpus) for model in models(rows) for corpus in corpora(rows)]
    several_models, several_corpora = len(models(rows)) > 1, len(corpora(rows)) > 1
    stems = _distinct(
        [
            name
            + (f"-{model}" if several_models else "")
            + (f"-{corpus}" if several_corpora else "")
            for model, corpus in pairs
        ]
    )
    written: list[Path] = []
    for stem, (model, corpus) in zip(stems, pairs, strict=True):
        with plain_style():
            drawn = draw(of_model(rows, model), model, corpus)
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
