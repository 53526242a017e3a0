"""How far each pruned layer's outputs are from the dense layer's, on the dense model's inputs.

    error = ‖X(W − Ŵ)ᵀ‖_F / ‖XWᵀ‖_F

X are the inputs that the layer has in the *dense* model, so that a layer is not charged with what
the layers before it lost: it is the quantity that Wanda, SparseGPT and SwiftPrune make small. 0 is
an unpruned layer, 1 is as bad as a layer of zeros, and more is worse than none.

Products and their norm over one token's outputs are float32, sums over tokens float64. One forward
pass, block by block: the pruned weights of one block are in memory at a time. A few windows are
enough, for the error is a ratio of sums over every token and output.

Shapes: ``N`` windows, ``L`` tokens of a window, ``T`` tokens, ``O × I`` out- and in-features,
``R`` rank of a side branch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.pruning.ast.slorb import SCALE, SUM
from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.calls import Tables
from tasks.pruning.core.experts import Sent, experts_watched
from tasks.pruning.core.layers import LinearLayer


class CheckpointWeights(Mapping[str, Tensor]):
    """The tensors of a checkpoint's safetensors files, each read when it is asked for.

    SLoRB's side branches, a file of their own in the folder, are among them.
    """

    def __init__(self, folder: Path, names: Mapping[str, str] | None = None) -> None:
        """
        Args:
            names: parameter → its name in the files, where that is another.

        Raises:
            ValueError: the folder holds no safetensors file.
        """
        from safetensors import safe_open

        own_names = {name: own for own, name in (names or {}).items()}
        self._places: dict[str, tuple[Path, str]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                there: list[str] = list(file.keys())
            self._places |= {own_names.get(name, name): (path, name) for name in there}
        if not self._places:
            raise ValueError(f"{folder} holds no *.safetensors file")

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        path, name_there = self._places[name]
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name_there)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Energies:
    """‖XΔᵀ‖² and ‖XWᵀ‖² of one layer, added up while its block runs.

    Args:
        lost_OI: Δ = W − Ŵ, float32.
        tables: what the block is called with that is of no token; it counts once, and only where
            the layer sees nothing else, as it does when layers are pruned.
    """

    def __init__(self, layer: LinearLayer, lost_OI: Tensor, tables: Tables) -> None:
        self._layer, self._lost_OI, self._tables = layer, lost_OI, tables
        self._table: Tensor | None = None
        self.lost = self.whole = 0.0
        self.rows = 0

    def add(self, inputs_TI: Tensor) -> None:
        """Take in a batch of the layer's inputs."""
        self.rows += len(inputs_TI)
        self.lost += _energy(functional.linear(inputs_TI.float(), self._lost_OI))
        self.whole += _energy(functional.linear(inputs_TI.float(), self._layer.weight_OI.float()))

    def finish(self) -> None:
        """Take in the table of a layer that saw no token."""
        if self._table is not None and not self.rows:
            self.add(self._table.flatten(0, -2))
        self._table = None

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], outputs: Tensor) -> None:
        if args[0] in self._tables:
            self._table = args[0]
            return
        inputs_TI = args[0].flatten(0, -2)
        if outputs.dtype == torch.float32 and getattr(self._layer.module, "bias", None) is None:
            self.rows += len(inputs_TI)
            self.lost += _energy(functional.linear(inputs_TI.float(), self._lost_OI))
            self.whole += _energy(outputs.flatten(0, -2))
        else:
            self.add(inputs_TI)


