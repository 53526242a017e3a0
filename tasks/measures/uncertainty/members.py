"""Members: each prunes once more, answers, and is gone; only its answers are kept."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.data.texts import load_tokens
from tasks.measures.base import Subject
from tasks.measures.uncertainty.tokens import FILE, Scored, candidate_steps, score, texts_of
from tasks.measures.zero_shot.measure import ZeroShot, asked_of, task_steps
from tasks.measures.zero_shot.questions import Question, read_questions, write_questions
from tasks.models.load import best_device, load_tokenizer
from tasks.models.resident import PRUNED, pruned_model
from tasks.runtime.memory import measured
from tasks.store.steps import MEMBER, Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 1
CANDIDATES = "candidates/"
_TOKENS = "tokens/"
_CHECKPOINT = "checkpoint"


def member_steps(subject: Subject) -> dict[str, Step] | str:
    """``member/0`` … → the step that keeps a member's scores of every item; or why none is.

    A member's checkpoint is no step of the sweep, so that nobody keeps it: what determines it is
    among the member's own inputs and needs.
    """
    asked = subject.evaluation.uncertainty
    checkpoints = subject.members(asked.samples, asked.subset)
    if isinstance(checkpoints, str):
        return checkpoints
    inputs, needs = _items(subject)
    produce = _score_options if asked.items == "options" else _score_tokens

    def step(place: int, checkpoint: Step) -> Step:
        return Step(
            name=MEMBER,
            version=VERSION,
            inputs={"pruning": {"version": checkpoint.version, **checkpoint.inputs}, **inputs},
            needs={**checkpoint.needs, **needs},
            produce=lambda work: produce(work, subject, checkpoint),
            label=f"member {place}",
            group=subject.label,
        )

    return {f"{MEMBER}/{place}": step(place, c) for place, c in enumerate(checkpoints)}


def reference_steps(subject: Subject) -> dict[str, Step]:
    """Task or corpus → the dense model's own scores of the same items."""
    assert subject.dense is not None
    if subject.evaluation.uncertainty.items == "options":
        return task_steps(subject.dense)
    return candidate_steps(subject.dense)


def _items(subject: Subject) -> tuple[dict[str, Any], dict[str, Step]]:
    """What determines the items that a member scores: inputs, and needs."""
    if subject.evaluation.uncertainty.items == "options":
        tasks = {task.name: asked_of(subject, task) for task in subject.resolved[ZeroShot.name]}
        return {"tasks": {"version": ZeroShot.version, **tasks}}, {}
    texts = {f"{_TOKENS}{name}": windows.step for name, windows in texts_of(subject).items()}
    candidates = {f"{CANDIDATES}{n}": step for n, step in reference_steps(subject).items()}
    return {}, {**texts, **candidates}


def questions_of(member: Artifact, task: str) -> list[Question]:
    """A task's questions as a member answers them, without their texts."""
    return read_questions(member.path / str(member.facts["items"].index(task)))


def scores_of(member: Artifact, corpus: str) -> Scored:
    """A member's scores of a text's candidates."""
    return Scored.load(member.path / f"{member.facts['items'].index(corpus)}.safetensors")


@contextmanager
def pruned_again(work: Work, subject: Subject, checkpoint: Step) -> Iterator[PreTrainedModel]:
    """The model of a checkpoint that is made for this block alone."""
    context, folder = work.context, work.out / _CHECKPOINT
    folder.mkdir()
    context.loaded.release(PRUNED)
    try:
        assert checkpoint.produce is not None
        checkpoint.produce(Work(context, checkpoint, folder, work.progress))
        yield pruned_model(context, folder, subject.dtype)
    finally:
        context.loaded.release(PRUNED)
        shutil.rmtree(folder, ignore_errors=True)


def _score_options(work: Work, subject: Subject, checkpoint: Step) -> Facts:
    from tasks.measures.zero_shot.evaluate import zero_shot

    asked, tasks = subject.evaluation.zero_shot, subject.resolved[ZeroShot.name]
    tokenizer = load_tokenizer(work.need("model").path, work.context.trust)
    with measured(best_device().type) as peak, pruned_again(work, subject, checkpoint) as model:
        results: Mapping[str, Any] = zero_shot(
            model,
            tokenizer,
            tasks,
            limit=asked.limit,
            num_fewshot=asked.num_fewshot,
            batch_size=subject.evaluation.batch_size,
            progress=work.progress,
        )
    for place, task in enumerate(tasks):
        (work.out / str(place)).mkdir()
        plain = (
            dataclasses.replace(question, context="", options=())
            for question in results[task.name].questions
        )
        write_questions(plain, work.out / str(place))
    return {"items": [task.name for task in tasks], "peak_memory_bytes": peak.bytes}


def _score_tokens(work: Work, subject: Subject, checkpoint: Step) -> Facts:
    corpora = [r.removeprefix(_TOKENS) for r in work.step.needs if r.startswith(_TOKENS)]
    with measured(best_device().type) as peak, pruned_again(work, subject, checkpoint) as model:
        for place, name in enumerate(corpora):
            tokens_NL = load_tokens(work.need(f"{_TOKENS}{name}"))
            ids_NPA = Scored.load(work.need(f"{CANDIDATES}{name}").path / FILE).ids_NPA
            found = score(model, tokens_NL, ids_NPA, subject.evaluation.batch_size)
            found.save(work.out / f"{place}.safetensors")
    return {"items": corpora, "peak_memory_bytes": peak.bytes}
