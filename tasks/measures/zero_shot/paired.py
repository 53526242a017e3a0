"""Two models on the same questions: how many answers changed sides, and whether that is chance.

McNemar's test is exact: of ``n`` questions that one model alone has right, the number that is A's
is binomial with one half where the models are equally good. The interval of the difference in
accuracy is a bootstrap over questions. Both models saw the same questions, so their errors stand
or fall together: two standard errors side by side would call far too few differences real.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.measures.zero_shot.questions import Question, judged_by

_RESAMPLES = 10_000
_LEVEL = 0.95
_SIGNIFICANT = 0.05
_BINS = 10
"""Of confidence, for the calibration error."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two models' answers, A's and B's.

    Attributes:
        questions: that both were asked.
        right: that both have right.
        broken: that A alone has right.
        mended: that B alone has right.
        alike: to which both give the same answer.
    """

    questions: int
    right: int
    broken: int
    mended: int
    alike: int

    @property
    def accuracies(self) -> tuple[float, float]:
        """A's and B's."""
        n = self.questions
        return (self.right + self.broken) / n, (self.right + self.mended) / n

    @property
    def p(self) -> float:
        """Two-sided, by McNemar's exact test."""
        return mcnemar(self.broken, self.mended)

    @property
    def stderr(self) -> float | None:
        """Of the difference of the accuracies, from the questions' own differences."""
        n, moved = self.questions, self.mended - self.broken
        if n < 2:
            return None
        return math.sqrt((self.broken + self.mended - moved**2 / n) / (n - 1) / n)

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % of B's accuracy less A's, by a percentile bootstrap over questions."""
        draws = _resampled(self, torch.Generator().manual_seed(seed)) / self.questions
        tail = torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64)
        low, high = draws.quantile(tail).tolist()
        return low, high

    @property
    def verdict(self) -> str:
        """``no difference``, or which is better."""
        if self.p >= _SIGNIFICANT:
            return "no difference"
        return "B is better" if self.mended > self.broken else "A is better"

    @property
    def sentence(self) -> str:
        """All of it in words."""
        a, b = self.accuracies
        if not self.broken + self.mended:
            changed = "no question changed sides"
        elif self.broken == self.mended:
            changed = f"{self.broken} questions changed sides either way"
        else:
            changed = f"{self.broken} questions only A has right, {self.mended} only B"
        if not self.broken + self.mended and self.alike == self.questions:
            changed = "every answer is the same"
        low, high = self.interval()
        return (
            f"{a:.3f} against {b:.3f} on {self.questions:,} questions: {changed} (McNemar "
            f"p = {self.p:.2g}; B − A {b - a:+.3f}, 95 % {low:+.3f} to {high:+.3f}); {self.verdict}"
        )


def mcnemar(broken: int, mended: int) -> float:
    """The two-sided p of so many changes either way, exact."""
    n, least = broken + mended, min(broken, mended)
    term = total = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / (1 << n))


def pair(a: Sequence[Question], b: Sequence[Question], metric: str) -> Paired:
    """Compare answers to the questions that both were asked.

    Raises:
        ValueError: a document's question is not the same on both sides; none is common; or one is
            neither right nor wrong by ``metric``.
    """
    if not judged_by(metric, a, b):
        raise ValueError(f"not every question is right or wrong by {metric}")
    rights: list[tuple[bool, bool]] = []
    alike = 0
    for mine, other in common(a, b):
        rights.append((mine.metrics[metric] == 1.0, other.metrics[metric] == 1.0))
        alike += same_answer(mine, other, metric)
    if not rights:
        raise ValueError("they have no question in common")
    return Paired(
        questions=len(rights),
        right=rights.count((True, True)),
        broken=rights.count((True, False)),
        mended=rights.count((False, True)),
        alike=alike,
    )


def common(a: Sequence[Question], b: Sequence[Question]) -> list[tuple[Question, Question]]:
    """The questions that both were asked.

    Raises:
        ValueError: a document's question is not the same on both sides.
    """
    others = {entry.document: entry for entry in b}
    found = [(mine, others[mine.document]) for mine in a if mine.document in others]
    for mine, other in found:
        if mine.digest != other.digest:
            raise ValueError(
                f"question {mine.document} is not the same on both sides: other wording, or other "
                "examples before it"
            )
    return found


def same_answer(mine: Question, other: Question, metric: str) -> bool:
    """Whether both give the same option; of a task without options, whether both are right."""
    if len(mine.loglikelihoods) < 2:
        return mine.metrics[metric] == other.metrics[metric]
    return best(mine.scores(metric)) == best(other.scores(metric))


def best(scores: Sequence[float]) -> int:
    """Place of the highest, the first of equal ones."""
    return max(range(len(scores)), key=lambda place: scores[place])


def pooled(parts: Iterable[Paired]) -> Paired:
    """Several tasks' questions as one set."""
    told = list(parts)
    names = ("questions", "right", "broken", "mended", "alike")
    return Paired(**{name: sum(getattr(part, name) for part in told) for name in names})


def calibration_error(questions: Sequence[Question], metric: str) -> float | None:
    """Expected calibration error of the options' probabilities, in ten bins of confidence.

    The probability of an option is its share of the options' likelihoods, and confidence that of
    the answer. None where a question has no options, or its metric normalises them.
    """
    if metric != "acc" or any(len(entry.loglikelihoods) < 2 for entry in questions):
        return None
    confident = [_confidence(entry.loglikelihoods) for entry in questions]
    right = [entry.metrics[metric] for entry in questions]
    gaps: dict[int, float] = {}
    for share, hit in zip(confident, right, strict=True):
        place = min(int(share * _BINS), _BINS - 1)
        gaps[place] = gaps.get(place, 0.0) + share - hit
    return math.fsum(map(abs, gaps.values())) / len(questions)


def _confidence(loglikelihoods: Sequence[float]) -> float:
    return float(torch.tensor(loglikelihoods, dtype=torch.float64).softmax(0).max())


def _resampled(paired: Paired, generator: torch.Generator) -> Tensor:
    """Differences in the number of right answers, of questions drawn with replacement.

    Of a resample only the numbers of broken and mended questions count, and those are multinomial.
    """
    n, full = (
        paired.questions,
        torch.full((_RESAMPLES,), float(paired.questions), dtype=torch.float64),
    )
    broken_S = torch.binomial(full, torch.full_like(full, paired.broken / n), generator=generator)
    left = n - paired.broken
    share = paired.mended / left if left else 0.0
    mended_S = torch.binomial(full - broken_S, torch.full_like(full, share), generator=generator)
    return mended_S - broken_S
