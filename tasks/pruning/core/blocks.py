"""The walk through a decoder, one block at a time: the one place with hooks and device moves.

Only the block at work is on ``device``; the calibration's hidden states stay beside it. Any decoder
of transformers works whose blocks take the hidden states first: what else a block is called with
(masks, positions, rotary tables) is recorded on the first block and passed to each.

Shapes: ``N`` windows, ``L`` tokens of a window, ``H`` hidden size, ``T`` = batch·L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tasks.pruning.core.layers import LinearLayer, linear_layers
from tasks.pruning.core.structure import BlockStructure


class Collects(Protocol):
    def add(self, inputs_NLI: Tensor) -> None: ...


CollectorType = TypeVar("CollectorType", bound=Collects)


@dataclass(frozen=True)
class Decoder:
    """A causal language model as pruning sees it.

    Attributes:
        model: called as ``model(input_ids=…, use_cache=False)``.
        blocks_name: dotted name of the ``nn.ModuleList`` of decoder blocks.
        structure: which matrices form heads and channels; None where that is not known.
    """

    model: nn.Module
    blocks_name: str
    structure: BlockStructure | None = None

    @property
    def blocks(self) -> list[nn.Module]:
        blocks = self.model.get_submodule(self.blocks_name)
        assert isinstance(blocks, nn.ModuleList)
        return list(blocks)

    def layers(self) -> dict[str, LinearLayer]:
        """Every prunable layer of the model, by its full module name."""
        return {
            f"{self.blocks_name}.{index}.{name}": layer
            for index, block in enumerate(self.blocks)
            for name, layer in linear_layers(block).items()
        }


class _Captured(Exception):  # noqa: N818 (control flow, not an error)
    """Ends the model's forward pass once the first block's inputs are known."""


@dataclass(frozen=True)
class _Batch:
    hidden_BLH: Tensor
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, device) for item in value)
    return value


def _first_inputs(decoder: Decoder, tokens_NL: Tensor, batch: int) -> list[_Batch]:
    """What the first block is called with, batch by batch."""
    captured: list[_Batch] = []

    def capture(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        captured.append(_Batch(args[0], args[1:], keywords))
        raise _Captured

    handle = decoder.blocks[0].register_forward_pre_hook(capture, with_kwargs=True)
    device = next(decoder.model.parameters()).device
    try:
        for ids_BL in tokens_NL.split(batch):
            try:
                decoder.model(input_ids=ids_BL.long().to(device), use_cache=False)
            except _Captured:
                continue
    finally:
        handle.remove()
    return captured


@contextmanager
def _inputs_to(
    layers: Mapping[str, LinearLayer],
    collectors: dict[str, CollectorType],
    make: Callable[[int, torch.device], CollectorType],
    length: int,
) -> Iterator[None]:
    """Feed each layer's inputs to its collector; layers that share an input share a collector."""
    last: dict[str, Any] = {"input": None, "collector": None}

    def hook_of(name: str, layer: LinearLayer) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            inputs = args[0]
            if name not in collectors:
                shared = last["input"] is inputs
                collectors[name] = (
                    last["collector"] if shared else make(layer.in_features, inputs.device)
                )
            if last["input"] is not inputs:
                # Some architectures flatten windows and positions into one dimension.
                collectors[name].add(inputs.reshape(-1, length, inputs.shape[-1]))
            last.update(input=inputs, collector=collectors[name])

        return hook

    handles = [
        layer.module.register_forward_pre_hook(hook_of(name, layer))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class BlockAtWork:
    """One block on the device, and the calibration's hidden states before it."""

    def __init__(self, name: str, block: nn.Module, batches: list[_Batch]) -> None:
        self.name = name
        self.block = block
        self.layers = linear_layers(block)
        self._batches = batches
        self._outputs: list[Tensor] | None = None

    def _forward(self, weights: Mapping[str, Tensor]) -> list[Tensor]:
        outputs = []
        for batch in self._batches:
            result = functional_call(
                self.block,
                dict(weights),
                args=(batch.hidden_BLH, *batch.arguments),
                kwargs=batch.keywords,
            )
            outputs.append(result[0] if isinstance(result, tuple) else result)
        return outputs

    def run(self) -> None:
        """Run the block as it is, for hooks of the caller's own."""
        self._outputs = self._forward({})

    def collect(
        self,
        make: Callable[[int, torch.device], CollectorType],
        names: Collection[str] | None = None,
    ) -> dict[str, CollectorType]:
        """Run the block as it is and collect layers' inputs.

        Args:
            make: called with (in-features, device) for each distinct input.
            names: of the layers; by default, all.
        """
        collectors: dict[str, CollectorType] = {}
        layers = {n: layer for n, layer in self.layers.items() if names is None or n in names}
        length = self._batches[0].hidden_BLH.shape[1]
        with _inputs_to(layers, collectors, make, length):
            self.run()
        missing = layers.keys() - collectors.keys()
        if missing:
            raise ValueError(
                f"{self.name}: {', '.join(sorted(missing))} saw no calibration data; "
                "this architecture does not call every linear layer for every token"
            )
        return collectors

    def advance(self, weights: Mapping[str, Tensor] | None = None) -> list[_Batch]:
        """The hidden states after this block.

        Args:
            weights: parameter name inside the block → replacement. Without any, the outputs that
                ``collect`` or ``run`` computed are taken.
        """
        if weights or self._outputs is None:
            self._outputs = self._forward(weights or {})
        return [
            _Batch(hidden, batch.arguments, batch.keywords)
            for hidden, batch in zip(self._outputs, self._batches, strict=True)
        ]


@torch.no_grad()
def walk(
    decoder: Decoder,
    tokens_NL: Tensor,
    visit: Callable[[BlockAtWork], Mapping[str, Tensor] | None],
    *,
    device: torch.device | None = None,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Call ``visit`` on each block in turn; what it returns replaces weights for what follows.

    The model itself is left as it was: replaced weights act only on the hidden states that the
    later blocks see.

    Args:
        visit: returns parameter name inside the block → weight, or None when nothing changes.
        device: where the block at work runs; by default, where the model is.
        batch: windows of one forward pass.
        progress: called with (blocks done, blocks in all).
    """
    blocks = decoder.blocks
    home = next(decoder.model.parameters()).device
    device = device or home
    batches = [
        _Batch(_moved(b.hidden_BLH, device), _moved(b.arguments, device), _moved_all(b, device))
        for b in _first_inputs(decoder, tokens_NL, batch)
    ]
    for index, block in enumerate(blocks):
        block.to(device)
        try:
            at_work = BlockAtWork(f"{decoder.blocks_name}.{index}", block, batches)
            weights = visit(at_work)
            if index + 1 < len(blocks):
                batches = at_work.advance(weights)
        finally:
            block.to(home)
        if progress:
            progress(index + 1, len(blocks))


def _moved_all(batch: _Batch, device: torch.device) -> dict[str, Any]:
    return {key: _moved(value, device) for key, value in batch.keywords.items()}
