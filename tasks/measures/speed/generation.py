"""One timed request: a prompt of random tokens and what a model generates after it, greedily.

Prefill reads the whole prompt and takes the logits of its last position only, which give the first
token; decoding then adds one token a step with a key-value cache. An end-of-sequence token stops
nothing, so that every model does the same work. A CUDA device has finished before each reading of
the clock.

Shapes: ``B`` prompts at once, ``L`` tokens of a prompt, ``N`` tokens that decoding adds.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_FIELD = "evaluation.speed_options.prompt_tokens"


@dataclass(frozen=True)
class Request:
    """One request's outcome: ``1 + N`` new tokens a prompt, and what they took."""

    tokens_BN: Tensor
    prefill_seconds: float
    decode_seconds: float


def check_positions(config: PreTrainedConfig, *, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse requests that the model has no positions for; its configuration alone is needed.

    Raises:
        ConfigurationError: for too long a request, or a prompt without a token.
    """
    positions = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    if not isinstance(positions, int):  # ALiBi and state spaces have no last position
        if prompt_tokens < 1:
            raise ConfigurationError(_FIELD, prompt_tokens, "a prompt has at least 1 token")
        return
    room = positions - new_tokens
    if not 1 <= prompt_tokens <= room:
        allowed = f"the model has {positions} positions and new_tokens takes {new_tokens} of them"
        if room > 0:
            allowed += f", so a prompt has 1 to {room} tokens"
        raise ConfigurationError(_FIELD, prompt_tokens, allowed)


def random_prompt(
    model: PreTrainedModel, prompt_tokens: int, batch_size: int, seed: int = 0
) -> Tensor:
    """Token ids, ``B × L``, on the model's device; the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    size = model.config.get_text_config(decoder=True).vocab_size
    shape = (batch_size, prompt_tokens)
    ids_BL = torch.randint(min(vocabulary, size), shape, generator=generator)
    return ids_BL.to(_device(model))


@torch.inference_mode()
def timed_request(model: PreTrainedModel, prompt_BL: Tensor, new_tokens: int) -> Request:
    """Prefill and ``new_tokens`` steps of decoding.

    The tokens are those of ``model.generate(prompt_BL, max_new_tokens=1 + new_tokens)``, greedy,
    without an end-of-sequence token.
    """
    # Some architectures always compute the logits of every position; generate() does, too.
    known = inspect.signature(model.forward).parameters
    last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    clock = _clock(prompt_BL.device)
    start = clock()
    output = model(input_ids=prompt_BL, use_cache=True, **last_only)
    token_B1, cache = output.logits[:, -1:].argmax(dim=-1), output.past_key_values
    del output  # where all positions have logits, they must not lie beside the cache
    first = clock()
    tokens = [token_B1]
    for _ in range(new_tokens):
        output = model(input_ids=token_B1, past_key_values=cache, use_cache=True)
        token_B1 = output.logits[:, -1:].argmax(dim=-1)
        tokens.append(token_B1)
    end = clock()
    return Request(torch.cat(tokens, dim=1), first - start, end - first)


def _device(model: PreTrainedModel) -> torch.device:
    """Where inputs go; a model that is spread over devices moves them on by itself."""
    devices = (parameter.device for parameter in model.parameters())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def _clock(device: torch.device) -> Callable[[], float]:
    """Reads the time once the device has nothing left to do."""

    def after_the_device() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return after_the_device if device.type == "cuda" else time.perf_counter
