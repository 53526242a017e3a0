"""Wanda against a slow and obvious reference that knows no walk.

Each block's inputs are taken from the model's own forward pass over all windows: the model runs
for block 0; block 0 is pruned; the model runs again from its start for block 1; and so on. Each
expert of a mixture is run on each of its own tokens, one at a time.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from support import families
from torch import Tensor, nn
from transformers import PreTrainedModel

from configs.trust import Trust
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model, load_tokenizer
from tasks.models.prepare import prepare
from tasks.models.sources.aliases import ALIASES
from tasks.models.sources.sources import resolve_model
from tasks.pruning.core import driver
from tasks.pruning.core.layers import LinearLayer
from tasks.pruning.core.targets import Fraction
from tasks.pruning.wanda import Wanda

MIXTURES = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v3", "granitemoe"]


class _BehindError(Exception):
    """What is looked at has run; the rest of the model changes nothing."""


@torch.no_grad()
def inputs_of(
    model: nn.Module, block: nn.Module, layers: dict[str, LinearLayer], tokens_NL: Tensor
) -> dict[str, Tensor]:
    """What enters each layer of a block when the model runs, ``T × I``, one window at a time."""

    def stop(*_: Any) -> None:
        raise _BehindError

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
    hooks.append(block.register_forward_hook(stop))
    for ids_L in tokens_NL:
        with pytest.raises(_BehindError):
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


def require_the_references_masks(
    model: PreTrainedModel, run: nn.Module, tokens_NL: Tensor, border: float
) -> None:
    """Prune ``model`` and check every mask.

    Args:
        run: what of the model is run on token ids: all of it, or its body without the head.
        border: part of a score within which a weight may fall on either side of the cut.
    """
    decoder = describe(model)
    pruned = driver.prune(Wanda(), decoder, Fraction(0.5), tokens_NL=tokens_NL).weights
    for index, block in enumerate(decoder.blocks):
        # From here on what is pruned stays pruned, and the next block sees it.
        own = f"{decoder.blocks_name}.{index}."
        layers = {n: layer for n, layer in decoder.layers().items() if n.startswith(own)}
        for name, inputs_TI in inputs_of(run, block, layers, tokens_NL).items():
            layer = layers[name]
            score_OI = layer.weight_OI.double().abs() * inputs_TI.square().sum(0).sqrt()
            half = score_OI.shape[1] // 2
            highest_out, lowest_in = (
                score_OI.kthvalue(rank, dim=1, keepdim=True).values for rank in (half, half + 1)
            )
            zero = layer.within(pruned[layer.parameter_of(name)]) == 0
            zero_OI = zero.T if layer.transposed else zero
            out_OI = score_OI < lowest_in * (1 - border)
            in_OI = score_OI > highest_out * (1 + border)
            assert zero_OI[out_OI].all(), name
            assert not zero_OI[in_OI].any(), name
            assert zero_OI.sum(dim=1).eq(half).all(), name
            assert (out_OI | in_OI).float().mean() > 0.99, name
            layer.stored.masked_fill_(zero, 0.0)


@pytest.mark.parametrize(
    "family", ["llama", "gemma3_text", "qwen3", "gpt_neox", "gpt2", "opt", *MIXTURES]
)
def test_masks_are_those_of_the_models_own_forward_passes(family: str) -> None:
    model = families.model_of(family)
    require_the_references_masks(model, model, families.windows(), 1e-5)


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("alias", ["smollm2-135m", "gemma3-270m"])
def test_so_they_are_on_real_weights(
    alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 3 alternates sliding and global layers, each with a rotary base of its own."""
    if any(find_spec(file.partition("/")[0]) is None for file in ALIASES[alias].files):
        pytest.skip(f"{' '.join(ALIASES[alias].packages)} are not installed")
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    source = resolve_model(alias, field="models", base=Path(), trust=Trust(), digest_cache=None)
    folder = tmp_path / "model"
    prepare(source, folder)
    model = load_model(folder, torch.float32, torch.device("cpu"), Trust())
    text = "The lighthouse keeper counts the boats that the fog has hidden since the morning. "
    ids = load_tokenizer(folder, Trust())(text * 20)["input_ids"]
    tokens_NL = torch.tensor(ids[:128]).view(2, 64)
    require_the_references_masks(model, model.base_model, tokens_NL, 1e-4)
