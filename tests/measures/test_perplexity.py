"""Perplexity against its definition in float64, and what it must not depend on."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import tiny
import torch

from tasks.measures.perplexity.perplexity import perplexity, result_of
from tasks.models import next_tokens as module
from tasks.models.next_tokens import WindowFigures, mean_loss, measure_windows


def by_definition(model: torch.nn.Module, windows: torch.Tensor) -> float:
    """exp of the mean NLL over all predicted tokens, one window at a time, float64."""
    total, count = 0.0, 0
    for window in windows:
        with torch.no_grad():
            logits = model(input_ids=window[None]).logits[0].double()
        log_probabilities = logits.log_softmax(dim=-1)
        for position in range(len(window) - 1):
            total -= float(log_probabilities[position, window[position + 1]])
            count += 1
    return math.exp(total / count)


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_equals_the_definition(architecture: str) -> None:
    model = tiny.ARCHITECTURES[architecture][0]()
    windows = tiny.tokens(5, 16)
    result = perplexity(model, windows, batch_size=2)
    assert result.perplexity == pytest.approx(by_definition(model, windows), rel=1e-6)
    assert result.tokens == 5 * 15
    assert result.nll == pytest.approx(result.tokens * math.log(result.perplexity))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 8])
def test_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    model, windows = tiny.llama(), tiny.tokens(7, 16)
    expected = perplexity(model, windows, batch_size=1).perplexity
    result = perplexity(model, windows, batch_size=batch_size)
    assert result.perplexity == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("windows", [7, 8, 11])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", range(1, 9))
def test_does_not_depend_on_how_windows_are_shared(
    windows: int, processes: int, batch_size: int
) -> None:
    """Each share measured by itself, as a process would, and put together."""
    model, ids = tiny.llama(), tiny.tokens(windows, 16)
    expected = perplexity(model, ids, batch_size=1)
    bounds = [windows * rank // processes for rank in range(processes + 1)]
    parts = [
        measure_windows(model, ids[begin:end], batch_size=batch_size)
        for begin, end in pairwise(bounds)
    ]
    nll_N = torch.cat([part.nll_N for part in parts])
    assert nll_N.dtype == torch.float64
    result = result_of(WindowFigures(nll_N, None, None, 0.0), ids)
    assert result.perplexity == pytest.approx(expected.perplexity, rel=1e-6)
    assert result.tokens == expected.tokens


def test_the_mean_loss_is_that_of_the_perplexity() -> None:
    model, ids = tiny.llama(), tiny.tokens(5, 16)
    assert math.exp(mean_loss(model)(ids)) == pytest.approx(perplexity(model, ids).perplexity)


def test_logits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more rows of logits at once than fit the limit, and the same figure."""
    model, windows = tiny.llama(), tiny.tokens(4, 16)
    expected = perplexity(model, windows, batch_size=4).perplexity
    monkeypatch.setattr(module, "_FEWEST_ROWS", 1)
    monkeypatch.setitem(module._LOGIT_BYTES, "cpu", 4 * tiny.VOCABULARY * 5)
    widest = 0
    plain = module._losses

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal widest
        widest = max(widest, len(logits))
        return plain(logits, targets)

    monkeypatch.setattr(module, "_losses", watched)
    result = perplexity(model, windows, batch_size=4)
    assert widest == 5
    assert result.perplexity == pytest.approx(expected, rel=1e-6)


def test_without_a_head_of_its_own_the_whole_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, windows = tiny.llama(), tiny.tokens(3, 16)
    expected = perplexity(model, windows).perplexity
    monkeypatch.setattr(module, "split_head", lambda _: None)
    assert perplexity(model, windows).perplexity == pytest.approx(expected, rel=1e-6)


def test_a_uniform_model_has_the_vocabulary_as_perplexity() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    result = perplexity(model, tiny.tokens(2, 8))
    assert result.perplexity == pytest.approx(tiny.VOCABULARY, rel=1e-6)


def test_nan_is_an_error_and_not_dropped() -> None:
    model = tiny.llama()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN"):
        perplexity(model, tiny.tokens())


def test_too_large_a_loss_is_infinite_and_not_an_error() -> None:
    figures = WindowFigures(torch.tensor([1e6], dtype=torch.float64), None, None, 0.0)
    assert result_of(figures, torch.zeros(1, 2)).perplexity == math.inf


@pytest.mark.parametrize("shape", [(0, 8), (3, 1)])
def test_no_token_to_predict_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no token to predict"):
        perplexity(tiny.llama(), torch.zeros(shape, dtype=torch.long))
