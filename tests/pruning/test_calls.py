"""Each block is called as the model calls it, and a walk that differs from the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import tiny
import torch
from support import families
from torch import Tensor, nn

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.pruning.core.blocks import Decoder, walk
from tasks.pruning.core.calls import Call, recorded_calls
from tasks.pruning.core.driver import collect_statistics
from tasks.pruning.core.proof import proven_forms

DIFFERING = [
    *("gemma2", "gemma3_text", "gemma4_text", "vaultgemma", "qwen2", "qwen3", "cohere2", "olmo3"),
    *("exaone4", "ministral", "smollm3", "granite_swa"),
]
"""Families whose blocks differ in mask, in rotary tables or in both."""


@pytest.mark.parametrize("family", DIFFERING)
def test_blocks_get_their_own_masks_and_rotary_tables(family: str) -> None:
    decoder = describe(families.model_of(family))
    tokens_NL = families.windows()
    assert families.worst_difference(decoder, tokens_NL) <= 1e-5
    assert with_the_first_call(decoder, tokens_NL) > 1e-2


@torch.no_grad()
def with_the_first_call(decoder: Decoder, tokens_NL: Tensor) -> float:
    """How far the last block's output is off where each block is called as the first one is."""
    forms = proven_forms(decoder, tokens_NL)
    states: list[Tensor] = []
    for alike in (False, True):
        hidden, calls = recorded_calls(decoder.model, decoder.blocks, tokens_NL, forms)
        for block, call in zip(decoder.blocks, calls, strict=True):
            try:
                hidden = (calls[0] if alike else call).run(block, hidden)
            except RuntimeError:  # of another size even
                return float("inf")
        states.append(hidden)
    return float((states[0] - states[1]).abs().max() / states[0].abs().max())


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_walk_of_plain_models_is_right(architecture: str, dtype: torch.dtype) -> None:
    decoder = tiny.decoder(architecture)
    decoder.model.to(dtype)
    assert families.worst_difference(decoder, tiny.tokens()) <= 1e-5


class Passes(nn.Module):
    """A block that takes its hidden states by name and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, hidden: Tensor, shift: Tensor) -> tuple[Tensor, None]:
        return hidden + self.linear(hidden).tanh() + shift, None


class Toy(nn.Module):
    """A decoder of such blocks; ``between`` is what its loop does before each block."""

    def __init__(self, between: Callable[[int, Tensor], Tensor] = lambda _, hidden: hidden) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(tiny.VOCABULARY, 8)
        self.blocks = nn.ModuleList(Passes() for _ in range(3))
        self.between = between
        self.passes = 0

    def forward(self, input_ids: Tensor, use_cache: bool) -> Tensor:
        assert not use_cache
        self.passes += 1
        hidden = self.embedding(input_ids)
        shifts = [torch.full((1, 1, 8), float(index)) for index in range(3)]
        for index, block in enumerate(self.blocks):
            hidden = self.between(index, hidden)
            hidden, _ = block(hidden=hidden, shift=shifts[index])
        return hidden


def proven(model: Toy) -> None:
    walk(Decoder(model, "blocks"), tiny.tokens(), lambda block: block.run())


def test_hidden_states_by_name_and_tuples() -> None:
    assert families.worst_difference(Decoder(Toy(), "blocks"), tiny.tokens()) == 0


def test_the_proof_is_made_once_for_a_model() -> None:
    model = Toy()
    proven(model)
    first = model.passes
    proven(model)
    assert first == 4  # the model's own, the proof's, two batches'
    assert model.passes == first + 2


def test_a_loop_that_does_more_than_call_blocks_is_refused_where_it_parts() -> None:
    model = Toy(lambda index, hidden: hidden * 1.5 if index == 2 else hidden)
    with pytest.raises(UnsupportedModelError, match=r"Toy cannot .* after blocks\.2 .* 1e-05"):
        proven(model)


def test_a_huge_first_token_hides_no_other_token() -> None:
    """Trained models have one; next to it a wrong mask on all other tokens is small."""

    def between(index: int, hidden: Tensor) -> Tensor:
        factor = torch.ones(hidden.shape[1], 1)
        if index == 0:
            factor[0] = 1e6
        if index == 2:
            factor[1:] = 1.001
        return hidden * factor

    with pytest.raises(UnsupportedModelError, match=r"after blocks\.2"):
        proven(Toy(between))


def test_a_difference_below_the_tolerance_is_none() -> None:
    proven(Toy(lambda index, hidden: hidden * (1 + 1e-6) if index == 2 else hidden))


def test_a_block_that_runs_twice_is_refused() -> None:
    model = Toy()
    model.blocks[1].register_forward_hook(lambda block, args, kwargs, out: None, with_kwargs=True)
    inner = model.forward

    def twice(input_ids: Tensor, use_cache: bool) -> Tensor:
        inner(input_ids, use_cache)
        return inner(input_ids, use_cache)

    model.forward = twice
    with pytest.raises(UnsupportedModelError, match="block 0 runs after block 2"):
        proven(model)


def test_a_block_that_remembers_its_last_run_is_refused() -> None:
    model = Toy()
    runs = iter(range(100))

    def remember(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"hidden": kwargs["hidden"] + 0.1 * next(runs)}

    model.blocks[1].register_forward_pre_hook(remember, with_kwargs=True)
    with pytest.raises(UnsupportedModelError, match=r"after blocks\.1 the hidden states"):
        proven(model)


def test_a_block_that_writes_into_its_arguments_is_refused() -> None:
    model = Toy()

    def write(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        kwargs["shift"].mul_(1)

    model.blocks[1].register_forward_pre_hook(write, with_kwargs=True)
    with pytest.raises(UnsupportedModelError, match="writes into what it is called with"):
        proven(model)


def test_a_layer_that_does_not_see_each_token_once_is_refused() -> None:
    model = Toy()
    model.blocks[2].unused = nn.Linear(8, 8)
    with pytest.raises(UnsupportedModelError, match=r"blocks\.2\.unused is called with no rows"):
        proven(model)


class Placed(Passes):
    """A block with a layer for what the model tells of positions, ``P × 8``."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Linear(8, 8)

    def forward(self, hidden: Tensor, shift: Tensor) -> tuple[Tensor, None]:
        return super().forward(hidden, self.places(shift[1:]).mean(0))


