"""What each expert of a mixture is called with: the tokens that the router sends there.

transformers keeps a layer's experts in two tensors and runs them in ways that no hook sees into.
Their inputs are computed here once more, from what the module is called with: ``T × H`` hidden
states, the experts of each token ``T × K`` and their factors ``T × K``.

Shapes: ``T`` tokens, ``R`` tokens that one expert is sent, ``H`` hidden size, ``K`` experts of a
token, ``E`` experts, ``O × I`` of a matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.pruning.core import masks
from tasks.pruning.core.layers import LinearLayer, expert_tensors
from tasks.pruning.core.notes import FEWEST_TOKENS, MEDIAN_TOKENS, WITHOUT_TOKENS
from tasks.pruning.core.refusals import UnsupportedModelError
from tasks.pruning.core.targets import Target


@dataclass(frozen=True)
class Sent:
    """What one expert is sent.

    Attributes:
        expert: its number.
        batch: tokens of the batch.
        tokens_R: which tokens of the batch.
        choice_R: as which of the token's experts.
        inputs: tensor name → its inputs, ``R × I``.
    """

    expert: int
    batch: int
    tokens_R: Tensor
    choice_R: Tensor
    inputs: Mapping[str, Tensor]


def sent_to_experts(
    experts: nn.Module, args: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Iterator[Sent]:
    """For every expert, those without a token too, what it is called with.

    Args:
        args, keywords: of the module's call.

    Raises:
        UnsupportedModelError: it is called with something else.
    """
    hidden_TH, chosen_TK, _ = _called_with(args, keywords)
    entering, leaving = expert_tensors(experts)
    for expert in range(len(getattr(experts, leaving))):
        tokens_R, choice_R = torch.where(chosen_TK == expert)
        inputs_RI = hidden_TH[tokens_R]
        inner_RO = _product(experts, entering, expert, inputs_RI)
        inner_RI = experts._apply_gate(inner_RO) if experts.has_gate else experts.act_fn(inner_RO)  # type: ignore[operator]
        inputs = {entering: inputs_RI, leaving: inner_RI}
        yield Sent(expert, len(hidden_TH), tokens_R, choice_R, inputs)


def prune_without_tokens(weight_OI: Tensor, target: Target) -> Tensor:
    """By magnitude: of an expert that no calibration token reached only its weights are known."""
    pruned_OI = masks.lowest(weight_OI.abs().float(), target, zero_OI=weight_OI == 0)
    return weight_OI.masked_fill(pruned_OI, 0)


def told_of_experts(layers: Sequence[tuple[LinearLayer, int]]) -> dict[str, float]:
    """Warn of experts that no token reached; figures of how many tokens reached the others.

    Args:
        layers: the pruned ones, each with the tokens that it saw; those of no expert count for
            nothing.
    """
    seen = {
        (layer.module, layer.expert): tokens for layer, tokens in layers if layer.expert is not None
    }
    figures: dict[str, float] = {}
    if reached := [tokens for tokens in seen.values() if tokens]:
        figures |= {FEWEST_TOKENS: float(min(reached)), MEDIAN_TOKENS: float(median_low(reached))}
    if experts := len(seen) - len(reached):
        warnings.warn(
            f"no calibration token reached {experts} experts; they are pruned by the magnitude of "
            "their weights. More calibration windows reach more",
            RuntimeWarning,
            stacklevel=2,
        )
        figures[WITHOUT_TOKENS] = float(experts)
    return figures


@contextmanager
def experts_watched(
    layers: Mapping[str, LinearLayer], take: Callable[[str, Tensor, Sent], None]
) -> Iterator[None]:
    """While a block runs, ``take`` is called with each expert layer's name, inputs and tokens.

    Args:
        layers: by name; those that are no expert's are not looked at.
    """
    names: dict[nn.Module, dict[tuple[str, int], str]] = {}
    for name, layer in layers.items():
        if layer.expert is not None:
            tensor = layer.parameter.rpartition(".")[2]
            names.setdefault(layer.module, {})[tensor, layer.expert] = name

    def hook(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        for sent in sent_to_experts(module, args, keywords):
            for tensor, inputs_RI in sent.inputs.items():
                if name := names[module].get((tensor, sent.expert)):
                    take(name, inputs_RI, sent)

    with ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def require_as_sent(
    experts: nn.Module,
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
    output: Tensor,
    tokens: int,
) -> None:
    """Check that what :func:`sent_to_experts` finds makes the module's own output.

    Args:
        args, keywords, output: of the module's call.
        tokens: of the batch.

    Raises:
        UnsupportedModelError: it does not.
    """
    hidden_TH, _, factors_TK = _called_with(args, keywords)
    if len(hidden_TH) != tokens:
        raise UnsupportedModelError(
            f"its experts are called with {len(hidden_TH)} of {tokens} tokens"
        )
    mine_TH = torch.zeros_like(hidden_TH)
    _, leaving = expert_tensors(experts)
    for sent in sent_to_experts(experts, args, keywords):
        out_RH = _product(experts, leaving, sent.expert, sent.inputs[leaving])
        factors_R1 = factors_TK[sent.tokens_R, sent.choice_R, None]
        mine_TH.index_add_(0, sent.tokens_R, (out_RH * factors_R1).to(mine_TH.dtype))
    allowed = 1e-4 if output.dtype in (torch.float32, torch.float64) else 3e-2
    away = (mine_TH - output.view_as(mine_TH)).abs().max()
    if not away <= allowed * output.abs().max():
        raise UnsupportedModelError("its experts compute something else than their two products")


def _called_with(
    args: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    values = [*args, *keywords.values()]
    if len(values) != 3 or not all(isinstance(value, Tensor) for value in values):
        raise UnsupportedModelError("its experts are not called with tokens, choices and factors")
    hidden_TH, chosen_TK, factors_TK = values
    if not (hidden_TH.ndim == 2 and len(hidden_TH) == len(chosen_TK)) or (
        chosen_TK.is_floating_point() or chosen_TK.shape != factors_TK.shape
    ):
        raise UnsupportedModelError("its experts are not called with tokens, choices and factors")
    return hidden_TH, chosen_TK, factors_TK


def _product(experts: nn.Module, tensor: str, expert: int, inputs_RI: Tensor) -> Tensor:
    weight = getattr(experts, tensor)[expert]
    bias_O = getattr(experts, f"{tensor}_bias")[expert] if experts.has_bias else None
    return functional.linear(inputs_RI, weight.T if experts.is_transposed else weight, bias_O)
