"""What a group or a channel contributes, from one pass over the dense model.

A group's share of the residual stream: mean over tokens of ‖D W_g a_g‖² / mean(x²), with a_g what
enters the attention's output projection from it, W_g its columns, and x the stream after attention.
It is compared over all blocks, so it must be relative: without the division a few tokens with huge
activations decide. D is 1 in most models. Where the block norms the projection's output before it
adds it (Gemma 2 and 3), or multiplies it (Granite), D is what that makes of each feature of a
token: a group that adds nothing to the stream has a share of 0.

A channel's energy at the MLP's output, ‖W_c‖²·mean(a_c²), orders the channels of one block.

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
        self._block = block
        self._call: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self._given: Tensor | None = None
        self._hidden_BLH: Tensor | None = None
        self._plain: bool | None = None
        self.groups_G = torch.zeros(structure.groups)
        self.channels_C = torch.zeros(structure.channels)
        self.tokens = 0

    def before_block(self, _: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._given is not None:
            return
        hidden_BLH = hidden_of(args[0] if args else next(iter(keywords.values())))
        self._call = args, keywords
        self._hidden_BLH = hidden_BLH
        if self._plain is None:
            self._plain = self._adds_as_it_is(hidden_BLH)

    def _adds_as_it_is(self, hidden_BLH: Tensor) -> bool:
        """Whether attention's output reaches the sum with the stream as it is.

        It does too where the block norms that sum, as OPT-350M does: shares are of the sum.
        """
        added_BLH = self._passed(torch.zeros_like(hidden_BLH), hidden_BLH)
        if torch.equal(added_BLH, hidden_BLH):
            return True
        # As large as what is added: a norm of the sum would then show.
        stream_BLH = hidden_BLH * (added_BLH.float().norm() / hidden_BLH.float().norm())
        sum_BLH = stream_BLH.float() + added_BLH.float()
        found_BLH = self._passed(stream_BLH.to(hidden_BLH.dtype), hidden_BLH).float()
        return bool((found_BLH - sum_BLH).norm() > 0.05 * sum_BLH.norm())

    def _passed(self, hidden_BLH: Tensor, output: Tensor) -> Tensor:
        """The stream after the block if its projection gave ``output`` and its MLP nothing.

        From a stream of zeros it is what the block makes of the output, without the rounding of a
        difference.
        """
        args, keywords = self._call
        if args:
            args = (hidden_BLH, *args[1:])
        else:
            keywords = {**keywords, next(iter(keywords)): hidden_BLH}
        self._given = output
        try:
            return hidden_of(self._block(*args, **keywords))
        finally:
            self._given = None

    def after_attention(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._given is not None:
            return self._given.reshape(output.shape).clone()
        assert self._hidden_BLH is not None
        stream_TH = self._hidden_BLH.flatten(0, 1).float()
        inputs_TGQ = args[0].reshape(len(stream_TH), self._structure.groups, -1).float()
        weight_HF = self._attention.get_parameter("weight").float()
        weight_GQH = weight_HF.T.reshape(self._structure.groups, inputs_TGQ.shape[2], -1)
        output_TH = output.reshape(stream_TH.shape).float()
        scale_TH: Tensor | None = None
        if not self._plain:
            added_BLH = self._passed(torch.zeros_like(self._hidden_BLH), output)
            added_TH = added_BLH.reshape(output_TH.shape).float()
            scale_TH = torch.where(output_TH == 0, 0, added_TH / output_TH)
            output_TH = added_TH
        stream_TH = stream_TH + output_TH
        size_T = stream_TH.square().mean(dim=1).clamp(min=1e-12)
        for group, (inputs_TQ, weight_QH) in enumerate(
            zip(inputs_TGQ.unbind(1), weight_GQH, strict=True)
        ):
            part_TH = inputs_TQ @ weight_QH
            if scale_TH is not None:
                part_TH *= scale_TH
            energy_T = part_TH.square().sum(dim=1)
            self.groups_G[group] += (energy_T / size_T).sum().cpu()
        self.tokens += len(stream_TH)

    def after_channels(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._given is not None:
            return torch.zeros_like(output)
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
            channels.register_forward_hook(sums.after_channels),
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
