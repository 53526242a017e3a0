"""Gates against removal, Wanda-SP against its formula, the policy's learning on a tiny model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn import functional

from tasks.models.architecture.decoder import describe
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.gates import gated_loss, plain_loss
from tasks.pruning.core.methods import LearningInputs
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.structure import Kept, Removable, masked_weights
from tasks.pruning.core.targets import Fraction
from tasks.pruning.policy_gradient import bernoulli
from tasks.pruning.policy_gradient.method import PolicyGradient, _batches
from tasks.pruning.policy_gradient.policy import Policy, initial_policy, sigmap
from tasks.pruning.wanda_sp import WandaSP, walk_metrics

SMALL = PolicyGradient(
    grouping="contiguous",
    steps=4,
    masks=3,
    batch_size=2,
    sequence_length=8,
    channel_group=4,
    learning_rate=0.2,
    validation_windows=0,
)


def decoder() -> Decoder:
    return tiny.decoder("llama")


def inputs(found: Decoder) -> LearningInputs:
    return LearningInputs(
        tokens_NL=tiny.tokens(), training_NL=tiny.tokens(seed=1), loss=plain_loss(found)
    )


def kept_at_random(found: Decoder, seed: int) -> tuple[Kept, ...]:
    generator = torch.Generator().manual_seed(seed)
    assert found.structure is not None
    kept = []
    for _ in found.blocks:
        groups = torch.rand(found.structure.groups, generator=generator) < 0.5
        channels = torch.rand(found.structure.channels, generator=generator) < 0.5
        groups[0] = channels[0] = True
        kept.append(Kept(groups, channels))
    return tuple(kept)


@pytest.mark.parametrize("seed", range(3))
def test_gates_compute_what_removal_computes(seed: int) -> None:
    found, tokens = decoder(), tiny.tokens()
    kept = kept_at_random(found, seed)
    groups = torch.stack([entry.groups_G.float() for entry in kept])
    channels = torch.stack([entry.channels_C.float() for entry in kept])
    with gated_loss(found, plain_loss(found)) as loss:
        gated = loss(groups, channels, tokens)
        ungated = loss(torch.ones_like(groups), torch.ones_like(channels), tokens)
    dense = float(plain_loss(found)(tokens))
    found.model.load_state_dict(dict(masked_weights(found, kept)), strict=False)
    assert float(plain_loss(found)(tokens)) == pytest.approx(gated, rel=1e-6)
    assert ungated == pytest.approx(dense, rel=1e-6)
    assert gated != pytest.approx(dense, rel=1e-5)


def test_metric_of_the_first_block_is_the_formula() -> None:
    """By hand, in float64, from what enters the matrices."""
    found, tokens = decoder(), tiny.tokens()
    structure = found.structure
    assert structure is not None
    block = found.blocks[0]
    seen: dict[str, Tensor] = {}
    names = (structure.attention_out, structure.channel_out)
    handles = [
        block.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0].double())
        )
        for name in names
    ]
    found.model(input_ids=tokens)
    for handle in handles:
        handle.remove()

    def column(name: str) -> Tensor:
        energy_I = seen[name].square().sum(dim=1).mean(dim=0)
        return (block.get_submodule(name).weight.double().abs() * energy_I.sqrt()).mean(dim=0)

    attention_I = column(structure.attention_out)
    width = structure.head_dim
    heads = [attention_I[i * width : (i + 1) * width].sum() for i in range(4)]
    groups = torch.stack([(heads[0] + heads[1]) / 2, (heads[2] + heads[3]) / 2])
    found_metrics = walk_metrics(found, tokens, 0.5, inputs(found))
    assert torch.allclose(found_metrics.groups_LG[0].double(), groups, rtol=1e-5)
    assert torch.allclose(
        found_metrics.channels_LC[0].double(), column(structure.channel_out), rtol=1e-5
    )


def test_later_blocks_see_their_predecessors_pruned() -> None:
    found, tokens = decoder(), tiny.tokens()
    dense = walk_metrics(found, tokens, 1.0, inputs(found))
    pruned = walk_metrics(found, tokens, 0.5, inputs(found))
    assert torch.equal(dense.channels_LC[0], pruned.channels_LC[0])
    assert not torch.allclose(dense.channels_LC[1], pruned.channels_LC[1], rtol=1e-3)


def test_sigmap_is_the_authors() -> None:
    metric = torch.tensor([1.0, 2.0, 4.0, 9.0])
    p = 1 / (1 + torch.exp(-(metric - 4.0) / metric.std()))
    assert torch.allclose(sigmap(metric, 0.6), (p + 0.6 - p.mean()).clamp(0, 1), atol=1e-6)
    assert sigmap(torch.tensor([5.0]), 0.7).tolist() == pytest.approx([0.7])
    assert torch.isfinite(sigmap(torch.full((4,), 3.0), 0.5)).all()


@pytest.mark.parametrize("kind", ["wanda_sp", "random", "constant"])
@pytest.mark.parametrize("by_metric", [False, True])
def test_initial_policies_meet_the_budget(kind: str, by_metric: bool) -> None:
    found = decoder()
    policy = initial_policy(
        found, 0.6, torch.Generator().manual_seed(0), inputs(found), kind=kind, sharpness=1.0,
        channel_group=5, by_metric=by_metric, floor=1e-3,
    )  # fmt: skip
    for scores in (policy.groups_FG, policy.channels_FB):
        assert float(scores.sum()) <= 0.6 * scores.numel() + 1e-4
        assert scores.min() >= 1e-3 and scores.max() <= 1 - 1e-3
    sizes = torch.stack([row.bincount(minlength=13) for row in policy.membership_FC])
    assert sizes.sum(dim=1).tolist() == [64] * 3
    assert set(sizes.flatten().tolist()) == {5, 4}, "64 channels in groups of 5: 12 and one of 4"


def test_channels_alike_in_metric_share_a_variable() -> None:
    found = decoder()
    metrics = walk_metrics(found, tiny.tokens(), 0.6, inputs(found))
    policy = initial_policy(
        found, 0.6, torch.Generator(), inputs(found), kind="wanda_sp", sharpness=1.0,
        channel_group=8, by_metric=True, floor=0.0,
    )  # fmt: skip
    for values_C, members_C in zip(metrics.channels_LC, policy.membership_FC, strict=True):
        for group in range(7):
            lower = values_C[members_C > group].max()
            assert values_C[members_C == group].min() >= lower


def test_kept_equals_the_budget_and_spares_every_block() -> None:
    groups_LG = torch.tensor([[0.9, 0.8], [0.7, 0.6], [0.001, 0.002]])
    channels_LB = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    membership = torch.arange(64).expand(3, -1) // 4
    every = Removable(*torch.ones(2, 3, dtype=torch.bool))
    policy = Policy(groups_LG.clone(), channels_LB, membership, every, keep=0.5, floor=1e-3)
    kept = policy.kept(across_layers=True)
    assert sum(int(entry.groups_G.sum()) for entry in kept) == 3
    assert sum(int(entry.channels_C.sum()) for entry in kept) == 96
    assert all(entry.groups_G.any() and entry.channels_C.any() for entry in kept)
    uniform = policy.kept(across_layers=False)
    assert {int(entry.channels_C.sum()) for entry in uniform} == {32}


def test_no_graph_is_built_and_memory_does_not_grow_with_depth() -> None:
    """Tensors that autograd saves, over a gated loss: none, at any depth."""
    saved = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel()
        return tensor

    counts = {}
    for layers in (2, 8):
        found = describe(tiny.llama(num_hidden_layers=layers))
        found.model.requires_grad_(True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            driver.prune(
                SMALL, found, parse_target("0.3"),
                tokens_NL=tiny.tokens(), training_NL=tiny.tokens(seed=1),
            )  # fmt: skip
            counts[layers], saved = saved, 0
            # The same forward pass with a graph, as a control: it saves more, the deeper the more.
            plain_loss(found)(tiny.tokens())
            counts[f"graph {layers}"], saved = saved, 0
    assert counts[2] == counts[8] == 0
    assert counts["graph 8"] > 2 * counts["graph 2"] > 0


def trained_towards_text() -> Decoder:
    """A tiny model that has learned something, so that what is removed matters."""
    model = tiny.llama(num_hidden_layers=2, intermediate_size=32)
    model.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    ids = text()
    for _ in range(60):
        logits = model(input_ids=ids).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return describe(model.eval().requires_grad_(False))


def text(windows: int = 16) -> Tensor:
    """Windows that count upwards from a random start, which is easy to learn."""
    starts = torch.randint(
        0, tiny.VOCABULARY, (windows, 1), generator=torch.Generator().manual_seed(0)
    )
    return (starts + torch.arange(24)) % tiny.VOCABULARY


def test_learning_lowers_the_loss_below_its_initialisation() -> None:
    found, windows = trained_towards_text(), text()
    method = replace(
        SMALL, steps=60, masks=8, batch_size=8, channel_group=2, sequence_length=24,
        learning_rate=0.5, initialisation="random",
    )  # fmt: skip

    def loss_after(method: PolicyGradient) -> float:
        result = driver.prune(
            method, found, Fraction(0.6), seed=1, tokens_NL=windows, training_NL=windows
        )
        assert result.kept is not None
        groups = torch.stack([entry.groups_G.float() for entry in result.kept])
        channels = torch.stack([entry.channels_C.float() for entry in result.kept])
        with gated_loss(found, plain_loss(found)) as loss:
            return loss(groups, channels, windows)

    initial = loss_after(replace(method, steps=0))
    assert loss_after(method) < initial - 0.05


def test_history_and_figures() -> None:
    result = driver.prune(
        SMALL, decoder(), Fraction(0.3), tokens_NL=tiny.tokens(), training_NL=tiny.tokens(seed=1)
    )
    assert [step["step"] for step in result.history] == [1, 2, 3, 4]
    assert all(math.isfinite(step["loss"]) for step in result.history)
    rates = [step["learning_rate"] for step in result.history]
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.2
    assert result.figures["training_tokens"] == 4 * 3 * 2 * 8


def test_losses_that_are_nan_are_dropped() -> None:
    found = decoder()
    calls = iter(range(10_000))

    def sometimes_nan(tokens_NL: Tensor, _: object = None) -> Tensor:
        call = next(calls)
        # All masks of the second step, and one of every other step.
        bad = 3 <= call < 6 or call % 3 == 0
        return torch.tensor(float("nan") if bad else 5.0 + 0.1 * (call % 7))

    result = driver.prune(
        SMALL, found, Fraction(0.3), tokens_NL=tiny.tokens(), training_NL=tiny.tokens(seed=1),
        loss=sometimes_nan,
    )  # fmt: skip
    assert [step["unusable_masks"] for step in result.history] == [1, 3, 1, 1]
    assert "loss" not in result.history[1]
    assert all(math.isfinite(float(w.sum())) for w in result.weights.values())


def test_batches_go_round_every_sequence_in_random_order() -> None:
    windows = Sequences(torch.arange(6 * 16).reshape(6, 16))
    batches = _batches(windows, 4, 8, torch.Generator().manual_seed(0))
    drawn = torch.cat([next(batches).ids_NL for _ in range(3)])
    assert drawn[:, 0].sort().values.tolist() == list(range(0, 96, 8))
    assert drawn[:, 0].tolist() != sorted(drawn[:, 0].tolist())
    with pytest.raises(ValueError, match="sequence_length 32"):
        next(_batches(windows, 4, 32, torch.Generator()))


def test_wanda_sp_keeps_the_same_share_of_every_block() -> None:
    result = driver.prune(WandaSP(), decoder(), Fraction(0.25), tokens_NL=tiny.tokens())
    assert result.kept is not None
    assert {int(entry.channels_C.sum()) for entry in result.kept} == {48}


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_other_architectures_are_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match="LLaMA-like"):
        driver.prune(WandaSP(), tiny.decoder(architecture), Fraction(0.3), tokens_NL=tiny.tokens())


def test_metrics_that_are_not_finite_are_refused() -> None:
    found = decoder()
    assert found.structure is not None
    with torch.no_grad():
        found.blocks[1].get_submodule(found.structure.channel_out).weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layers\.1: a metric is not finite"):
        driver.prune(WandaSP(), found, Fraction(0.3), tokens_NL=tiny.tokens())


def test_one_mask_a_step_learns_from_the_moving_average() -> None:
    def run(steps: int) -> dict[str, Tensor]:
        method = replace(SMALL, masks=1, steps=steps, learning_rate=2.0)
        return driver.prune(
            method, decoder(), Fraction(0.5), tokens_NL=tiny.tokens(), training_NL=tiny.tokens()
        ).weights

    still, moved = run(0), run(6)
    assert any(not torch.equal(still[name], moved[name]) for name in still)


def test_the_best_choice_counts_and_is_judged_on_text_that_was_held_back() -> None:
    model = tiny.llama()
    decoder = describe(model)
    seen: list[torch.Tensor] = []
    plain = plain_loss(decoder)

    def loss(tokens_NL: torch.Tensor, _: object = None) -> torch.Tensor:
        seen.append(tokens_NL.clone())
        return plain(tokens_NL)

    training_NL = tiny.tokens(windows=16, length=16, seed=5)
    method = PolicyGradient(
        steps=6, masks=2, batch_size=2, sequence_length=16, channel_group=4, learning_rate=5.0,
        validation_windows=3, validation_interval=2,
    )  # fmt: skip
    result = driver.prune(
        method, decoder, parse_target("0.3"), tokens_NL=tiny.tokens(), training_NL=training_NL,
        loss=loss,
    )  # fmt: skip
    held_back = training_NL[-3:]
    judged = [batch for batch in seen if batch.shape == held_back.shape]
    assert len(judged) == 1 + 3, "at the start, then every second step"
    assert all(torch.equal(batch, held_back) for batch in judged)
    learned = torch.cat([batch for batch in seen if batch.shape != held_back.shape])
    assert not any((learned == row).all(1).any() for row in held_back)
    losses = [s["validation_loss"] for s in result.history if "validation_loss" in s]
    best = min([*losses, result.figures["initial_validation_loss"]])
    # What comes out has the lowest loss of all that were judged, whatever came last.
    model.load_state_dict(dict(result.weights), strict=False)
    assert float(plain(held_back)) == pytest.approx(best, rel=1e-5)
    assert result.figures["training_tokens"] == 6 * 2 * 2 * 16 + 4 * held_back.numel()


def test_few_windows_hold_back_a_quarter_and_none_the_last_counts() -> None:
    method = PolicyGradient(steps=2, masks=2, batch_size=1, sequence_length=16, channel_group=4)
    for windows, tokens in ((3, 0), (8, 2 * 16 * 2)):
        result = driver.prune(
            method,
            tiny.decoder("llama"),
            parse_target("0.3"),
            tokens_NL=tiny.tokens(),
            training_NL=tiny.tokens(windows=windows, length=16),
        )
        assert result.figures["training_tokens"] == 2 * 2 * 16 + tokens


def distribution(keep: float = 0.5) -> Policy:
    found = decoder()
    options = {"kind": "around-choice", "sharpness": 0.2, "channel_group": 5, "by_metric": True}
    generator = torch.Generator().manual_seed(0)
    return initial_policy(found, keep, generator, inputs(found), floor=1e-3, **options)


@pytest.mark.parametrize("across", [True, False])
def test_draws_meet_the_budget_of_the_choice(across: bool) -> None:
    policy = distribution()
    choice = policy.kept(across_layers=across)

    def sizes(kept: tuple[Kept, ...]) -> tuple[int, int]:
        return sum(int(k.groups_G.sum()) for k in kept), sum(int(k.channels_C.sum()) for k in kept)

    drawn = [policy.sample(torch.Generator().manual_seed(seed), across_layers=across)
             for seed in range(20)]  # fmt: skip
    # Variables of unlike size: what does not fit as a whole is left out, one of 5 at most a layer.
    for kept in drawn:
        assert sizes(kept)[0] == sizes(choice)[0]
        assert 0 <= round(0.5 * 64 * 3) - sizes(kept)[1] < (5 if across else 15)
    masks = {tuple(torch.cat([k.channels_C for k in kept]).tolist()) for kept in drawn}
    assert len(masks) > 15
    again = policy.sample(torch.Generator().manual_seed(3), across_layers=across)
    assert all(
        torch.equal(a.channels_C, b.channels_C) for a, b in zip(again, drawn[3], strict=True)
    )


def test_variables_are_drawn_about_as_often_as_their_scores_say() -> None:
    """And those that certainly stay or go always do."""
    scores_V = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.5, 1.0])
    generator = torch.Generator().manual_seed(0)
    counts_V = torch.zeros(8)
    for _ in range(4000):
        counts_V[bernoulli.ranked(scores_V, generator).topk(4).indices] += 1
    assert (counts_V / 4000 - scores_V).abs().max() < 0.03
    assert (counts_V[0], counts_V[7]) == (0, 4000)


def test_a_policy_survives_its_tensors() -> None:
    policy = distribution()
    again = Policy.of_tensors(policy.tensors(), policy.keep, policy.floor)
    assert torch.equal(again.scores_V, policy.scores_V)
    one, two = (p.sample(torch.Generator().manual_seed(1), across_layers=True)
                for p in (policy, again))  # fmt: skip
    assert all(torch.equal(a.groups_G, b.groups_G) for a, b in zip(one, two, strict=True))


def test_what_is_kept_of_the_learning_is_the_distribution_of_its_choice() -> None:
    """Its likeliest mask is the cell's own, the best one by the text held back."""
    found = decoder()
    method = replace(SMALL, validation_windows=2, validation_interval=2, learning_rate=3.0)
    learning = replace(inputs(found), training_NL=tiny.tokens(12, seed=1))
    chosen = method.choose(found, Fraction(0.5), torch.Generator().manual_seed(0), learning)
    policy = Policy.of_tensors(chosen.distribution, 0.5, method.floor)
    for own, likeliest in zip(chosen.kept, policy.kept(across_layers=True), strict=True):
        assert torch.equal(own.groups_G, likeliest.groups_G)
        assert torch.equal(own.channels_C, likeliest.channels_C)
