"""Every question's own answer, as the harness computed it, beside the figures of the whole task.

``questions.jsonl`` in a task's artifact holds a line a question:

==============  ====================================================================================
document        its number among the task's documents, from 0
digest          of the texts that were scored, examples before the question included: two models
                were asked the same question where it is the same
loglikelihoods  of each option, in nats; empty where a task scores none (it lets the model write)
characters      of each option, which ``acc_norm`` divides its log-likelihood by
bytes           of each option in UTF-8, which ``acc_bytes`` divides by
gold            places of the right options; empty where the task does not say
answer          place of the option with the highest log-likelihood, the first of equal ones
answer_norm     the same of log-likelihoods by character
metrics         what the question adds to each metric of the task, where that is a number
cut             whether one of its texts is longer than the model takes
context         what stands before the options; the last 400 characters
options         the options' texts; the last 400 characters of each
==============  ====================================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from tasks.measures.zero_shot.results import main_of

FILE = "questions.jsonl"
_LONGEST = 400
"""Characters that are kept of a text: examples before a question may be many thousands."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One line of the file; see the module."""

    document: int
    digest: str
    loglikelihoods: tuple[float, ...]
    characters: tuple[int, ...]
    bytes: tuple[int, ...]
    gold: tuple[int, ...]
    metrics: Mapping[str, float]
    cut: bool = False
    context: str
    options: tuple[str, ...]

    @property
    def answer(self) -> int | None:
        """Place of the likeliest option; None without options."""
        return _highest(self.loglikelihoods)

    @property
    def answer_norm(self) -> int | None:
        """Place of the option that is likeliest by character."""
        return _highest(self.scores("acc_norm"))

    def scores(self, metric: str) -> tuple[float, ...]:
        """What the options are ranked by, under ``metric``.

        An option without text ranks as the harness's division by zero ranks it: last, or first
        where the model is certain of it.
        """
        lengths = {"acc_norm": self.characters, "acc_bytes": self.bytes}.get(metric)
        if lengths is None:
            return self.loglikelihoods
        pairs = zip(self.loglikelihoods, lengths, strict=True)
        return tuple(
            score / length if length else -math.inf if score < 0 else math.inf
            for score, length in pairs
        )

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "answer": self.answer, "answer_norm": self.answer_norm}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Question:
        listed = ("loglikelihoods", "characters", "bytes", "gold", "options")
        plain = {name: value for name, value in facts.items() if not name.startswith("answer")}
        return cls(**{**plain, **{name: tuple(facts[name]) for name in listed}})


def write_questions(questions: Iterable[Question], folder: Path) -> None:
    """Write ``questions.jsonl``."""
    lines = (json.dumps(entry.as_json(), ensure_ascii=False) + "\n" for entry in questions)
    (folder / FILE).write_text("".join(lines), encoding="utf-8")


def read_questions(folder: Path) -> list[Question]:
    """The questions of a task's artifact, in the order of its documents.

    Raises:
        OSError, ValueError: there are none, or they cannot be read.
    """
    # Not splitlines, which also splits at what stands within JSON's texts.
    lines = (folder / FILE).read_text(encoding="utf-8").split("\n")
    return [Question.from_json(json.loads(line)) for line in lines if line]


def main_metric(questions: Sequence[Question]) -> str | None:
    """The task's main metric, where each question is right or wrong by it; None elsewhere."""
    if not questions or not all(entry.metrics for entry in questions):
        return None
    name = main_of(questions[0].metrics)
    return name if judged_by(name, questions) else None


def judged_by(metric: str, *sides: Iterable[Question]) -> bool:
    """Whether every question of every side is right or wrong by ``metric``.

    A few may be so by chance, where a share such as F1 is all 0 or 1: ask of both models.
    """
    return all(entry.metrics.get(metric) in (0.0, 1.0) for side in sides for entry in side)


def record_metrics_(task: Any) -> list[Mapping[str, Any]]:
    """Keep what the harness finds for each document of a task; filled while it evaluates.

    Its own log of samples would ask tasks for more than scoring does, and some cannot say.
    """
    told: list[Mapping[str, Any]] = []
    vars(task).pop("process_results", None)  # of an earlier use
    process = task.process_results

    def process_results(doc: Any, results: Any) -> Any:
        found = process(doc, results)
        told.append(found)
        return found

    task.process_results = process_results
    return told


def texts_of(arguments: Iterable[Any]) -> tuple[str, ...]:
    """What the model is to read of a request's arguments."""
    return tuple(argument for argument in arguments if isinstance(argument, str))


def questions_of(
    task: Any, told: Sequence[Mapping[str, Any]], cut: Set[tuple[str, ...]]
) -> tuple[Question, ...]:
    """The questions of a task that the harness has evaluated.

    Args:
        told: of :func:`record_metrics_`: filter after filter, in each the documents in order.
        cut: texts of the requests that were longer than the model takes.
    """
    requests: dict[int, list[Any]] = {}
    for instance in task.instances:
        requests.setdefault(instance.doc_id, []).append(instance)
    assert len(told) % len(requests) == 0, f"{len(told)} results of {len(requests)} documents"
    firsts = zip(sorted(requests), told, strict=False)
    return tuple(_question(task, number, requests[number], found, cut) for number, found in firsts)


def _question(
    task: Any,
    number: int,
    requests: Sequence[Any],
    found: Mapping[str, Any],
    cut: Set[tuple[str, ...]],
) -> Question:
    requests = sorted(requests, key=lambda request: request.idx)
    scored = [r for r in requests if r.request_type == "loglikelihood"]
    texts = [tuple(map(str, request.args[:2])) for request in requests]
    chosen = task.OUTPUT_TYPE == "multiple_choice"
    choices = task.doc_to_choice(requests[0].doc) if chosen else [r.args[1] for r in scored]
    if chosen:  # behind them: the same options without the question
        scored = scored[: len(choices)]
    contexts = {request.args[0] for request in scored}
    options = [r.args[1] if len(contexts) == 1 else "".join(r.args[:2]) for r in scored]
    context = texts[0][0] if len(contexts) < 2 else ""
    return Question(
        document=number,
        digest=hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16],
        loglikelihoods=tuple(float(request.resps[0][0]) for request in scored),
        characters=tuple(len(choice) for choice in choices),
        bytes=tuple(len(choice.encode()) for choice in choices),
        gold=_gold(task, requests[0].doc, choices) if chosen else (),
        metrics={n: float(v) for n, v in found.items() if isinstance(v, Real)},
        cut=any(texts_of(request.arguments) in cut for request in requests),
        context=context[-_LONGEST:],
        options=tuple(option[-_LONGEST:] for option in options),
    )


def _gold(task: Any, doc: Any, choices: Sequence[str]) -> tuple[int, ...]:
    """As the harness reads it; empty where a function of the task judges answers its own way."""
    if callable(task.config.process_results):
        return ()
    given = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    golds = given if isinstance(given, list) else [given]
    places = [choices.index(g) if isinstance(g, str) and g in choices else g for g in golds]
    return tuple(g for g in places if isinstance(g, int) and 0 <= g < len(choices))


def _highest(values: Sequence[float]) -> int | None:
    """The first of the highest; None where there is none, or one is no number."""
    if not values or any(map(math.isnan, values)):
        return None
    return max(range(len(values)), key=lambda place: values[place])