@torch.no_grad()
def reconstruction_errors(
    dense_model: nn.Module,
    decoder: Decoder,
    pruned_weights: Mapping[str, Tensor],
    windows_NL: Tensor,
    *,
    batch_size: int = 4,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """The relative error of each layer that ``pruned_weights`` names.

    Args:
        dense_model: whose inputs count; left as it was.
        decoder: describes ``dense_model``.
        pruned_weights: parameter name → weight as the module stores it, such as
            :class:`CheckpointWeights`; others than the layers' are not looked at. A layer's side
            branch, ``<layer>.slorb_x`` and ``<layer>.slorb_s``, is part of its weight.
        windows_NL: token ids, at least one window.
        batch_size: windows of one forward pass; changes memory, never the figures.
        device: where the block at work runs; by default, where the model is.
        progress: called with (blocks done, blocks in all).

    Returns:
        Layer name → error, in the model's order. Inf where the dense layer's outputs are all zero
        and the pruned one's are not. Experts that no token reached have none.

    Raises:
        ValueError: no windows, another model's description, no weight of any layer, or a weight of
            another shape; the message names the layer and both shapes.
        FloatingPointError: a layer's outputs are not finite.
    """
    if windows_NL.ndim != 2 or windows_NL.shape[0] < 1 or windows_NL.shape[1] < 1:
        raise ValueError(f"no token in windows of shape {tuple(windows_NL.shape)}")
    if decoder.model is not dense_model:
        raise ValueError("decoder describes another model than dense_model")
    layers = decoder.layers()
    if not any(layer.parameter_of(name) in pruned_weights for name, layer in layers.items()):
        raise ValueError(f"pruned_weights names no layer below {decoder.blocks_name}")
    errors: dict[str, float] = {}

    def visit(block: BlockAtWork) -> None:
        found = _energies_of(block, pruned_weights)
        errors.update((name, _relative(name, found[name])) for name in found if found[name].rows)

    walk(decoder, windows_NL, visit, device=device, batch=batch_size, progress=progress)
    return errors


def _energies_of(block: BlockAtWork, pruned_weights: Mapping[str, Tensor]) -> dict[str, _Energies]:
    """Layer name → what it gives and loses, of the block's pruned layers; runs the dense block."""
    found: dict[str, _Energies] = {}
    tables = block.tables
    with contextlib.ExitStack() as hooks:
        for short, layer in block.layers.items():
            name = f"{block.name}.{short}"
            if layer.parameter_of(name) in pruned_weights:
                lost_OI = layer.weight_OI.float() - _effective(name, layer, pruned_weights)
                found[name] = _Energies(layer, lost_OI, tables)
                if layer.expert is None:
                    hooks.callback(layer.module.register_forward_hook(found[name]).remove)

        def take(short: str, inputs_TI: Tensor, _: Sent) -> None:
            if energies := found.get(f"{block.name}.{short}"):
                energies.add(inputs_TI)

        hooks.enter_context(experts_watched(block.layers, take))
        block.run()
    for energies in found.values():
        energies.finish()
    return found


def _effective(name: str, layer: LinearLayer, weights: Mapping[str, Tensor]) -> Tensor:
    """The pruned layer's weight, ``O × I`` in float32, with its side branch folded in."""
    whole = weights[layer.parameter_of(name)]
    if whole.shape != layer.whole.shape:
        shapes = f"{tuple(whole.shape)}, the dense one {tuple(layer.whole.shape)}"
        raise ValueError(f"{name}: the pruned weight has shape {shapes}")
    stored = layer.within(whole)
    device = layer.stored.device
    weight_OI = (stored.T if layer.transposed else stored).to(device, torch.float32)
    if f"{name}.{SUM}" in weights and f"{name}.{SCALE}" in weights:
        sum_RI, scale_OR = (weights[f"{name}.{part}"].to(weight_OI) for part in (SUM, SCALE))
        weight_OI = weight_OI + scale_OR @ sum_RI
    return weight_OI


def _relative(name: str, energies: _Energies) -> float:
    lost, whole = energies.lost, energies.whole
    if not math.isfinite(lost) or not math.isfinite(whole):
        raise FloatingPointError(f"{name}: its outputs are not finite")
    if whole == 0:
        return 0.0 if lost == 0 else math.inf
    return math.sqrt(lost / whole)


def _energy(outputs_TO: Tensor) -> float:
    """Its squared Frobenius norm."""
    return float(torch.linalg.vector_norm(outputs_TO, dim=-1).double().square().sum())
