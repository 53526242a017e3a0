"""Switches heads and channels on and off inside a running model, without touching its weights.

A gate multiplies what enters the attention's output projection and what leaves the MLP's
activation: 0 gives exactly what the model computes with that group or channel removed.

Shapes: ``L`` blocks, ``G`` key/value groups, ``C`` channels, ``N`` windows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.sequences import predicted, predicting
from tasks.pruning.core.structure import structure_of


class Loss(Protocol):
    """Token windows → a scalar: the mean negative log-likelihood of a predicted token under the
    model, or what :func:`hidden_distance` tells of an encoder."""

    def __call__(self, tokens_NL: Tensor, counted_NL: Tensor | None = None, /) -> Tensor:
        """
        Args:
            counted_NL: tokens that the mean is taken over; None: all.
        """
        ...


class GatedLoss(Protocol):
    """The loss with gates."""

    def __call__(
        self,
        groups_LG: Tensor,
        channels_LC: Tensor,
        tokens_NL: Tensor,
        counted_NL: Tensor | None = None,
        /,
    ) -> float: ...


def plain_loss(decoder: Decoder) -> Loss:
    """The loss from the logits of all tokens at once; an encoder's is its distance from itself."""
    if decoder.encoder:
        return hidden_distance(decoder.model)

    def loss(tokens_NL: Tensor, counted_NL: Tensor | None = None) -> Tensor:
        ids = tokens_NL.long().to(next(decoder.model.parameters()).device)
        logits_TV = predicting(decoder.model(input_ids=ids, use_cache=False).logits, counted_NL)
        return functional.cross_entropy(logits_TV.float(), predicted(ids, counted_NL))

    return loss


def hidden_distance(model: nn.Module) -> Loss:
    """How far an encoder's last hidden states are from those that it has now.

    Σ‖h − h′‖² / Σ‖h‖² over the tokens of the windows: 0 for the model as it is, and about 1 where
    nothing is left of it. What hooks change later counts; a change of its weights would not, as the
    copy that remembers how it was shares them.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    dense = copy.deepcopy(model, shared)
    known: list[Tensor] = []

    def states(of: nn.Module, ids_NL: Tensor) -> Tensor:
        return of(input_ids=ids_NL, use_cache=False).last_hidden_state.float()

    def loss(tokens_NL: Tensor, counted_NL: Tensor | None = None) -> Tensor:
        if counted_NL is not None:
            raise ValueError("an encoder learns from all hidden states: it predicts no token")
        ids_NL = tokens_NL.long().to(next(model.parameters()).device)
        # All masks of a step are judged on the same windows.
        if not known or not torch.equal(known[0], ids_NL):
            known[:] = ids_NL, states(dense, ids_NL)
        wanted_NLH = known[1]
        return (states(model, ids_NL) - wanted_NLH).square().sum() / wanted_NLH.square().sum()

    return loss


@contextmanager
def gated_loss(decoder: Decoder, loss: Loss) -> Iterator[GatedLoss]:
    """A function that evaluates ``loss`` with gates; no graph for autograd is ever built."""
    structure = structure_of(decoder)
    factors: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * factors[module], *args[1:])

    pairs = [
        (block.get_submodule(structure.attention_out), block.get_submodule(structure.channel_out))
        for block in decoder.blocks
    ]

    @torch.no_grad()
    def evaluate(
        groups_LG: Tensor,
        channels_LC: Tensor,
        tokens_NL: Tensor,
        counted_NL: Tensor | None = None,
    ) -> float:
        for (attention, mlp), groups_G, channels_C in zip(
            pairs, groups_LG, channels_LC, strict=True
        ):
            factors[attention] = structure.query_features(groups_G).to(attention.weight)  # type: ignore[arg-type]
            factors[mlp] = channels_C.to(mlp.weight)  # type: ignore[arg-type]
        return float(loss(tokens_NL, counted_NL))

    handles = [module.register_forward_pre_hook(hook) for pair in pairs for module in pair]
    try:
        yield evaluate
    finally:
        for handle in handles:
            handle.remove()
