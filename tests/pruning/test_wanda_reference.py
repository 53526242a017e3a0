"""Wanda against a slow and obvious reference that knows no walk.

Each block's inputs are taken from the model's own forward pass over all windows: the whole model
runs once for block 0; block 0 is pruned; the whole model runs again for block 1; and so on. Each
expert of a mixture is run on each of its own tokens, one at a time.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from support import families
from torch import Tensor, nn

from tasks.models.architecture.decoder import describe
from tasks.pruning.core import driver
from tasks.pruning.core.layers import LinearLayer
from tasks.pruning.core.targets import Fraction
from tasks.pruning.wanda import Wanda

MIXTURES = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v3", "granitemoe"]


@torch.no_grad()
def inputs_of(
    model: nn.Module, layers: dict[str, LinearLayer], tokens_NL: Tensor
) -> dict[str, Tensor]:
    """What enters each layer when the whole model runs, ``T × I``, one window at a time."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        return lambda _, args: seen[name].append(args[0].flatten(0, -2).double())

    hooks = [
        layer.module.register_forward_pre_hook(keep(name))
        for name, layer in layers.items()
        if layer.expert is None
    ]
    mixtures = {layer.module: name for name, layer in layers.items() if layer.expert is not None}
    for module, name in mixtures.items():
        where = name.rsplit(".", 2)[0]
        hooks.append(module.register_forward_pre_hook(partial(each_on_its_own, seen, where)))
    for ids_L in tokens_NL:
        model(input_ids=ids_L[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(inputs) for name, inputs in seen.items() if inputs}


def each_on_its_own(
    seen: dict[str, list[Tensor]], where: str, experts: Any, args: tuple[Tensor, ...]
) -> None:
    """Run each token through each of its experts, alone, and note what the two matrices see."""
    hidden_TH, chosen_TK, _ = args
    for hidden_H, chosen_K in zip(hidden_TH, chosen_TK, strict=True):
        for expert in chosen_K.tolist():
            weight = experts.gate_up_proj[expert]
            if type(experts).__name__ == "GptOssExperts":
                both = hidden_H @ weight + experts.gate_up_proj_bias[expert]
                gate = both[::2].clamp(max=experts.limit)
                up = both[1::2].clamp(min=-experts.limit, max=experts.limit)
                inner = (up + 1) * gate * torch.sigmoid(experts.alpha * gate)
            else:
                gate, up = (weight @ hidden_H).chunk(2)
                inner = gate * torch.sigmoid(gate) * up
            seen[f"{where}.gate_up_proj.{expert}"].append(hidden_H[None].double())
            seen[f"{where}.down_proj.{expert}"].append(inner[None].double())


@pytest.mark.parametrize(
    "family", ["llama", "gemma3_text", "qwen3", "gpt_neox", "gpt2", "opt", *MIXTURES]
)
def test_masks_are_those_of_the_models_own_forward_passes(family: str) -> None:
    model = families.model_of(family)
    decoder = describe(model)
    tokens_NL = families.windows()
    pruned = driver.prune(Wanda(), decoder, Fraction(0.5), tokens_NL=tokens_NL).weights
    reference = describe(copy.deepcopy(model))
    for index in range(len(decoder.blocks)):
        block = f"{decoder.blocks_name}.{index}."
        layers = {n: layer for n, layer in reference.layers().items() if n.startswith(block)}
        for name, inputs_TI in inputs_of(reference.model, layers, tokens_NL).items():
            layer = layers[name]
            score_OI = layer.weight_OI.double().abs() * inputs_TI.square().sum(0).sqrt()
            ordered_OI = score_OI.sort(dim=1).values
            half = ordered_OI.shape[1] // 2
            highest_out, lowest_in = ordered_OI[:, half - 1, None], ordered_OI[:, half, None]
            zero = layer.within(pruned[layer.parameter_of(name)]) == 0
            zero_OI = zero.T if layer.transposed else zero
            # What lies this near to the border may fall on either side of it in float32.
            out_OI = score_OI < lowest_in * (1 - 1e-5)
            in_OI = score_OI > highest_out * (1 + 1e-5)
            assert zero_OI[out_OI].all(), name
            assert not zero_OI[in_OI].any(), name
            assert zero_OI.sum(dim=1).eq(half).all(), name
            assert (out_OI | in_OI).float().mean() > 0.99, name
            layer.stored.masked_fill_(zero, 0.0)
