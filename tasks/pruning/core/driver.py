"""Runs a method on a model: owns the loops, leaves the caller's model untouched.

Layer methods see one layer at a time and, where they ask for them, statistics of the dense model;
block methods see each block with inputs that passed through its pruned predecessors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from tasks.pruning.core.allocation import Allocation, by_outliers
from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.clock import now
from tasks.pruning.core.compensation import compensate
from tasks.pruning.core.experts import prune_without_tokens, told_of_experts
from tasks.pruning.core.gates import Loss, plain_loss
from tasks.pruning.core.layers import LinearLayer
from tasks.pruning.core.methods import (
    BlockMethod,
    Chosen,
    Collector,
    LayerMethod,
    LearningInputs,
    Method,
    OneShotMethod,
    Progress,
    PruneResult,
    StructuredMethod,
)
from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.retraining import RetrainingMethod, counting
from tasks.pruning.core.statistics import ColumnCollector, ColumnStatistics
from tasks.pruning.core.structure import masked_weights, removable
from tasks.pruning.core.targets import Fraction, Target

Statistics = Mapping[str, ColumnStatistics]
"""Full layer name → statistics of that layer's inputs in the dense model."""


def collect_statistics(
    decoder: Decoder,
    tokens_NL: Tensor,
    *,
    sketch: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> dict[str, ColumnStatistics]:
    """Column statistics of every layer of the dense model, in one forward pass.

    Args:
        sketch: columns of the sketch of second moments, as the method asks; 0: none.

    Returns:
        Layers that share an input share one object.
    """
    collected: dict[str, ColumnStatistics] = {}

    def collector_of(in_features: int, device: torch.device) -> ColumnCollector:
        return ColumnCollector(in_features, device, sketch)

    def visit(block: BlockAtWork) -> None:
        results: dict[ColumnCollector, ColumnStatistics] = {}
        for name, collector in block.collect(collector_of).items():
            if collector not in results:
                results[collector] = collector.result().to(torch.device("cpu"))
            collected[f"{block.name}.{name}"] = results[collector]

    walk(decoder, tokens_NL, visit, device=device, progress=progress)
    return collected


def prune(
    method: Method,
    decoder: Decoder,
    target: Target,
    *,
    seed: int = 0,
    tokens_NL: Tensor | None = None,
    statistics: Statistics | None = None,
    training_NL: Tensor | None = None,
    counted_NL: Tensor | None = None,
    prefix: int = 0,
    loss: Loss | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    into: MutableMapping[str, Tensor] | None = None,
) -> PruneResult:
    """Prune ``decoder`` to ``target`` but for what it excludes; the model itself is not changed.

    Args:
        seed: of the method's own randomness.
        tokens_NL: calibration windows, for methods with ``uses_calibration``.
        statistics: from :func:`collect_statistics`, for layer methods that use them.
        training_NL: windows to learn from, for methods with ``uses_training``.
        counted_NL: which of their tokens are learned from; None: all.
        prefix: how many tokens each begins with that the tokenizer puts before every text, as BOS.
        loss: the model's mean loss on windows; by default, from all logits at once.
        device: where the work is done; by default, where the model is.
        into: takes the pruned weights one by one, and becomes the result's ``weights``; by default
            a dictionary, which holds the model's blocks a second time. Methods that train weights
            hold a second model in any case and do not use it.

    Raises:
        UnsupportedLayerError: when a layer cannot take the target.
        ExclusionError: ``decoder.exclude`` names nothing, or leaves nothing to prune.
        ValueError: when the method lacks what it needs.
    """
    _require_pruning(method, decoder, target, counted_NL)
    into = {} if into is None else into
    generator = torch.Generator().manual_seed(seed)  # on the CPU: it means the same everywhere
    if isinstance(method, LayerMethod):
        shares = _allocation(method, decoder, target, statistics)
        return _prune_layers(method, decoder, shares, generator, statistics, device, progress, into)
    if isinstance(method, BlockMethod):
        if tokens_NL is None:
            raise ValueError(f"{method.name} needs calibration windows")
        return _prune_blocks(method, decoder, target, generator, tokens_NL, device, progress, into)
    if isinstance(method, StructuredMethod):
        inputs = LearningInputs(
            tokens_NL=tokens_NL,
            training_NL=training_NL,
            counted_NL=counted_NL,
            prefix=prefix,
            loss=loss or plain_loss(decoder),
            device=device,
            progress=progress,
        )
        return _remove_structure(method, decoder, target, generator, inputs, into)
    if isinstance(method, RetrainingMethod):
        if training_NL is None:
            raise ValueError(f"{method.name} needs windows to learn from")
        counted = counting(method, counted_NL)
        return method.retrain(decoder, target, training_NL, seed=seed, progress=progress, **counted)
    raise TypeError(f"{type(method).__name__} is of no kind that the driver runs")


def _require_pruning(
    method: Method, decoder: Decoder, target: Target, counted_NL: Tensor | None
) -> None:
    """
    Raises:
        ExclusionError: ``decoder.exclude`` names nothing, or leaves nothing to prune.
        ValueError: the method does not take the target, or cannot leave tokens out.
    """
    decoder.require_exclusion()
    if reason := method.refuses(target):
        raise ValueError(reason)
    if counted_NL is not None and not method.counts_tokens:
        raise ValueError(f"{method.name} learns from all tokens of its windows, not from some")


def _allocation(
    method: OneShotMethod, decoder: Decoder, target: Target, statistics: Statistics | None
) -> Allocation:
    """What each block is to lose."""
    if not method.allocates:
        return Allocation(target, {})
    if statistics is None:
        raise ValueError(f"{method.name} needs statistics of the dense model")
    assert isinstance(target, Fraction)
    return by_outliers(
        decoder,
        target,
        statistics,
        multiple=method.outlier_multiple,
        spread=method.outlier_spread,
    )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors say which layer they are about."""
    try:
        yield
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"{name}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _checked(layer: LinearLayer, name: str, pruned_OI: Tensor) -> Tensor:
    """The pruned weight in the module's layout."""
    before = layer.stored
    assert pruned_OI.shape == layer.weight_OI.shape and pruned_OI.dtype == before.dtype, name
    if not torch.isfinite(pruned_OI).all():
        raise ValueError(f"{name}: pruning made weights that are not finite")
    return layer.as_stored(pruned_OI)


@torch.no_grad()
def _prune_layers(
    method: LayerMethod,
    decoder: Decoder,
    shares: Allocation,
    generator: torch.Generator,
    statistics: Statistics | None,
    device: torch.device | None,
    progress: Progress | None,
    weights: MutableMapping[str, Tensor],
) -> PruneResult:
    if method.uses_statistics and statistics is None:
        raise ValueError(f"{method.name} needs statistics of the dense model")
    layers = decoder.pruned_layers()
    seen: list[tuple[LinearLayer, int]] = []
    done = 0
    last: ColumnStatistics | None = None
    moved: ColumnStatistics | None = None
    by_parameter = groupby(layers.items(), key=lambda item: item[1].parameter_of(item[0]))
    for parameter, members in by_parameter:
        tensors: dict[str, Tensor] = {}
        for name, layer in members:
            known = statistics.get(name) if method.uses_statistics and statistics else None
            target = shares.of(name)
            where = device or layer.stored.device
            weight_OI = layer.weight_OI.to(where)
            if method.uses_statistics:
                seen.append((layer, known.tokens if known else 0))
            with _naming(name):
                if method.uses_statistics and known is None and layer.expert is not None:
                    pruned_OI = prune_without_tokens(weight_OI, target)
                else:
                    assert known is not None or not method.uses_statistics, name
                    if known is not last:  # layers that share an input share what is made of it
                        last, moved = known, known.to(where) if known else None
                    pruned_OI = method.prune_layer(weight_OI, moved, target, generator)
            pruned_OI = pruned_OI.to(layer.stored.device)
            layer.put_(_checked(layer, name, pruned_OI), tensors, parameter)
            done += 1
            if progress:
                progress(done, len(layers))
        weights.update(tensors)
    return PruneResult(weights=weights, figures=shares.figures() | told_of_experts(seen))


def _prune_blocks(
    method: BlockMethod,
    decoder: Decoder,
    target: Target,
    generator: torch.Generator,
    tokens_NL: Tensor,
    device: torch.device | None,
    progress: Progress | None,
    weights: MutableMapping[str, Tensor],
) -> PruneResult:
    figures: Counter[str] = Counter()
    home = next(decoder.model.parameters()).device
    device = device or home
    start = now(device)
    dense = collect_statistics(decoder, tokens_NL, device=device) if method.allocates else None
    shares = _allocation(method, decoder, target, dense)
    selecting = 0.0
    seen: list[tuple[LinearLayer, int]] = []

    def visit(block: BlockAtWork) -> dict[str, Tensor]:
        nonlocal selecting
        target = shares.of(block.name)
        layers = {
            n: layer
            for n, layer in block.layers.items()
            if not decoder.excludes(f"{block.name}.{n}")
        }
        collectors = block.collect(method.collector, layers)
        unreached = [name for name in layers if name not in collectors]
        seen.extend(
            (layer, collectors[n].tokens if n in collectors else 0) for n, layer in layers.items()
        )
        replaced: dict[str, Tensor] = {}
        begun = now(device)
        for names in _sharing(collectors):
            collected = collectors[names[0]]
            before = {name: layers[name].weight_OI for name in names}
            with _naming(f"{block.name}.{', '.join(names)}"):
                after = method.prune_layers(before, collected, target, generator)
            for name in names:
                layer, full = layers[name], f"{block.name}.{name}"
                layer.put_(_checked(layer, full, after[name]), replaced, layer.parameter)
                # What is done with is let go: a collector may hold a large matrix.
                del collectors[name]
            figures.update(collected.figures())
        for name in unreached:
            layer, full = layers[name], f"{block.name}.{name}"
            with _naming(full):
                pruned_OI = prune_without_tokens(layer.weight_OI, target)
            layer.put_(_checked(layer, full, pruned_OI), replaced, layer.parameter)
        for parameter, stored in replaced.items():
            # A copy: on another device the block's own weights return home after the visit.
            weights[f"{block.name}.{parameter}"] = stored.to(home)
        selecting += now(device) - begun
        return replaced

    walk(decoder, tokens_NL, visit, device=device, progress=progress)
    calibrating = now(device) - start - selecting
    told = {**figures, **shares.figures(), **told_of_experts(seen)}
    return PruneResult(weights=weights, figures={"calibration_seconds": calibrating, **told})


def _sharing(collectors: Mapping[str, Collector]) -> list[list[str]]:
    """Layer names, those that share a collector together."""
    groups: dict[int, list[str]] = {}
    for name, collector in collectors.items():
        groups.setdefault(id(collector), []).append(name)
    return list(groups.values())


@torch.no_grad()
def _remove_structure(
    method: StructuredMethod,
    decoder: Decoder,
    target: Target,
    generator: torch.Generator,
    inputs: LearningInputs,
    weights: MutableMapping[str, Tensor],
) -> PruneResult:
    if (method.uses_calibration or method.compensates) and inputs.tokens_NL is None:
        raise ValueError(f"{method.name} needs calibration windows")
    if method.uses_training and inputs.training_NL is None:
        raise ValueError(f"{method.name} needs windows to learn from")
    assert isinstance(target, Fraction)
    passes = len(decoder.blocks) if method.compensates else 0
    reached = 0

    def choosing(done: int, of: int) -> None:
        nonlocal reached
        reached = of
        if inputs.progress:
            inputs.progress(done, of + passes)

    def compensating(done: int, of: int) -> None:
        if inputs.progress:
            inputs.progress(reached + done, reached + of)

    chosen = method.choose(decoder, target, generator, replace(inputs, progress=choosing))
    _require_left(decoder, chosen)
    figures = Counter(chosen.figures)
    if method.compensates:
        assert inputs.tokens_NL is not None
        figures.update(
            compensate(
                decoder,
                chosen.kept,
                inputs.tokens_NL,
                method.compensation_damping,
                weights,
                device=inputs.device,
                progress=compensating,
            )
        )
    else:
        weights.update(masked_weights(decoder, chosen.kept))
    return PruneResult(
        weights=weights,
        figures=dict(figures),
        history=chosen.history,
        kept=chosen.kept,
        distribution=chosen.distribution,
    )


def _require_left(decoder: Decoder, chosen: Chosen) -> None:
    """Check that a method left what is excluded as it is."""
    may = removable(decoder)
    for index, kept in enumerate(chosen.kept):
        left = (
            may.groups_L[index] or kept.groups_G.all(),
            may.channels_L[index] or kept.channels_C.all(),
        )
        if not all(left):
            name = f"{decoder.blocks_name}.{index}"
            raise ValueError(f"{name}: the method does not honour exclude, which keeps all of it")
