"""What a group or a channel contributes, from one pass over the dense model.

A group's share of the residual stream: mean over tokens of ‖W_g a_g‖² / mean(x²), with a_g what
enters the attention's output projection from it, W_g its columns, and x the stream after attention.
It is compared over all blocks, so it must be relative: without the division a few tokens with huge
activations decide. A channel's energy at the MLP's output, ‖W_c‖²·mean(a_c²), orders the channels
of one block.

Shapes: ``L`` blocks, ``G`` key/value groups, ``C`` channels, ``H`` hidden size, ``T`` tokens, ``F``
features of the attention's output, ``Q`` those of one group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.calls import hidden_of
from tasks.pruning.core.methods import LearningInputs
from tasks.pruning.core.structure import BlockStructure, Removable, removable, structure_of


@dataclass(frozen=True)
class Prior:
    """Float32 on the CPU.

    Attributes:
        groups_LG: shares of the residual stream.
        order_LC: channel numbers of each block, the least energy first.
        removable: where groups and channels may go.
    """

    groups_LG: Tensor
    order_LC: Tensor
    removable: Removable

    @property
    def channel_blocks(self) -> list[int]:
        """Numbers of the blocks that may lose channels."""
        return self.removable.channels_L.nonzero()[:, 0].tolist()

    @property
    def group_places(self) -> list[tuple[int, int]]:
        """(block, group) of every group that may go."""
        blocks = self.removable.groups_L.nonzero()[:, 0].tolist()
        return [(block, group) for block in blocks for group in range(self.groups_LG.shape[1])]


class _Sums:
    """Sums over the tokens of one block."""

    def __init__(self, block: nn.Module, structure: BlockStructure) -> None:
        self._structure = structure
        self._attention = block.get_submodule(structure.attention_out)
        self._channels = block.get_submodule(structure.channel_out)
        self._stream_TH: Tensor | None = None
        self.groups_G = torch.zeros(structure.groups)
        self.channels_C = torch.zeros(structure.channels)
        self.tokens = 0

    def before_block(self, _: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        hidden = args[0] if args else next(iter(keywords.values()))
        self._stream_TH = hidden_of(hidden).flatten(0, 1).float()

    def after_attention(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        assert self._stream_TH is not None
        inputs_TGQ = args[0].reshape(len(self._stream_TH), self._structure.groups, -1).float()
        weight_HF = self._attention.get_parameter("weight").float()
        weight_GQH = weight_HF.T.reshape(self._structure.groups, inputs_TGQ.shape[2], -1)
        stream_TH = self._stream_TH + output.reshape(self._stream_TH.shape).float()
        size_T = stream_TH.square().mean(dim=1).clamp(min=1e-12)
        for group, (inputs_TQ, weight_QH) in enumerate(
            zip(inputs_TGQ.unbind(1), weight_GQH, strict=True)
        ):
            energy_T = (inputs_TQ @ weight_QH).square().sum(dim=1)
            self.groups_G[group] += (energy_T / size_T).sum().cpu()
        self.tokens += len(stream_TH)

    def before_channels(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        inputs_TC = args[0].reshape(-1, self._structure.channels).float()
        self.channels_C += inputs_TC.square().sum(dim=0).cpu()

    def energies_C(self) -> Tensor:
        weight_HC = self._channels.get_parameter("weight").float()
        return weight_HC.square().sum(dim=0).cpu() * self.channels_C / self.tokens


def prior(decoder: Decoder, inputs: LearningInputs) -> Prior:
    """One pass over the calibration windows.

    Raises:
        ValueError: the architecture's structure is not known, or an activation is not finite.
    """
    structure, may = structure_of(decoder), removable(decoder)
    assert inputs.tokens_NL is not None
    groups: list[Tensor] = []
    orders: list[Tensor] = []

    def visit(at_work: BlockAtWork) -> None:
        block = at_work.block
        sums = _Sums(block, structure)
        attention = block.get_submodule(structure.attention_out)
        channels = block.get_submodule(structure.channel_out)
        hooks = [
            block.register_forward_pre_hook(sums.before_block, with_kwargs=True),
            attention.register_forward_hook(sums.after_attention),
            channels.register_forward_pre_hook(sums.before_channels),
        ]
        try:
            at_work.run()
        finally:
            for hook in hooks:
                hook.remove()
        energies_C = sums.energies_C()
        if not (torch.isfinite(sums.groups_G).all() and torch.isfinite(energies_C).all()):
            raise ValueError(f"{at_work.name}: an activation is not finite")
        groups.append(sums.groups_G / sums.tokens)
        orders.append(energies_C.argsort(stable=True))

    walk(decoder, inputs.tokens_NL, visit, device=inputs.device, progress=inputs.progress)
    return Prior(torch.stack(groups), torch.stack(orders), may)
