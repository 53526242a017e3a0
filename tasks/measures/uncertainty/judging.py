"""From the members' scores of one task's options to U of each question, and of the task.

A question is a list of its options by their mean score over the members; its answer is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.measures.uncertainty.lidu import FORMS, Form, entropy, lidu, margin
from tasks.measures.uncertainty.ranks import auroc
from tasks.measures.zero_shot.paired import best, common
from tasks.measures.zero_shot.questions import Question, main_metric

POINTS = 20
"""Of a risk-coverage curve."""


class NoOptionsError(ValueError):
    """A task whose questions cannot be judged so; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One question.

    Attributes:
        u: by the form that was asked for; ``others`` holds the other forms, and the mean standard
            deviation of the options' scores as ``std``.
        entropy: of the softmax of the mean scores, in nats.
        margin: of the answer to the second option.
        answer: place of the option.
        agrees: whether the dense model gives the same answer.
        right: None where the task does not say what is right.
        vote: the part of the members that give this answer alone.
        tied: whether the first two options have the same mean score.
    """

    document: int
    u: float
    others: dict[str, float]
    entropy: float
    margin: float
    answer: int
    agrees: bool
    right: bool | None
    vote: float
    tied: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    members: Sequence[Sequence[Question]], dense: Sequence[Question], *, form: Form, k: int
) -> list[Judged]:
    """Every question of one task.

    Args:
        members: each member's questions.
        dense: the dense model's.

    Raises:
        NoOptionsError: a question has fewer than two options, or one that has no finite score.
        ValueError: they were not asked the same.
    """
    metric = main_metric(dense)
    metric = metric if metric in ("acc", "acc_norm", "acc_bytes") else "acc"
    columns = [dict(enumerate(common(dense, member))) for member in members]
    found: list[Judged] = []
    for place, reference in enumerate(dense):
        own = [column[place][1] for column in columns]
        scores_TA = torch.tensor([q.scores(metric) for q in own], dtype=torch.float64)
        if scores_TA.shape[1] < 2:
            raise NoOptionsError("its questions have no options to choose from")
        if not scores_TA.isfinite().all():
            raise NoOptionsError(
                f"question {reference.document} has an option whose score is not finite, such as "
                f"one without text under {metric}"
            )
        found.append(_judged(scores_TA, reference, best(reference.scores(metric)), form, k))
    return found


def _judged(scores_TA: Tensor, reference: Question, dense: int, form: Form, k: int) -> Judged:
    mean_A = scores_TA.mean(0)
    answer = best(mean_A.tolist())
    told = {other: float(lidu(scores_TA, k, form=other).values) for other in FORMS}
    ahead = float(margin(scores_TA))
    return Judged(
        document=reference.document,
        u=told.pop(form),
        others={**told, "std": float(scores_TA.std(0, unbiased=True).mean())},
        entropy=float(entropy(scores_TA)),
        margin=ahead,
        answer=answer,
        agrees=answer == dense,
        right=answer in reference.gold if reference.gold else None,
        vote=sum(best(row) == answer for row in scores_TA.tolist()) / len(scores_TA),
        tied=ahead == 0,
    )


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """The means of a task's questions, and how well each estimate tells right from wrong."""
    known = [entry for entry in judged if entry.right is not None]
    right = [bool(entry.right) for entry in known]
    estimates = {
        "u": [-entry.u for entry in known],
        "margin": [entry.margin for entry in known],
        "entropy": [-entry.entropy for entry in known],
        "std": [-entry.others["std"] for entry in known],
        "vote": [entry.vote for entry in known],
        **{form: [-entry.others[form] for entry in known]
           for form in FORMS if judged and form in judged[0].others},
    }  # fmt: skip
    n = len(judged)
    return {
        "questions": n,
        "u": sum(entry.u for entry in judged) / n,
        "entropy": sum(entry.entropy for entry in judged) / n,
        "margin": sum(entry.margin for entry in judged) / n,
        "std": sum(entry.others["std"] for entry in judged) / n,
        "agreement": sum(entry.agrees for entry in judged) / n,
        "accuracy": sum(right) / len(right) if right else None,
        "ties": sum(entry.tied for entry in judged),
        "auroc": {name: auroc(values, right) for name, values in estimates.items()},
        "coverage": {"u": coverage(estimates["u"], right),
                     "margin": coverage(estimates["margin"], right)},
    }  # fmt: skip


def coverage(scores: Sequence[float], right: Sequence[bool]) -> list[tuple[float, float]]:
    """(part of the questions, their accuracy) of those with the highest scores, ever more.

    Questions with equal scores come in the order that they have, so that a curve is the same again.
    """
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    hits = torch.tensor([float(right[place]) for place in order]).cumsum(0)
    sizes = dict.fromkeys(-(-len(order) * part // POINTS) for part in range(1, POINTS + 1))
    return [(size / len(order), float(hits[size - 1]) / size) for size in sizes if size]
