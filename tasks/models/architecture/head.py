"""Splits a causal language model into body and LM head.

Log-likelihoods of a long window need the logits of a few tokens at a time: at a vocabulary of
128 000, those of 2 048 tokens take a gigabyte in float32. The head is the model itself with its
body replaced by the hidden states that are handed in, so that whatever an architecture does after
the body (projection, logit scaling, soft-capping) is its own code.

Shapes: ``B`` windows, ``L`` tokens of a window, ``T`` tokens, ``H`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Body = Callable[[Tensor], Tensor]
"""``ids_BL`` → last hidden states, ``B × L × H``."""
Head = Callable[[Tensor], Tensor]
"""``hidden_TH`` → final logits, ``T × V``, in the model's dtype."""

_PROBE_TOKENS = 8
_HOOK = "_hf_hook"
"""Where Accelerate keeps what it does around a module's forward pass."""
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Relative to the largest logit: products of other shapes are summed in another order."""


class _Given(nn.Module):
    """Stands in for a body: returns the embeddings it is called with as its last hidden states."""

    def __init__(self, body: nn.Module, output: type[Any]) -> None:
        super().__init__()
        # Not as a submodule: this stands for the body's results, not its weights.
        object.__setattr__(self, "body", body)
        self.output = output

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        return self.output(last_hidden_state=inputs_embeds)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Some heads read constants of their body, such as Falcon-H1's multiplier.
            return getattr(self.body, name)


def input_device(model: nn.Module) -> torch.device:
    """Where a model takes its token ids, also one that Accelerate spread over several devices."""
    for module in model.modules():
        # Weights that are offloaded have no device of their own; the hook says where they come to.
        if (hook := module.__dict__.get(_HOOK)) is not None:
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return next(model.parameters()).device


def split_head(model: PreTrainedModel) -> tuple[Body, Head] | None:
    """Split ``model`` and check on a probe that the halves compose to the whole.

    Returns:
        ``(body, head)``, which share the model's weights and leave it unchanged, or None when the
        architecture does not split: then only the model's own forward pass can be trusted.
    """
    device = input_device(model)
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    ids_BL = torch.arange(_PROBE_TOKENS, device=device)[None] * (vocabulary // _PROBE_TOKENS)
    names = {id(module): name for name, module in model.named_modules()}
    with torch.no_grad():
        wanted_BLV = model(input_ids=ids_BL, use_cache=False).logits
        for module in (model.get_decoder(), model.base_model):
            if halves := _split_at(model, names.get(id(module), ""), ids_BL, wanted_BLV[0]):
                return halves
    return None


def _split_at(
    model: PreTrainedModel, name: str, ids_BL: Tensor, wanted_TV: Tensor
) -> tuple[Body, Head] | None:
    """Split at the submodule ``name``; None when that does not give the model's logits."""
    if not name:
        return None
    module = model.get_submodule(name)

    def body(ids_BL: Tensor) -> Tensor:
        return module(input_ids=ids_BL, use_cache=False).last_hidden_state

    try:
        output = module(input_ids=ids_BL, use_cache=False)
        hidden_TH = output.last_hidden_state[0]
        rest = _with_submodule(model, name, _Given(module, type(output)))

        def head(hidden_TH: Tensor) -> Tensor:
            return rest(inputs_embeds=hidden_TH[None], use_cache=False).logits[0]

        # In unequal parts, so that a head that mixes tokens is noticed.
        parts = [head(part_TH) for part_TH in hidden_TH.split([3, _PROBE_TOKENS - 3])]
    except Exception:  # noqa: BLE001 (any architecture may mind being split in its own way)
        return None
    return (body, head) if close_logits(torch.cat(parts), wanted_TV) else None


def _with_submodule(module: nn.Module, name: str, replacement: nn.Module) -> Any:
    """A shallow copy of ``module`` with one submodule replaced; weights are shared."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    if _HOOK in copied.__dict__:
        # Accelerate's forward belongs to the original, and would run that with its own body.
        copied.__dict__.pop("forward", None)
    first, _, rest = name.partition(".")
    inner = module.get_submodule(first)
    copied._modules[first] = _with_submodule(inner, rest, replacement) if rest else replacement
    return copied


def close_logits(given_TV: Tensor, wanted_TV: Tensor) -> bool:
    """Whether logits are the same but for the order in which products were summed."""
    if given_TV.shape != wanted_TV.shape or given_TV.dtype != wanted_TV.dtype:
        return False
    tolerance = _TOLERANCE.get(wanted_TV.dtype, 1e-4)
    # A model that is spread over devices gives all its logits on one and its head's on another.
    given_TV, wanted_TV = given_TV.float(), wanted_TV.to(given_TV.device).float()
    scale = wanted_TV.abs().max().item()
    if not math.isfinite(scale):
        # NaN logits agree with nothing; whoever computes with them says so.
        return False
    return torch.allclose(given_TV, wanted_TV, rtol=0.0, atol=tolerance * scale)
