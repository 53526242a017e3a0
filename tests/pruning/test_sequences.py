"""Sequences of which some tokens count: how they are cut, and who learns from these alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch.nn import functional

from tasks.models.next_tokens import mean_loss
from tasks.pruning.core import driver
from tasks.pruning.core.gates import gated_loss, hidden_distance, plain_loss
from tasks.pruning.core.methods import Method, PruneResult
from tasks.pruning.core.retraining import RetrainingMethod, counting
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.targets import Fraction, SemiStructured
from tasks.pruning.flip_gradient.choice import Choice
from tasks.pruning.flip_gradient.judge import Judge
from tasks.pruning.flip_gradient.method import FlipGradient
from tasks.pruning.flip_gradient.prior import prior
from tasks.pruning.policy_gradient.method import PolicyGradient
from tasks.pruning.wanda import Wanda

POLICY = PolicyGradient(steps=3, masks=2, batch_size=2, sequence_length=8, channel_group=16)
FLIPS = FlipGradient(tokens=600, sequence_length=8, swaps=1)


def some(windows: int = 8, length: int = 16) -> torch.Tensor:
    """Two tokens of every eight."""
    counted_NL = torch.zeros(windows, length, dtype=torch.bool)
    counted_NL[:, 3::8] = counted_NL[:, 4::8] = True
    return counted_NL


def test_sequences_that_predict_nothing_that_counts_go() -> None:
    ids_NL = torch.arange(24).view(2, 12)
    counted_NL = torch.zeros(2, 12, dtype=torch.bool)
    counted_NL[0, 5] = counted_NL[1, 8] = True  # the latter is a sequence's first
    found = Sequences(ids_NL, counted_NL).cut(4)
    assert found.ids_NL.tolist() == [[4, 5, 6, 7]]
    assert found.weight() == 1
    assert len(Sequences(ids_NL).cut(4)) == 6
    assert Sequences(ids_NL).cut(5).ids_NL[:, 0].tolist() == [0, 5, 12, 17]
    with pytest.raises(ValueError, match="no sequence of 4 tokens predicts"):
        Sequences(ids_NL, torch.zeros_like(counted_NL)).cut(4)
    with pytest.raises(ValueError, match="sequence_length 13 is more than the 12 tokens"):
        Sequences(ids_NL).cut(13)


def test_sequences_begin_as_the_windows_do() -> None:
    """With the tokens that the tokenizer puts before every text; no token of text is lost."""
    text_NL = torch.arange(10, 32).view(2, 11)
    ids_NL = torch.cat([torch.tensor([[1, 2], [1, 2]]), text_NL], dim=1)
    counted_NL = ids_NL > 20
    counted_NL[:, 12] = False
    found = Sequences(ids_NL, prefix=2).cut(5)
    assert found.ids_NL[:, :2].tolist() == [[1, 2]] * 6
    assert found.ids_NL[:, 2:].reshape(2, 9).equal(text_NL[:, :9])
    some = Sequences(ids_NL, counted_NL, prefix=2).cut(5)
    assert torch.equal(some.ids_NL, found.ids_NL[3:])
    assert some.counted_NL is not None
    assert torch.equal(some.counted_NL, some.ids_NL > 20)
    assert torch.equal(found[1:].cut(4).ids_NL[:, 0], torch.ones(5, dtype=torch.long))
    assert Sequences(ids_NL, prefix=2).cut(13).ids_NL.equal(ids_NL)
    with pytest.raises(ValueError, match="sequence_length 2 has no room for text"):
        Sequences(ids_NL, prefix=2).cut(2)


@pytest.mark.parametrize("method", [POLICY, FLIPS])
def test_all_that_is_learned_from_begins_with_the_prefix(method: Method) -> None:
    seen: list[torch.Tensor] = []
    decoder = tiny.decoder("llama")
    embedding = decoder.model.get_input_embeddings()  # type: ignore[operator]
    embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    training_NL = tiny.tokens(8, 32, seed=5)
    training_NL[training_NL == 1] = 3
    training_NL[:, 0] = 1
    calibration_NL = training_NL[:2, :24]  # of another length, so that it is told apart
    driver.prune(method, decoder, Fraction(0.25), tokens_NL=calibration_NL,
                 training_NL=training_NL, prefix=1)  # fmt: skip
    cut = [ids_BL for ids_BL in seen if ids_BL.shape[1] == method.training_length]
    assert cut
    for ids_BL in cut:
        assert (ids_BL[:, 0] == 1).all()
        assert (ids_BL[:, 1:] != 1).all()


def test_losses_are_means_over_what_counts() -> None:
    decoder, ids_NL, counted_NL = tiny.decoder("llama"), tiny.tokens(8), some()
    with torch.no_grad():
        logits_NLV = decoder.model(input_ids=ids_NL).logits
        kept = counted_NL[:, 1:]
        expected = functional.cross_entropy(logits_NLV[:, :-1][kept], ids_NL[:, 1:][kept])
        for loss in (plain_loss(decoder), mean_loss(decoder.model)):  # type: ignore[arg-type]
            assert float(loss(ids_NL, counted_NL)) == pytest.approx(float(expected), rel=1e-5)
            assert float(loss(ids_NL)) != pytest.approx(float(expected), rel=1e-3)


def test_the_judge_looks_where_what_counts_is_predicted() -> None:
    decoder, ids_NL, counted_NL = tiny.decoder("llama"), tiny.tokens(8, seed=5), some()
    counted_NL[0, 3] = False  # windows with fewer count for less
    known = prior(decoder, driver.LearningInputs(tokens_NL=ids_NL, loss=plain_loss(decoder)))
    choice = Choice.by_prior(known, 0.5)
    kept = counted_NL[:, 1:]
    with torch.no_grad():
        dense = decoder.model(input_ids=ids_NL).logits[:, :-1][kept].log_softmax(-1)

        def divergence(tokens_NL: torch.Tensor, _: object = None) -> torch.Tensor:
            mine = decoder.model(input_ids=tokens_NL).logits[:, :-1][kept].log_softmax(-1)
            return (dense.exp() * (dense - mine)).sum(-1).mean()

        with gated_loss(decoder, divergence) as gated:
            expected = gated(choice.groups_LG.float(), choice.channels_LC().float(), ids_NL)
    with Judge(decoder, Sequences(ids_NL, counted_NL)) as judge:
        assert judge(choice) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", [POLICY, replace(POLICY, validation_windows=0), FLIPS])
def test_targets_that_do_not_count_change_nothing(method: Method) -> None:
    """The last token of a window is predicted, and seen by no token that counts."""

    def learned(last: int, counted_NL: torch.Tensor | None) -> list[dict[str, float]]:
        training_NL = tiny.tokens(8, 8)
        training_NL[:, -1] = last
        result = driver.prune(
            method,
            tiny.decoder("llama"),
            Fraction(0.25),
            tokens_NL=tiny.tokens(),
            training_NL=training_NL,
            counted_NL=counted_NL,
        )
        return [dict(entry) for entry in result.history]

    assert learned(5, some(8, 8)) == learned(9, some(8, 8))
    assert learned(5, None) != learned(9, None)


def test_who_learns_from_every_token_is_refused() -> None:
    decoder = tiny.decoder("llama")
    with pytest.raises(ValueError, match="wanda learns from all tokens of its windows"):
        driver.prune(Wanda(), decoder, SemiStructured(2, 4), counted_NL=some())
    with pytest.raises(ValueError, match="an encoder learns from all hidden states"):
        hidden_distance(decoder.model)(tiny.tokens(8), some())


def test_a_retraining_method_that_knows_of_no_such_tokens_is_called_as_before() -> None:
    """A package's method may have been written before there were any."""

    class Former(RetrainingMethod):
        name, summary, source = "former", "", ""

        def retrain(self, decoder, target, training_NL, *, seed, engine=None, split=None,  # type: ignore[no-untyped-def,override]
                    progress=None):  # fmt: skip
            return PruneResult(weights={}, figures={"windows": float(len(training_NL))})

    decoder, target = tiny.decoder("llama"), SemiStructured(2, 4)
    training_NL = tiny.tokens()
    result = driver.prune(Former(), decoder, target, training_NL=training_NL)
    assert result.figures == {"windows": len(training_NL)}
    counted_NL = torch.ones_like(training_NL, dtype=torch.bool)
    with pytest.raises(ValueError, match="former"):
        driver.prune(Former(), decoder, target, training_NL=training_NL, counted_NL=counted_NL)
    with pytest.raises(ValueError, match="former learns from all tokens"):
        counting(Former(), counted_NL)
