"""AST as a whole, on tiny models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn import functional

from tasks.models.architecture.head import split_head
from tasks.pruning.ast import distillation
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.ast.optimiser import StepSize
from tasks.pruning.ast.student import Student
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.retraining import LocalEngine
from tasks.pruning.core.targets import Fraction, SemiStructured

HALF = SemiStructured(2, 4)
SHORT = AdaptiveSparseTrainer(
    steps=8, batch=3, micro_batch=2, learning_rate=2e-3, mask_interval=2, decay_max=1e-2
)
NAIVE = replace(SHORT, mask="fixed", decay="none", distillation=False)


def run(
    method: AdaptiveSparseTrainer = SHORT,
    architecture: str = "llama",
    target: SemiStructured = HALF,
    seed: int = 0,
) -> tuple[Decoder, PruneResult]:
    decoder = tiny.decoder(architecture)
    result = method.retrain(decoder, target, tiny.tokens(8, 24), seed=seed, split=split_head)
    return decoder, result


def kept_per_group(decoder: Decoder, name: str, weight: Tensor, group: int) -> Tensor:
    weight_OI = weight.T if decoder.layers()[name].transposed else weight
    return weight_OI.reshape(weight_OI.shape[0], -1, group).ne(0).sum(-1)


@pytest.mark.parametrize("slorb", [False, True])
@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_layers_end_exactly_masked_and_everything_is_trained(
    architecture: str, slorb: bool
) -> None:
    decoder, result = run(replace(SHORT, slorb=slorb, slorb_group=8), architecture)
    state = decoder.model.state_dict()
    names = {name for name, _ in decoder.model.named_parameters(remove_duplicate=False)}
    assert result.weights.keys() == names
    for name, weight in result.weights.items():
        assert not torch.equal(weight, state[name]), name
        assert weight.dtype == state[name].dtype
        assert weight.is_contiguous()
    for name in decoder.layers():
        assert kept_per_group(decoder, name, result.weights[f"{name}.weight"], 4).eq(2).all()
    assert len(result.branches) == (2 * len(decoder.layers()) if slorb else 0)


@pytest.mark.parametrize("target", [(1, 4), (3, 4), (4, 8), (1, 2)])
def test_any_keep_of_any_group(target: tuple[int, int]) -> None:
    decoder, result = run(replace(SHORT, steps=3), target=SemiStructured(*target))
    for name in decoder.layers():
        weight = result.weights[f"{name}.weight"]
        assert kept_per_group(decoder, name, weight, target[1]).eq(target[0]).all()


def test_the_mask_keeps_the_largest_of_each_group_after_every_update() -> None:
    decoder = tiny.decoder("gpt2")
    student = Student(decoder, HALF, torch.device("cpu"), weight_decay=0.1, slorb_group=None)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 6):
        for parameter in student.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        student.step_(StepSize(step, 5e-2, 1e-2), 1.0)
        flips = student.remask_()
        assert 0 < flips < 0.5
        for name, layer in student.layers.items():
            variable = student.variables[f"{name}.weight"]
            assert variable.kept is not None
            assert variable.kept.dtype == torch.bool
            kept_OI = variable.kept.T if layer.transposed else variable.kept
            value_OI = variable.value.T if layer.transposed else variable.value
            groups = value_OI.abs().reshape(-1, 4)
            kept = kept_OI.reshape(-1, 4)
            assert kept.sum(1).eq(2).all()
            smallest = groups.masked_fill(~kept, torch.inf).min(1).values
            assert (smallest >= groups.masked_fill(kept, 0).max(1).values).all()
            assert torch.equal(layer.stored, variable.value * variable.kept)


def test_the_straight_through_gradient_reaches_every_dense_weight() -> None:
    """One step equals autograd through W + (W⊙M − W).detach(), pruned weights included."""
    decoder = tiny.decoder("llama")
    method = replace(SHORT, steps=1, weight_decay=0.0, clip=1e9, distillation=False)
    name = "model.layers.1.mlp.up_proj"
    dense = decoder.layers()[name].weight_OI.clone().requires_grad_()
    student = Student(decoder, HALF, torch.device("cpu"), weight_decay=0.0, slorb_group=None)
    kept = student.variables[f"{name}.weight"].kept
    through = dense + (dense * kept - dense).detach()
    ids = tiny.tokens(8, 24)[:3]
    logits = torch.func.functional_call(
        student.model, {f"{name}.weight": through}, (), {"input_ids": ids, "use_cache": False}
    ).logits
    functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    assert dense.grad is not None
    seen: dict[str, Tensor] = {}

    class Engine(LocalEngine):
        def sum_(self, tensors: object) -> None:
            names = [n for n, _ in decoder.model.named_parameters()]
            seen.update(zip(names, tensors, strict=False))  # type: ignore[arg-type]

    one_epoch = replace(method, batch=3)
    one_epoch.retrain(decoder, HALF, ids, seed=0, engine=Engine(decoder.model), split=split_head)
    torch.testing.assert_close(seen[f"{name}.weight"], dense.grad, rtol=1e-4, atol=1e-6)
    assert seen[f"{name}.weight"][~kept].ne(0).float().mean() > 0.9


def test_a_fixed_mask_never_flips_and_an_adaptive_one_does() -> None:
    _, fixed = run(replace(SHORT, mask="fixed"))
    _, adaptive = run()
    assert all(entry["flip_rate"] == 0 for entry in fixed.history)
    rates = [entry["flip_rate"] for entry in adaptive.history]
    assert rates[0] == 0
    assert 0 < rates[-1] < 0.5
    assert fixed.weights.keys() == adaptive.weights.keys()


def test_no_mask_is_chosen_in_the_cool_down() -> None:
    """Else a run of a whole number of intervals ends on a mask that was never trained."""
    _, held = run(replace(SHORT, mask_until=0.75))  # of 8 steps, masks after 2, 4 and 6
    _, published = run(replace(SHORT, mask_until=1))
    rates = [[entry["flip_rate"] for entry in of.history] for of in (held, published)]
    assert rates[0][5] == rates[0][7] != rates[0][4], "told until the next choice"
    assert rates[1][7] != rates[1][6]


def test_the_history_tells_every_step() -> None:
    _, result = run()
    assert [entry["step"] for entry in result.history] == list(range(1, 9))
    for entry in result.history:
        wanted = entry["ce"] / 3 + entry["kl"] * 4 * 2 / 3
        assert entry["loss"] == pytest.approx(wanted)
        assert entry["learning_rate"] > 0
    assert [e["decay"] for e in result.history][:3] == pytest.approx([5e-3, 1e-2, 1e-2])
    assert result.figures["training_tokens"] == 8 * 3 * 24
    _, naive = run(NAIVE)
    assert all(e["kl"] == 0 and e["loss"] == e["ce"] for e in naive.history)
    assert all(e["decay"] == 0 for e in naive.history)


@pytest.mark.parametrize("method", [SHORT, NAIVE, replace(SHORT, slorb=True)])
def test_training_lowers_the_loss(method: AdaptiveSparseTrainer) -> None:
    longer = replace(method, steps=60, batch=8, micro_batch=8)
    _, result = run(longer)
    assert result.history[-1]["loss"] < 0.95 * result.history[0]["loss"]


def test_the_split_of_a_batch_changes_nothing_but_rounding() -> None:
    _, first = run(replace(SHORT, micro_batch=1))
    _, second = run(replace(SHORT, micro_batch=3))
    for name, weight in first.weights.items():
        assert (weight - second.weights[name]).norm() < 1e-4 * weight.norm(), name


def test_without_a_split_the_result_is_the_same_but_for_rounding() -> None:
    decoder = tiny.decoder("llama")
    whole = SHORT.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0)
    _, split = run()
    for name, weight in split.weights.items():
        assert (weight - whole.weights[name]).norm() < 1e-4 * weight.norm(), name


def test_logits_exist_for_a_bounded_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 5
    monkeypatch.setattr(distillation, "_LOGIT_BYTES", 4 * tiny.VOCABULARY * rows)
    largest = 0

    def watched(model: object) -> object:
        halves = split_head(model)  # type: ignore[arg-type]
        assert halves is not None
        body, head = halves

        def counting(hidden_TH: Tensor) -> Tensor:
            nonlocal largest
            largest = max(largest, len(hidden_TH))
            return head(hidden_TH)

        return body, counting

    decoder = tiny.decoder("llama")
    SHORT.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, split=watched)  # type: ignore[arg-type]
    assert 0 < largest <= rows


def test_chunks_share_the_weights_that_autocast_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, each chunk's backward pass goes through the one cast of the head's weight."""
    losses = []
    for rows in (7, 10_000):
        monkeypatch.setattr(distillation, "_LOGIT_BYTES", 4 * tiny.VOCABULARY * rows)
        decoder = tiny.decoder("llama")
        decoder.model.to(torch.bfloat16)
        result = SHORT.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, split=split_head)
        losses.append([entry["loss"] for entry in result.history])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_seeds_give_orders_and_the_same_seed_the_same_bits() -> None:
    (_, first), (_, same), (_, other) = run(seed=1), run(seed=1), run(seed=2)
    assert all(torch.equal(w, same.weights[n]) for n, w in first.weights.items())
    assert not all(torch.equal(w, other.weights[n]) for n, w in first.weights.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_callers_model_and_global_randomness_stay_as_they_were(dtype: torch.dtype) -> None:
    decoder = tiny.decoder("llama")
    decoder.model.to(dtype)
    before = {name: value.clone() for name, value in decoder.model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    result = replace(SHORT, slorb=True, criterion="activation", steps=2).retrain(
        decoder, HALF, tiny.tokens(8, 24), seed=0, split=split_head
    )
    state = decoder.model.state_dict()
    assert all(torch.equal(before[name], state[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in decoder.model.parameters())
    assert torch.equal(random_state, torch.random.get_rng_state())
    hooks = [m for m in decoder.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    assert {weight.dtype for weight in result.weights.values()} == {dtype}
    assert {branch.dtype for branch in result.branches.values()} == {dtype}


def test_tied_embeddings_stay_one_tensor() -> None:
    decoder, result = run()
    head, embeddings = (
        result.weights[name] for name in ("lm_head.weight", "model.embed_tokens.weight")
    )
    assert head is embeddings
    untied = tiny.llama(tie_word_embeddings=False)
    other = SHORT.retrain(
        Decoder(untied, decoder.blocks_name), HALF, tiny.tokens(8, 24), seed=0, split=split_head
    )
    assert not torch.equal(
        other.weights["lm_head.weight"], other.weights["model.embed_tokens.weight"]
    )


def test_the_activation_criterion_weighs_as_wanda_does() -> None:
    decoder, result = run(replace(NAIVE, steps=1, learning_rate=1e-12, criterion="activation"))
    _, magnitude = run(replace(NAIVE, steps=1, learning_rate=1e-12))
    differs = [
        not torch.equal(
            result.weights[f"{name}.weight"].ne(0), magnitude.weights[f"{name}.weight"].ne(0)
        )
        for name in decoder.layers()
    ]
    assert any(differs)
    for name in decoder.layers():
        assert kept_per_group(decoder, name, result.weights[f"{name}.weight"], 4).eq(2).all()


def test_what_it_cannot_do_is_refused() -> None:
    assert SHORT.refuses(Fraction(0.5)) == "ast takes keep:group such as 2:4"
    with pytest.raises(ValueError, match="keep:group"):
        SHORT.retrain(tiny.decoder("llama"), Fraction(0.5), tiny.tokens(), seed=0)
    with pytest.raises(UnsupportedLayerError, match=r"q_proj: 3:7 .*divisible by 7.* 32"):
        run(target=SemiStructured(3, 7))
    with pytest.raises(ValueError, match="no token to learn from"):
        SHORT.retrain(tiny.decoder("llama"), HALF, tiny.tokens(4, 1), seed=0)


def test_divergence_is_an_error_that_names_the_step() -> None:
    decoder = tiny.decoder("llama")
    with torch.no_grad():
        decoder.model.get_submodule("model.norm").weight.fill_(torch.inf)  # type: ignore[operator]
    with pytest.raises(FloatingPointError, match=r"step 1: .*not finite"):
        SHORT.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0)


def counting(counted_NL: Tensor | None, method: AdaptiveSparseTrainer = SHORT) -> PruneResult:
    decoder = tiny.decoder("llama")
    return method.retrain(
        decoder, HALF, tiny.tokens(8, 24), counted_NL=counted_NL, seed=0, split=split_head
    )


def test_all_tokens_counted_are_all_tokens() -> None:
    every, plain = counting(torch.ones(8, 24, dtype=torch.bool)), counting(None)
    for name, weight in plain.weights.items():
        torch.testing.assert_close(every.weights[name], weight)
    assert every.figures["counted_tokens"] == 8 * 3 * 23
    assert "counted_tokens" not in plain.figures


def test_the_loss_is_the_mean_over_what_counts() -> None:
    """A window's target that does not count changes nothing; one that does, does."""
    counted_NL = torch.zeros(8, 24, dtype=torch.bool)
    counted_NL[:, 5:8] = True
    counted_NL[3, 1] = True
    method = replace(SHORT, steps=1, batch=8)
    found = counting(counted_NL, method).history[0]
    decoder, windows_NL = tiny.decoder("llama"), tiny.tokens(8, 24)
    student = Student(decoder, HALF, torch.device("cpu"), weight_decay=0.1, slorb_group=None)
    with torch.no_grad():
        mine, dense = (
            model(input_ids=windows_NL).logits[:, :-1][counted_NL[:, 1:]]
            for model in (student.model, decoder.model)
        )
        ce = functional.cross_entropy(mine, windows_NL[:, 1:][counted_NL[:, 1:]])
        kl = functional.kl_div(
            (mine / 2).log_softmax(-1), (dense / 2).softmax(-1), reduction="batchmean"
        )
    assert found["ce"] == pytest.approx(float(ce), rel=1e-5)
    assert found["kl"] == pytest.approx(float(kl), rel=1e-4)
    assert found["counted_tokens"] == 8 * 3 + 1


def test_a_window_that_predicts_nothing_that_counts_is_refused() -> None:
    counted_NL = torch.ones(8, 24, dtype=torch.bool)
    counted_NL[2, 1:] = False
    with pytest.raises(ValueError, match="must predict a token that counts"):
        counting(counted_NL)
