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


def zero_rows(scores_OI: torch.Tensor) -> torch.Tensor:
    return scores_OI.masked_fill(torch.arange(len(scores_OI))[:, None] % 5 < 2, 0)


def zeros_at_random(scores_OI: torch.Tensor) -> torch.Tensor:
    drawn_OI = torch.rand(scores_OI.shape, generator=torch.Generator().manual_seed(1))
    return scores_OI.masked_fill(drawn_OI < 0.5, 0)


DEGENERATE = {
    "constant": torch.ones_like,
    "two values": lambda scores_OI: (scores_OI > 0.5).float() + 1,
    "constant rows": lambda scores_OI: scores_OI[:, :1].expand_as(scores_OI).contiguous(),
    "40 % zero rows": zero_rows,
    "half zeros": zeros_at_random,
    "one input": lambda scores_OI: scores_OI.reshape(-1, 1),
    "one output": lambda scores_OI: scores_OI.reshape(1, -1),
}


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.5, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("settings", [(0.125, 0.0), (1 / 128, 0.25)])
def test_ties_and_zeros_do_not_miss_the_fraction(
    kind: str, fraction: float, settings: tuple[float, float]
) -> None:
    generator = torch.Generator().manual_seed(0)
    scores_OI = DEGENERATE[kind](torch.rand(80, 96, generator=generator))
    alpha, shrink = settings
    mask = ewma.select(scores_OI, fraction, alpha, generator, shrink)
    zero_OI = scores_OI == 0
    reached, there = (float(m.float().mean()) for m in (mask | zero_OI, zero_OI))
    if there > fraction:
        assert reached == there, "nothing goes beside what is zero already"
    else:
        assert reached == pytest.approx(fraction, abs=0.005)
        assert not mask.all()


def test_a_matrix_of_one_value_loses_as_much_in_every_row() -> None:
    mask = ewma.select(torch.ones(4, 16), 0.5, 0.125, torch.Generator().manual_seed(0))
    assert mask.sum(dim=1).tolist() == [8] * 4


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
