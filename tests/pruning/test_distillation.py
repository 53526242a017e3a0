"""The loss in chunks, and its written-down gradient, against autograd on all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.pruning.ast import distillation
from tasks.pruning.ast.distillation import backward_through_head, logit_gradient_

TOKENS, HIDDEN, VOCABULARY = 37, 12, 53


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def targets() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)


def reference(
    logits_TV: Tensor, teacher_TV: Tensor | None, alpha: float, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, CE and KL as PyTorch computes them, means over tokens."""
    ce = functional.cross_entropy(logits_TV, targets())
    if teacher_TV is None:
        return ce, ce, torch.zeros(())
    kl = functional.kl_div(
        (logits_TV / temperature).log_softmax(-1),
        (teacher_TV / temperature).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - alpha) * ce + alpha * temperature**2 * kl, ce, kl


@pytest.mark.parametrize(
    ("alpha", "temperature"), [(2 / 3, 2.0), (0.3, 1.0), (1.0, 3.5), (0.0, 2.0)]
)
def test_the_gradient_is_autograds(alpha: float, temperature: float) -> None:
    logits, teacher = 4 * random(TOKENS, VOCABULARY), 4 * random(TOKENS, VOCABULARY, seed=1)
    leaf = logits.clone().requires_grad_()
    loss, ce, kl = reference(leaf, teacher, alpha, temperature)
    loss.backward()
    sums = logit_gradient_(
        logits, teacher.clone(), targets(), alpha=alpha, temperature=temperature, scale=1 / TOKENS
    )
    torch.testing.assert_close(logits, leaf.grad)
    torch.testing.assert_close(sums.ce / TOKENS, ce.detach())
    torch.testing.assert_close(sums.kl / TOKENS, kl.detach())


def test_without_a_teacher_it_is_cross_entropy_whatever_alpha() -> None:
    logits = random(TOKENS, VOCABULARY)
    leaf = logits.clone().requires_grad_()
    reference(leaf, None, 0.9, 2.0)[0].backward()
    sums = logit_gradient_(logits, None, targets(), alpha=0.9, temperature=2.0, scale=1 / TOKENS)
    torch.testing.assert_close(logits, leaf.grad)
    assert float(sums.kl) == 0.0


def test_the_teacher_itself_has_no_divergence() -> None:
    logits = random(TOKENS, VOCABULARY)
    sums = logit_gradient_(logits, logits.clone(), targets(), alpha=1.0, temperature=2.0, scale=1.0)
    assert float(sums.kl) == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(logits, torch.zeros_like(logits))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.full((TOKENS, VOCABULARY), -3e4)
    logits[:, 0] = 3e4
    teacher = logits.flip(1)
    sums = logit_gradient_(logits, teacher, targets(), alpha=0.5, temperature=2.0, scale=1.0)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(sums.ce)
    assert torch.isfinite(sums.kl)


@pytest.mark.parametrize("rows", [1, 5, 10_000])
def test_in_chunks_it_is_what_it_is_at_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_LOGIT_BYTES", 4 * VOCABULARY * rows)
    monkeypatch.setattr(distillation, "_CACHED_BYTES", 4 * VOCABULARY * max(1, rows // 2))
    head, teacher_head = (nn.Linear(HIDDEN, VOCABULARY).float() for _ in range(2))
    hidden, teacher_hidden = (random(TOKENS, HIDDEN, seed=s).float() for s in (2, 3))
    leaf = hidden.clone().requires_grad_()
    loss, ce, kl = reference(head(leaf), teacher_head(teacher_hidden).detach(), 2 / 3, 2.0)
    loss.backward()
    wanted = head.weight.grad
    head.weight.grad = None
    largest = 0

    def watched(part_TH: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(part_TH))
        return head(part_TH)

    with torch.no_grad():
        teacher_hidden = teacher_hidden.clone()
    gradient, sums = backward_through_head(
        hidden,
        watched,
        (teacher_hidden, teacher_head),
        targets(),
        lambda outputs, slope: outputs.backward(slope),
        alpha=2 / 3,
        temperature=2.0,
        scale=1 / TOKENS,
    )
    assert largest <= rows
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(head.weight.grad, wanted, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(sums.ce.float() / TOKENS, ce.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sums.kl.float() / TOKENS, kl.detach(), rtol=1e-4, atol=1e-6)


def test_under_autocast_losses_and_gradient_are_in_float32() -> None:
    """The head computes in bfloat16; what follows it does not."""
    given, wanted = 4 * random(TOKENS, VOCABULARY), 4 * random(TOKENS, VOCABULARY, seed=1)
    given, wanted = given.bfloat16(), wanted.bfloat16()
    leaf = given.double().requires_grad_()
    loss, ce, kl = reference(leaf, wanted.double(), 2 / 3, 2.0)
    loss.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient, sums = backward_through_head(
            given.float(),
            lambda logits: logits,
            (wanted, lambda logits: logits),
            targets(),
            lambda outputs, slope: outputs.backward(slope),
            alpha=2 / 3,
            temperature=2.0,
            scale=1 / TOKENS,
        )
    torch.testing.assert_close(sums.ce / TOKENS, ce.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sums.kl / TOKENS, kl.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), leaf.grad, rtol=1e-4, atol=1e-7)