@pytest.mark.parametrize("changes", [False, True])
def test_what_is_of_no_token_is_alike_in_every_window_or_refused(changes: bool) -> None:
    model = Toy()
    model.blocks = nn.ModuleList(Placed() for _ in range(3))

    def forward(input_ids: Tensor, use_cache: bool) -> Tensor:
        assert not use_cache
        hidden, table = model.embedding(input_ids), model.embedding.weight[:5]
        table = table + hidden.mean() if changes else table
        for block in model.blocks:
            hidden, _ = block(hidden=hidden, shift=table)
        return hidden

    model.forward = forward
    decoder, tokens_NL = Decoder(model, "blocks"), tiny.tokens()
    if changes:
        with pytest.raises(UnsupportedModelError, match=r"places .* changes from window to window"):
            collect_statistics(decoder, tokens_NL)
        return
    statistics = collect_statistics(decoder, tokens_NL)["blocks.1.places"]
    assert (statistics.windows, statistics.tokens) == (0, 4 * len(tokens_NL))
    energy_I = len(tokens_NL) * model.embedding.weight[1:5].square().sum(0)
    torch.testing.assert_close(statistics.energy_I, energy_I)


def test_what_fails_block_by_block_is_refused_with_the_error() -> None:
    model = Toy()
    for block in model.blocks:
        block.forward = partial(returning_a_sum, block.forward)
    model.forward = partial(adding_the_second, model)
    with pytest.raises(UnsupportedModelError, match=r"Toy cannot .*: TypeError"):
        proven(model)


def returning_a_sum(
    inner: Callable[..., Any], hidden: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    after, _ = inner(hidden, shift)
    return after, after.sum()


def adding_the_second(model: Toy, input_ids: Tensor, use_cache: bool) -> Tensor:
    hidden = model.embedding(input_ids)
    for block in model.blocks:
        hidden, total = block(hidden=hidden, shift=torch.zeros(1))
        hidden = hidden + total
    return hidden


def test_values_that_are_not_finite_are_the_methods_business() -> None:
    decoder = tiny.decoder("llama")
    decoder.blocks[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    walk(decoder, tiny.tokens(), lambda block: block.run())


def test_forwards_come_back() -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    decoder = tiny.decoder("llama")
    add_hook_to_module(decoder.blocks[1], AlignDevicesHook(torch.device("cpu")))
    before = decoder.blocks[1].forward
    assert families.worst_difference(decoder, tiny.tokens()) <= 1e-5
    assert decoder.blocks[1].forward is before
    assert "forward" not in decoder.blocks[0].__dict__


def test_one_tensor_stays_one_on_another_device() -> None:
    mask, state = torch.zeros(2, 2), {"kept": torch.ones(1)}
    calls = [Call(None, (mask,), {"tables": (mask, None), "state": state}) for _ in range(2)]
    memo: dict[int, Any] = {}
    first, second = (call.to(torch.device("meta"), memo) for call in calls)
    assert first.arguments[0].device.type == "meta"
    assert first.arguments[0] is second.arguments[0] is first.keywords["tables"][0]
    assert first.keywords["state"] is second.keywords["state"]
    assert first.keywords["state"]["kept"].device.type == "meta"


def test_batches_share_what_is_equal_and_nothing_else() -> None:
    like = Call(None, (torch.zeros(2),), {"tables": (torch.ones(2), torch.ones(3))})
    state = {"kept": torch.ones(1)}
    call = Call(None, (torch.zeros(2),), {"tables": (torch.ones(2), torch.ones(4)), "state": state})
    shared = call.sharing(like, {})
    assert shared.arguments[0] is like.arguments[0]
    assert shared.keywords["tables"][0] is like.keywords["tables"][0]
    assert shared.keywords["tables"][1] is call.keywords["tables"][1]
    assert shared.keywords["state"] is state


def test_the_proof_looks_past_the_sliding_window() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": tiny.VOCABULARY}
    seen: list[int] = []

    def see(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["input_ids"].shape[1])

    for window, expected in ((200, 232), (300, 128), (None, 128)):
        model = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=window)).eval()
        model.register_forward_pre_hook(see, with_kwargs=True)
        proven_forms(describe(model), tiny.tokens(2, 256))
        assert seen[-1] == expected
