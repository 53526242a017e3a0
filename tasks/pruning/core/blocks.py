"""The walk through a decoder, one block at a time: the one place with hooks and device moves.

Only the block at work is on ``device``; the calibration's hidden states stay beside it. Each block
is called as the model's own forward pass would call it (``calls.py``), and before a model's first
walk the result is compared with that pass (``proof.py``): no walk happens unproven.

Shapes: ``N`` windows, ``L`` tokens of a window, ``H`` hidden size, ``T`` = batch·L tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tasks.pruning.core.calls import Call, Memo, Tables, recorded_calls
from tasks.pruning.core.exclusion import ExclusionError, is_excluded, require_named
from tasks.pruning.core.experts import Sent, experts_watched
from tasks.pruning.core.layers import LinearLayer, exempt_weights, linear_layers
from tasks.pruning.core.onload import Onload
from tasks.pruning.core.proof import proven_forms
from tasks.pruning.core.refusals import UnsupportedModelError
from tasks.pruning.core.structure import BlockStructure


class Collects(Protocol):
    def add(self, inputs_NLI: Tensor) -> None: ...

    def add_sent(self, inputs_RI: Tensor, first_R: Tensor) -> None: ...


CollectorType = TypeVar("CollectorType", bound=Collects)


@dataclass(frozen=True)
class Decoder:
    """A causal language model, or an encoder, as pruning sees it.

    Attributes:
        model: called as ``model(input_ids=…, use_cache=False)``.
        blocks_name: dotted name of the ``nn.ModuleList`` of decoder blocks.
        structure: which matrices form heads and channels; None where that is not known.
        exclude: patterns of layers that every method leaves as they are (``exclusion.py``).
        encoder: whether it predicts no next token, and ends in hidden states.
    """

    model: nn.Module
    blocks_name: str
    structure: BlockStructure | None = None
    exclude: tuple[str, ...] = ()
    encoder: bool = False

    @property
    def blocks(self) -> list[nn.Module]:
        blocks = self.model.get_submodule(self.blocks_name)
        assert isinstance(blocks, nn.ModuleList)
        return list(blocks)

    def layers(self) -> dict[str, LinearLayer]:
        """Every layer that sparsity is counted over, by its full module name."""
        return {
            f"{self.blocks_name}.{index}.{name}": layer
            for index, block in enumerate(self.blocks)
            for name, layer in linear_layers(block).items()
        }

    def excludes(self, name: str) -> bool:
        """Whether the layer of this full name is to stay as it is."""
        return is_excluded(name, self.exclude)

    def pruned_layers(self) -> dict[str, LinearLayer]:
        """:meth:`layers` without those that are excluded."""
        return {n: layer for n, layer in self.layers().items() if not self.excludes(n)}

    def require_exclusion(self) -> None:
        """Check that each pattern of ``exclude`` names something and that something is left.

        Raises:
            ExclusionError: naming the pattern, and names that come close.
        """
        if not self.exclude:
            return
        layers = self.layers()
        modules = (name for name, _ in self.model.named_modules() if name)
        require_named(self.exclude, (*modules, *layers))
        if all(map(self.excludes, layers)):
            raise ExclusionError(None, f"nothing is left to prune of {len(layers)} layers")

    def exempt(self) -> dict[str, int]:
        """What lies in the blocks and is neither pruned nor counted → how many weights that is."""
        counts: Counter[str] = Counter()
        for block in self.blocks:
            for name, kind in exempt_weights(block).items():
                counts[kind] += block.get_parameter(name).numel()
        return dict(counts)


@contextmanager
def _inputs_to(
    layers: Mapping[str, LinearLayer],
    collectors: dict[str, CollectorType],
    make: Callable[[int, torch.device], CollectorType],
    windows: int,
    length: int,
    tables: Tables,
) -> Iterator[None]:
    """Feed each layer's inputs to its collector; layers that share an input share a collector.

    A table, which every window has alike, counts where a layer sees nothing else: once a window.
    Experts that no token reached have no collector in the end.
    """
    last: dict[str, Any] = {"input": None, "collector": None}
    tabled: dict[str, Tensor] = {}

    def hook_of(name: str, layer: LinearLayer) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            inputs = args[0]
            if inputs in tables:
                _require_same(name, tabled.setdefault(name, inputs), inputs)
                return
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

    reached: set[str] = set()

    def take(name: str, inputs_RI: Tensor, sent: Sent) -> None:
        if name not in collectors:
            collectors[name] = make(inputs_RI.shape[1], inputs_RI.device)
        collectors[name].add_sent(inputs_RI, sent.tokens_R % length == 0)
        if len(inputs_RI):
            reached.add(name)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            if layer.expert is None:
                handle = layer.module.register_forward_pre_hook(hook_of(name, layer))
                hooks.callback(handle.remove)
        hooks.enter_context(experts_watched(layers, take))
        yield
    _add_tables(tabled, collectors, make, windows)
    for name, layer in layers.items():
        if layer.expert is not None and name not in reached:
            collectors.pop(name, None)


def _add_tables(
    tabled: Mapping[str, Tensor],
    collectors: dict[str, CollectorType],
    make: Callable[[int, torch.device], CollectorType],
    windows: int,
) -> None:
    """Give each layer that saw a table alone that table, once a window."""
    made: dict[tuple[int, int], CollectorType] = {}
    for name, table in tabled.items():
        if name not in collectors:
            place, table_PI = (table.data_ptr(), table.numel()), table.flatten(0, -2)
            if place not in made:
                made[place] = make(table_PI.shape[1], table.device)
                # None of its rows is a window's first position.
                first_P = torch.zeros(len(table_PI), dtype=torch.bool, device=table.device)
                for _ in range(windows):
                    made[place].add_sent(table_PI, first_P)
            collectors[name] = made[place]


def _require_same(name: str, first: Tensor, again: Tensor) -> None:
    if first is not again and not torch.equal(first, again):
        raise UnsupportedModelError(
            f"{name} is called with what is of no token and changes from window to window"
        )


class BlockAtWork:
    """One block on the device, and the calibration's hidden states before it."""

    def __init__(
        self, name: str, block: nn.Module, hidden: list[Tensor], calls: list[Call]
    ) -> None:
        self.name = name
        self.block = block
        self.layers = linear_layers(block)
        self._hidden = hidden
        self._calls = calls
        self._outputs: list[Tensor] | None = None

    @property
    def tables(self) -> Tables:
        """What the block is called with that is of no token."""
        found = (call.tables(h) for call, h in zip(self._calls, self._hidden, strict=True))
        return Tables({storage for tables in found for storage in tables.storages})

    def _forward(self, weights: Mapping[str, Tensor]) -> list[Tensor]:
        return [
            call.run(self.block, hidden_BLH, weights)
            for hidden_BLH, call in zip(self._hidden, self._calls, strict=True)
        ]

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

        Returns:
            A collector for each layer but experts that no token reached.
        """
        collectors: dict[str, CollectorType] = {}
        layers = {n: layer for n, layer in self.layers.items() if names is None or n in names}
        windows, length = sum(map(len, self._hidden)), self._hidden[0].shape[1]
        with _inputs_to(layers, collectors, make, windows, length, self.tables):
            self.run()
        needed = {name for name, layer in layers.items() if layer.expert is None}
        missing = needed - collectors.keys()
        if missing:
            raise ValueError(
                f"{self.name}: {', '.join(sorted(missing))} saw no calibration data; "
                "this architecture does not call every linear layer for every token"
            )
        return collectors

    def advance(self, weights: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The hidden states after this block, ``B × L × H`` a batch.

        Args:
            weights: parameter name inside the block → replacement. Without any, the outputs that
                ``collect`` or ``run`` computed are taken.
        """
        if weights or self._outputs is None:
            self._outputs = self._forward(weights or {})
        return self._outputs


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

    Raises:
        UnsupportedModelError: block by block the model would compute something else, or not every
            linear layer sees every token.
    """
    blocks = decoder.blocks
    device = device or next(decoder.model.parameters()).device
    hidden, calls = _first_inputs(decoder, tokens_NL.split(batch), device)
    with Onload(blocks, device) as onload:
        for index in range(len(blocks)):
            with onload.block(index) as block:
                at_work = BlockAtWork(
                    f"{decoder.blocks_name}.{index}",
                    block,
                    hidden,
                    [batch[index] for batch in calls],
                )
                weights = visit(at_work)
                if index + 1 < len(blocks):
                    hidden = at_work.advance(weights)
            if progress:
                progress(index + 1, len(blocks))


def _first_inputs(
    decoder: Decoder, batches: Sequence[Tensor], device: torch.device
) -> tuple[list[Tensor], list[list[Call]]]:
    """For each batch, the hidden states before the first block and the calls of all blocks."""
    forms = proven_forms(decoder, batches[0])
    home = next(decoder.model.parameters()).device
    hidden: list[Tensor] = []
    calls: list[list[Call]] = []
    for tokens_BL in batches:
        ids_BL = tokens_BL.long().to(home)
        first_BLH, recorded = recorded_calls(decoder.model, decoder.blocks, ids_BL, forms)
        moved, shared = Memo(), Memo()
        recorded = [call.to(device, moved) for call in recorded]
        if calls:  # masks and rotary tables of one batch are mostly those of the next
            recorded = [
                call.sharing(like, shared) for call, like in zip(recorded, calls[0], strict=True)
            ]
        hidden.append(first_BLH.to(device))
        calls.append(recorded)
    return hidden, calls
