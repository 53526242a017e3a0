"""A model cut down computes what the full-size model with the rest set to zero computes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structured import ARCHITECTURES, ids, masked, model_of, parameters_without, random_kept

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.saved.compact import compact_, compact_weights, require_removed
from tasks.models.saved.kept import kept_of_json, kept_to_json
from tasks.pruning.core.structure import Kept

BEAMS = {"num_beams": 3}
SAMPLES = {"do_sample": True, "top_k": 20}
# Gemma 2 caps its attention's logits, which transformers computes in eager mode only.
KINDS = [(kind, "eager" if kind == "gemma2" else "sdpa") for kind in ARCHITECTURES]
KINDS += [(kind, "eager") for kind in ("tied", "qwen2", "opt")]


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_same_logits(kind: str, attention: str) -> None:
    model = model_of(kind, attn_implementation=attention)
    for seed in range(3):
        kept = random_kept(model, seed)
        wanted = masked(model, kept)(ids()).logits
        smaller = compact_(copy.deepcopy(model), kept)
        assert smaller.config._attn_implementation == attention
        assert torch.allclose(smaller(ids()).logits, wanted, rtol=0, atol=1e-4)
        assert not torch.allclose(model(ids()).logits, wanted, rtol=0, atol=1e-2)
        count = sum(parameter.numel() for parameter in smaller.parameters())
        assert count == parameters_without(model, kept)


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_same_logits_whatever_is_kept(seed: int, share: float) -> None:
    model = model_of("tied")
    kept = random_kept(model, seed, share)
    wanted = masked(model, kept)(ids()).logits
    assert torch.allclose(compact_(model, kept)(ids()).logits, wanted, rtol=0, atol=1e-4)


def _generated(model: Any, **options: Any) -> list[list[int]]:
    """With another amount of padding on the left of each prompt."""
    prompts = ids(3, 9)
    attention = torch.ones_like(prompts)
    for row, padding in enumerate((0, 3, 5)):
        prompts[row, :padding], attention[row, :padding] = 2, 0
    torch.manual_seed(0)
    options = {"do_sample": False, "max_new_tokens": 8} | options
    return model.generate(prompts, attention_mask=attention, **options).tolist()


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_generates_the_same_tokens(kind: str, attention: str) -> None:
    model = model_of(kind, attn_implementation=attention)
    kept = random_kept(model, seed=5)
    full, smaller = masked(model, kept), compact_(copy.deepcopy(model), kept)
    wanted = _generated(full)
    assert _generated(smaller, use_cache=False) == _generated(full, use_cache=False) == wanted
    assert _generated(smaller, use_cache=True) == wanted
    assert _generated(smaller, cache_implementation="static") == wanted


@pytest.mark.parametrize("options", [BEAMS, SAMPLES], ids=["beams", "sampling"])
def test_other_ways_to_generate(options: dict[str, Any]) -> None:
    model = model_of("tied")
    kept = random_kept(model, seed=5)
    wanted = _generated(masked(model, kept), **options)
    assert _generated(compact_(model, kept), **options) == wanted


def test_the_cache_holds_the_heads_that_are_left() -> None:
    model = model_of("llama")
    kept = random_kept(model, seed=2)
    heads = [int(entry.groups_G.sum()) for entry in kept]
    assert len(set(heads)) > 1
    cache = compact_(model, kept)(ids(), use_cache=True).past_key_values
    assert [layer.keys.shape[1] for layer in cache.layers] == heads


def test_a_cache_of_the_configuration_s_size_does_not_fit() -> None:
    """The documented limit, which must be an error."""
    from transformers import StaticCache

    model = model_of("llama")
    compact_(model, random_kept(model, seed=2))
    cache = StaticCache(config=model.config, max_cache_len=32)
    cache.early_initialization(2, 3, 16, torch.float32, torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"[Ss]ize|shape|dimension"):
        model(ids(), past_key_values=cache)


@pytest.mark.parametrize("kind", ["tied", "qwen2", "opt"])
def test_bfloat16(kind: str) -> None:
    model = model_of(kind).to(torch.bfloat16)
    kept = random_kept(model, seed=3)
    wanted = masked(model, kept)(ids()).logits
    smaller = compact_(model, kept)
    assert {parameter.dtype for parameter in smaller.parameters()} == {torch.bfloat16}
    difference = (smaller(ids()).logits - wanted).abs().max()
    assert difference <= 0.02 * wanted.abs().max()


def test_all_kept_changes_nothing() -> None:
    model = model_of("qwen2")
    wanted = model(ids()).logits
    compact_(model, random_kept(model, 0, share=1.0))
    assert torch.equal(model(ids()).logits, wanted)


def test_the_model_stays_a_model() -> None:
    model = model_of("tied").requires_grad_(True)
    kept = random_kept(model, seed=1)
    shapes = {name: part.shape for name, part in compact_weights(describe(model), kept).items()}
    assert compact_(model, kept) is model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad and parameter.is_contiguous()
        assert parameter.shape == shapes.get(name, parameter.shape)
    for block in model.model.layers:
        assert block.mlp.up_proj.out_features == block.mlp.up_proj.weight.shape[0]
        assert block.self_attn.o_proj.in_features == block.self_attn.o_proj.weight.shape[1]
    model(ids()).logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    # Widths differ, so heads and channels have no common shape any more; layers are still pruned.
    assert describe(model).structure is None
    assert len(describe(model).layers()) == 21


def test_without_memory() -> None:
    model = model_of("tied")
    kept = random_kept(model, seed=1)
    smaller = compact_(copy.deepcopy(model).to("meta"), kept)
    assert all(parameter.is_meta for parameter in smaller.parameters())
    expected = {name: weight.shape for name, weight in compact_(model, kept).state_dict().items()}
    assert {name: weight.shape for name, weight in smaller.state_dict().items()} == expected


def test_refuses_what_it_does_not_understand(make_model: Any) -> None:
    for kind in ("gpt2", "gpt_neox"):
        model = make_model(kind)
        kept = random_kept(model_of("llama"), 0)
        with pytest.raises(UnsupportedModelError, match="heads and channels are not understood"):
            compact_(model, kept)
    model = model_of("llama")
    kept = random_kept(model, seed=1)
    compact_(model, kept)
    with pytest.raises(UnsupportedModelError, match="of full size"):
        compact_(model, kept)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda kept: kept[:2], "2 blocks are said to keep something and LlamaFor.* has 3"),
        (
            lambda kept: (*kept[:2], Kept(torch.ones(4).bool(), kept[2].channels_C)),
            r"block 2 keeps some of 4 head groups and 40 channels, and LlamaFor.* has 3 and 40",
        ),
        (
            lambda kept: (Kept(kept[0].groups_G, torch.ones(41).bool()), *kept[1:]),
            r"block 0 keeps some of 3 head groups and 41 channels",
        ),
    ],
)
def test_refuses_what_another_model_keeps(change: Any, reason: str) -> None:
    model = model_of("llama")
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(UnsupportedModelError, match=reason):
        compact_(model, change(random_kept(model, seed=0)))
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())


def test_weights_where_nothing_should_be() -> None:
    model = model_of("llama")
    kept = random_kept(model, seed=0)
    full = masked(model, kept)
    require_removed(describe(full), kept)
    removed = int((~kept[1].channels_C).nonzero()[0])
    full.model.layers[1].mlp.down_proj.weight[0, removed] = 0.5
    with pytest.raises(UnsupportedModelError, match=r"mlp\.down_proj of block 1 has weights"):
        require_removed(describe(full), kept)


@given(
    seed=st.integers(0, 2**32), share=st.floats(0, 1), sizes=st.tuples(*[st.integers(1, 99)] * 2)
)
@settings(deadline=None)
def test_kept_survives_json(seed: int, share: float, sizes: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    flags = [[torch.rand(n, generator=generator) <= share for n in sizes] for _ in range(3)]
    for block in flags:
        for part in block:
            part[0] |= not part.any()
    kept = [Kept(*block) for block in flags]
    again = kept_of_json(json.loads(json.dumps(kept_to_json(kept))))
    for one, other in zip(kept, again, strict=True):
        assert torch.equal(one.groups_G, other.groups_G)
        assert torch.equal(one.channels_C, other.channels_C)


def test_kept_is_written_as_ranges() -> None:
    kept = Kept(torch.tensor([True, False, True]), torch.tensor([False, True, True, True, False]))
    assert kept_to_json([kept, kept]) == {
        "groups": 3,
        "channels": 5,
        "blocks": [{"groups": "0,2", "channels": "1-3"}] * 2,
    }
    other = Kept(torch.ones(2).bool(), torch.ones(5).bool())
    for wrong in ([kept, other], []):
        with pytest.raises(ValueError, match="one full size"):
            kept_to_json(wrong)


GOOD = {"groups": "0,2", "channels": "1-3"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "needs groups, channels and blocks"),
        ([GOOD], "needs groups, channels and blocks"),
        ({"groups": 3, "channels": 5}, "needs groups, channels and blocks"),
        ({"groups": "3", "channels": 5, "blocks": [GOOD]}, r"kept\.groups is '3'"),
        ({"groups": 3, "channels": 0, "blocks": [GOOD]}, r"kept\.channels is 0"),
        ({"groups": 3, "channels": 10**12, "blocks": [GOOD]}, r"kept\.channels is 1000"),
        ({"groups": True, "channels": 5, "blocks": [GOOD]}, r"kept\.groups is True"),
        ({"groups": 3, "channels": 5, "blocks": []}, r"kept\.blocks is no list"),
        ({"groups": 3, "channels": 5, "blocks": "0-3"}, r"kept\.blocks is no list"),
        ({"groups": 3, "channels": 5, "blocks": [GOOD, 3]}, r"kept\.blocks\[1\] has no"),
        ({"groups": 3, "channels": 5, "blocks": [{"groups": "0"}]}, r"\[0\]\.channels is 'None'"),
    ],
)
def test_damaged_kept(value: Any, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        kept_of_json(value)


@pytest.mark.parametrize("ranges", ["", "0,", "a", "-1", "1.5", "0-", "0--2", "0 1", "²", [0], 5])
def test_damaged_ranges(ranges: Any) -> None:
    value = {"groups": 3, "channels": 5, "blocks": [GOOD | {"channels": ranges}]}
    with pytest.raises(UnsupportedModelError, match=r"blocks\[0\]\.channels is .*it lists"):
        kept_of_json(value)


@pytest.mark.parametrize("ranges", ["5", "0-5", "3-1", "1,0", "0-2,2", "0,0", "9" * 40])
def test_indices_out_of_range_or_order(ranges: str) -> None:
    value = {"groups": 3, "channels": 5, "blocks": [GOOD | {"channels": ranges}]}
    with pytest.raises(UnsupportedModelError, match="indices rise from 0 to 4, each named once"):
        kept_of_json(value)
