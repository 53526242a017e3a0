"""What is measured of a subject, dense or pruned, one step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from configs.schema import Evaluation
from configs.trust import Trust
from tasks.steps.evaluate import evaluate
from tasks.steps.reconstruct import reconstruct
from tasks.steps.speed import measure
from tasks.steps.subject import Subject
from tasks.steps.zero_shot import evaluate_zero_shot
from tasks.store.store import Store


def measurements(
    subject: Subject, store: Store, trust: Trust, evaluation: Evaluation
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(what it is, the task to call) of everything that the sweep wants to know of a subject."""
    for name in subject.measures.perplexity:
        yield (
            f"perplexity {name}",
            lambda name=name, **how: evaluate(subject, name, store, trust, evaluation, **how),
        )
    for name in subject.measures.zero_shot:
        yield (
            f"zero-shot {name}",
            lambda name=name, **how: evaluate_zero_shot(
                subject, name, store, trust, evaluation, **how
            ),
        )
    if subject.cell and subject.measures.reconstruction:
        cell, size = subject.cell, evaluation.batch_size
        yield (
            "reconstruction error",
            lambda **how: reconstruct(cell, store, trust, size, **how),
        )
    if subject.measures.speed:
        yield "speed", lambda **how: measure(subject, store, trust, evaluation, **how)


def measure_all(subject: Subject, store: Store, trust: Trust, evaluation: Evaluation) -> None:
    """Compute all of them; the first failure is raised, and what came before it is kept."""
    for _, step in measurements(subject, store, trust, evaluation):
        step()
