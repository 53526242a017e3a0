"""The scan against its recurrence, and the threshold against its promise."""

from __future__ import annotations

import pytest
import torch

from tasks.pruning.swiftprune import ewma


def recurrence(row: list[float], alpha: float, beta: float) -> list[float]:
    """The definition, one score at a time, in Python's float64."""
    mean = sum(row) / len(row)
    deviation = sum(abs(value - mean) for value in row) / len(row)
    scores = []
    for value in row:
        scores.append((value - mean) / deviation)
        deviation = (1 - beta) * deviation + beta * abs(value - mean)
        mean = (1 - alpha) * mean + alpha * value
    return scores


@pytest.mark.parametrize("columns", [2, 7, 63, 64, 65, 200, 576])
@pytest.mark.parametrize("rates", [(0.125, 0.125), (0.125, 0.25), (1 / 128, 1 / 128), (0.9, 0.5)])
def test_the_blocked_scan_equals_the_recurrence(columns: int, rates: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(columns)
    scores_OI = torch.randn(3, columns, generator=generator, dtype=torch.float64).square()
    rows = [recurrence(row, *rates) for row in scores_OI.tolist()]
    expected = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(ewma.z_scores(scores_OI, *rates), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("shape", [(4, 32), (200, 576), (1536, 64)])
def test_reaches_the_fraction_within_half_a_point(fraction: float, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores_OI = torch.randn(shape, generator=generator).square()
    mask = ewma.select(scores_OI, fraction, 1 / 128, generator)
    assert float(mask.float().mean()) == pytest.approx(fraction, abs=max(0.005, 1 / mask.numel()))


def test_agrees_with_the_exact_rows_as_measured() -> None:
    """Gaussian weights, |w|², half pruned: the agreement that METHODS.md reports, by memory."""
    generator = torch.Generator().manual_seed(0)
    scores_OI = torch.randn(256, 4096, generator=generator).square()
    exact = scores_OI > scores_OI.median(dim=1, keepdim=True).values
    agreement = {}
    for memory in (8, 32, 128):
        kept = ~ewma.select(scores_OI, 0.5, 1 / memory, generator)
        agreement[memory] = float((kept & exact).sum() / exact.sum())
    assert agreement[8] == pytest.approx(0.918, abs=0.01)
    assert agreement[32] == pytest.approx(0.959, abs=0.01)
    assert agreement[128] == pytest.approx(0.978, abs=0.01)


def test_a_constant_row_does_not_divide_by_zero() -> None:
    mask = ewma.select(torch.ones(4, 16), 0.5, 0.125, torch.Generator().manual_seed(0))
    assert mask.dtype == torch.bool


def test_nothing_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the selection sorted")

    for name in ("sort", "argsort", "topk", "msort"):
        monkeypatch.setattr(torch, name, refuse)
        if hasattr(torch.Tensor, name):
            monkeypatch.setattr(torch.Tensor, name, refuse)
    scores_OI = torch.rand(128, 64, generator=torch.Generator().manual_seed(0))
    ewma.select(scores_OI, 0.5, 0.125, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_an_error(bad: float) -> None:
    scores_OI = torch.full((8, 8), bad)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ewma.select(scores_OI, 0.5, 0.125, torch.Generator().manual_seed(0))
