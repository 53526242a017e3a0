"""The prior, the budgets and the flips against brute force on tiny models."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import tiny
import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.models.architecture.decoder import describe
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import LearningInputs
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.structure import Kept, masked_weights, structure_of
from tasks.pruning.core.targets import Fraction
from tasks.pruning.flip_gradient import judge as judge_module
from tasks.pruning.flip_gradient.budget import allocated, fitted
from tasks.pruning.flip_gradient.choice import Choice
from tasks.pruning.flip_gradient.judge import Judge
from tasks.pruning.flip_gradient.method import FlipGradient
from tasks.pruning.flip_gradient.prior import Prior, _Sums, prior
from tasks.pruning.flip_gradient.rounds import Rounds, ranks


def of_tiny() -> tuple[object, Prior]:
    decoder = tiny.decoder("llama")
    return decoder, prior(decoder, LearningInputs(tokens_NL=tiny.tokens(), loss=lambda _: None))  # type: ignore[arg-type, return-value]


def divergence(decoder: object, kept: tuple[Kept, ...], tokens_NL: Tensor) -> float:
    """KL of the model with zeroed weights to the dense one, the plain way, in float64."""
    model = decoder.model  # type: ignore[attr-defined]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        dense = model(input_ids=tokens_NL).logits.double().log_softmax(-1)
        model.load_state_dict(dict(masked_weights(decoder, kept)), strict=False)  # type: ignore[arg-type]
        mine = model(input_ids=tokens_NL).logits.double().log_softmax(-1)
    model.load_state_dict(state)
    return float((dense.exp() * (dense - mine)).sum(-1).mean())


def test_the_prior_is_each_groups_share_of_the_stream() -> None:
    """Against the formula, from activations that plain hooks of the whole model record."""
    decoder, known = of_tiny()
    structure = structure_of(decoder)  # type: ignore[arg-type]
    tokens_NL = tiny.tokens()
    for index, block in enumerate(decoder.blocks):  # type: ignore[attr-defined]
        seen: dict[str, Tensor] = {}
        projection = block.get_submodule(structure.attention_out)
        last = block.get_submodule(structure.channel_out)
        hooks = [
            block.register_forward_pre_hook(lambda _, args, s=seen: s.update(x=args[0])),
            projection.register_forward_hook(
                lambda _, args, out, s=seen: s.update(a=args[0], o=out)
            ),
            last.register_forward_pre_hook(lambda _, args, s=seen: s.update(c=args[0])),
        ]
        with torch.no_grad():
            decoder.model(input_ids=tokens_NL, use_cache=False)  # type: ignore[attr-defined]
        for hook in hooks:
            hook.remove()
        size = (seen["x"] + seen["o"]).double().square().mean(-1)
        width = structure.queries * structure.head_dim
        for group in range(structure.groups):
            part = slice(group * width, (group + 1) * width)
            out = seen["a"][..., part].double() @ projection.weight[:, part].double().T
            share = float((out.square().sum(-1) / size).mean())
            assert known.groups_LG[index, group] == pytest.approx(share, rel=1e-4)
        energy_C = last.weight.double().square().sum(0) * seen["c"].double().square().mean((0, 1))
        ordered = energy_C[known.order_LC[index]]
        assert (ordered[1:] >= ordered[:-1] * (1 - 1e-5)).all()


def made(model_type: str, **changes: object) -> Decoder:
    settings = {
        "vocab_size": tiny.VOCABULARY, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **settings | changes)
    return describe(tiny._made(type(AutoModelForCausalLM.from_config(config)), config))


@pytest.mark.parametrize(
    "decoder",
    [
        made("gemma2", head_dim=8),
        made("gemma3_text", head_dim=8),
        made("granite", residual_multiplier=0.25),
    ],
    ids=["gemma2", "gemma3", "granite"],
)
def test_a_groups_share_is_of_what_the_block_adds(decoder: Decoder) -> None:
    """By what the block gives when its MLP gives nothing: from a stream of zeros, exactly that."""
    tokens_NL = tiny.tokens(4)
    known = prior(decoder, LearningInputs(tokens_NL=tokens_NL, loss=lambda _: None))  # type: ignore[arg-type, return-value]
    structure = structure_of(decoder)
    for index, block in enumerate(decoder.blocks):
        seen: dict[str, Tensor] = {}
        projection = block.get_submodule(structure.attention_out)
        norm = getattr(block, "post_attention_layernorm", None)
        hooks = [
            block.register_forward_pre_hook(lambda _, args, s=seen: s.update(x=args[0])),
            projection.register_forward_hook(
                lambda _, args, out, s=seen: s.update(a=args[0], o=out)
            ),
        ]
        with torch.no_grad():
            decoder.model(input_ids=tokens_NL, use_cache=False)
        for hook in hooks:
            hook.remove()
        if multiplier := getattr(block, "residual_multiplier", None):
            scale = torch.tensor(multiplier)
        else:
            eps = norm.eps  # type: ignore[union-attr]
            root = (seen["o"].double().square().mean(-1, keepdim=True) + eps).rsqrt()
            scale = root * (1 + norm.weight.double())  # type: ignore[union-attr]
        size = (seen["x"].double() + seen["o"].double() * scale).square().mean(-1)
        width = structure.queries * structure.head_dim
        for group in range(structure.groups):
            part = slice(group * width, (group + 1) * width)
            out = seen["a"][..., part].double() @ projection.weight[:, part].double().T
            share = float(((out * scale).square().sum(-1) / size).mean())
            assert known.groups_LG[index, group] == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_that_add_nothing_go_first(dtype: torch.dtype) -> None:
    gemma = made("gemma3_text", head_dim=8)
    gemma.model.to(dtype)
    with torch.no_grad():
        gemma.blocks[1].post_attention_layernorm.weight.fill_(-1.0)  # type: ignore[union-attr]
    granite = made("granite", residual_multiplier=0.0)
    for decoder, blocks in ((gemma, [1]), (granite, [0, 1, 2])):
        known = prior(decoder, LearningInputs(tokens_NL=tiny.tokens(4), loss=lambda _: None))  # type: ignore[arg-type, return-value]
        assert (known.groups_LG == 0).all(dim=1).nonzero()[:, 0].tolist() == blocks
    known = prior(gemma, LearningInputs(tokens_NL=tiny.tokens(4), loss=lambda _: None))  # type: ignore[arg-type, return-value]
    assert Choice.by_prior(known, 1 / 6).groups_LG.sum(1).tolist() == [2, 1, 2]


def test_a_block_that_norms_the_sum_is_judged_by_the_sum() -> None:
    """As OPT-350M's: what it makes of attention's output alone says nothing."""
    config = transformers.OPTConfig(
        hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        vocab_size=tiny.VOCABULARY, word_embed_proj_dim=32, max_position_embeddings=128,
        do_layer_norm_before=False,
    )  # fmt: skip
    decoder = describe(tiny._made(transformers.OPTForCausalLM, config))
    sums = [_Sums(block, structure_of(decoder)) for block in decoder.blocks]
    for block, entry in zip(decoder.blocks, sums, strict=True):
        block.register_forward_pre_hook(entry.before_block, with_kwargs=True)
        entry._attention.register_forward_hook(entry.after_attention)
        entry._channels.register_forward_hook(entry.after_channels)
    with torch.no_grad():
        decoder.model(input_ids=tiny.tokens(2), use_cache=False)
    assert [entry._plain for entry in sums] == [True, True]


def test_the_judge_is_the_divergence_of_the_masked_model() -> None:
    decoder, known = of_tiny()
    tokens_NL = tiny.tokens(3, 16, seed=5)
    choice = Choice.by_prior(known, 0.5)
    with Judge(decoder, Sequences(tokens_NL)) as judge:  # type: ignore[arg-type]
        assert judge(Choice.dense(known)) == pytest.approx(0.0, abs=1e-6)
        found = judge(choice)
    assert judge.tokens == 2 * tokens_NL.numel()
    assert found == pytest.approx(divergence(decoder, choice.kept(), tokens_NL), rel=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "opt"])
def test_a_pass_that_begins_at_a_block_gives_what_a_whole_one_gives(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_module, "_LOGIT_BYTES", 1)  # a window at a time
    decoder = tiny.decoder(architecture)
    known = prior(decoder, LearningInputs(tokens_NL=tiny.tokens(), loss=lambda _: None))  # type: ignore[arg-type, return-value]
    base = Choice.by_prior(known, 0.25)
    passed: list[int] = []
    name = structure_of(decoder).attention_out
    for index, block in enumerate(decoder.blocks):
        block.get_submodule(name).register_forward_pre_hook(lambda *_, i=index: passed.append(i))
    with Judge(decoder, Sequences(tiny.tokens(3, 16, seed=5))) as judge:
        judge.begin(base)
        for block, group in itertools.product(*map(range, known.groups_LG.shape)):
            flipped = base.with_group(block, group, not base.groups_LG[block, group])
            whole = judge(flipped)
            passed.clear()
            assert judge(flipped, since=block) == whole
            assert passed == [*range(block, len(decoder.blocks))] * 3
    passed.clear()
    decoder.model(input_ids=tiny.tokens(1, 16), use_cache=False)
    assert passed == [*range(len(decoder.blocks))], "afterwards all are passed again"


def test_blocks_that_hand_each_other_more_are_all_passed() -> None:
    """As layers that share keys and values do: the last block reads what the first one made."""
    decoder = tiny.decoder("llama")
    known = prior(decoder, LearningInputs(tokens_NL=tiny.tokens(), loss=lambda _: None))  # type: ignore[arg-type, return-value]
    name = structure_of(decoder).attention_out
    first, last = (decoder.blocks[place].get_submodule(name) for place in (0, -1))
    handed: list[Tensor] = []
    first.register_forward_hook(lambda _, args, out: handed.append(out))
    last.register_forward_hook(lambda _, args, out: out + handed.pop() if handed else out)
    base = Choice.by_prior(known, 0.25)
    flipped = base.with_lost(len(decoder.blocks) - 1, 3)
    with Judge(decoder, Sequences(tiny.tokens(2, 16, seed=5))) as judge:
        whole = judge(flipped)
        judge.begin(base)
        assert judge(flipped, since=len(decoder.blocks) - 1) == whole


def test_costs_of_groups_are_differences_of_flips() -> None:
    decoder, known = of_tiny()
    tokens_NL = tiny.tokens(2, 16, seed=6)
    rounds = Rounds(decoder, known, most=0.6)  # type: ignore[arg-type]
    rounds.go_to_(0.25, Sequences(tokens_NL), lambda *_: None)
    assert rounds.costs_LG is not None
    dense = Choice.dense(known)
    for block, group in itertools.product(*map(range, known.groups_LG.shape)):
        expected = divergence(decoder, dense.with_group(block, group, False).kept(), tokens_NL)
        assert float(rounds.costs_LG[block, group]) == pytest.approx(expected, rel=1e-2, abs=1e-6)
    assert rounds.tokens == rounds.flips * tokens_NL.numel()


def test_a_fit_recovers_a_convex_parabola_and_is_never_concave() -> None:
    shares_P = torch.tensor([0.1, 0.6], dtype=torch.float64)

    def losses(a: float, b: float) -> Tensor:
        return a * (shares_P - 0.3) + b * (shares_P.square() - 0.09)

    assert fitted(shares_P, losses(0.4, 1.5), 0.3) == pytest.approx((0.4, 1.5))
    for a, b in ((-1.0, 2.0), (3.0, -2.0), (-1.0, -1.0)):
        found = fitted(shares_P, losses(a, b), 0.3)
        assert min(found) >= 0
        best = min(
            float(
                (x * (shares_P - 0.3) + y * (shares_P.square() - 0.09) - losses(a, b))
                .square()
                .sum()
            )
            for x in torch.linspace(0, 5, 101).tolist()
            for y in torch.linspace(0, 5, 101).tolist()
        )
        mine = losses(*found) - losses(a, b)
        assert float(mine.square().sum()) <= best + 1e-9


def test_the_allocation_is_the_cheapest_of_all() -> None:
    curves = [(0.2, 1.0), (0.0, 3.0), (1.5, 0.1)]

    def cost(lost: tuple[int, ...]) -> float:
        return sum(a * n / 8 + b * (n / 8) ** 2 for (a, b), n in zip(curves, lost, strict=True))

    for total in range(1, 16):
        found = tuple(allocated(curves, 8, total, 0.75))
        every = [lost for lost in itertools.product(range(7), repeat=3) if sum(lost) == total]
        assert sum(found) == total and max(found) <= 6
        assert cost(found) == pytest.approx(min(map(cost, every)))


def test_an_allocation_that_no_block_can_take_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot go"):
        allocated([(0.0, 1.0)] * 2, 4, 7, 1.0)


def test_ranks_count_from_the_lowest() -> None:
    values = torch.tensor([[0.3, 0.1], [0.2, 0.9]])
    assert ranks(values).tolist() == [[2.0, 0.0], [1.0, 3.0]]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_choices_meet_the_budgets_of_both_kinds(share: float) -> None:
    decoder, known = of_tiny()
    rounds = Rounds(decoder, known, most=0.6)  # type: ignore[arg-type]
    rounds.go_to_(share, Sequences(tiny.tokens(2, 8, seed=7)), lambda *_: None)
    for choice in (rounds.choice, Choice.by_prior(known, share)):
        groups = known.groups_LG.numel()
        assert int(choice.groups_LG.sum()) == max(len(known.groups_LG), round((1 - share) * groups))
        assert sum(choice.lost) == round(share * known.order_LC.numel())
        assert choice.groups_LG.any(dim=1).all()


def prune(
    method: FlipGradient, training_NL: Tensor, told: Callable[[int, int], None] | None = None
):
    return driver.prune(
        method,
        tiny.decoder("llama"),
        Fraction(0.25),
        tokens_NL=tiny.tokens(),
        training_NL=training_NL,
        progress=told,
    )


def test_it_is_never_worse_than_its_prior_on_the_text_held_back() -> None:
    seen: list[tuple[int, int]] = []
    method = FlipGradient(tokens=2000, sequence_length=16, round=0.125, validation_tokens=64)
    result = prune(method, tiny.tokens(16, 32, seed=8), lambda *step: seen.append(step))
    assert result.figures["divergence"] <= result.figures["initial_divergence"]
    assert len(result.history) == 2
    assert seen[-1][0] == seen[-1][1]
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)


def test_without_tokens_nothing_is_learned() -> None:
    result = prune(FlipGradient(tokens=0), tiny.tokens(4, 32))
    assert "training_tokens" not in result.figures
    assert result.history == ()


def test_fewer_tokens_than_flips_are_warned_about() -> None:
    with pytest.warns(RuntimeWarning, match="more than the 8 tokens"):
        prune(FlipGradient(tokens=8, sequence_length=8, round=0.25), tiny.tokens(4, 32))


@pytest.mark.parametrize(("tokens", "sizes"), [(959, [1, 1, 2]), (960, [1, 2, 2]), (1, [1, 1, 1])])
@pytest.mark.filterwarnings("ignore:flip_gradient judges")
def test_rounds_spend_what_they_are_given(tokens: int, sizes: list[int]) -> None:
    """What is left where they cannot all have as much goes to the later ones."""
    ids_NL = tiny.tokens(4, 16)
    sequences = Sequences(ids_NL)
    batches = list(FlipGradient(tokens=tokens, sequence_length=16)._batches(sequences, 12, 3))
    assert [len(batch) for batch in batches] == sizes
    text_NL = torch.cat([batch.ids_NL for batch in batches])
    assert torch.equal(text_NL, ids_NL[torch.arange(sum(sizes)) % 4])


def test_a_block_without_which_the_model_overflows_is_never_cheap() -> None:
    shares_P = torch.tensor([0.2, 0.4], dtype=torch.float64)
    broken = fitted(shares_P, torch.tensor([0.1, torch.inf], dtype=torch.float64), 0.0)
    assert allocated([broken, (3.0, 9.0)], 8, 4, 0.75) == [0, 4]
