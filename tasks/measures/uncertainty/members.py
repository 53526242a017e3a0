"""Members: each is made, answers, and is gone; only its answers are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigurationError
from tasks.data.texts import load_tokens
from tasks.measures.base import Member, Subject
from tasks.measures.computing import network
from tasks.measures.uncertainty.settings import FIELD
from tasks.measures.uncertainty.tokens import FILE, Scored, candidate_steps, score, texts_of
from tasks.measures.zero_shot.measure import ZeroShot, asked_of, task_steps
from tasks.measures.zero_shot.questions import Question, read_questions, write_questions
from tasks.models.load import best_device, load_tokenizer
from tasks.runtime.memory import measured
from tasks.store.steps import MEMBER, Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 1
CANDIDATES = "candidates/"
_TOKENS = "tokens/"
_ASKED = "tokenizer and tasks of members"
Model = Callable[[Work], AbstractContextManager["tuple[PreTrainedModel, float | None]"]]
"""A step's work → the model that scores, and its share of zeros where nothing else keeps it."""


def member_steps(subject: Subject) -> dict[str, Step] | str:
    """The steps that hold the members' scores of every item; or why there are none.

    ``member/0`` … are steps that score one member's items. Where members are the sweep's own seeds
    their answers to tasks are there already: ``member/0/<task>`` … are their zero-shot steps.
    """
    asked = subject.evaluation.uncertainty
    if asked.source == "seeds":
        return _seed_steps(subject)
    members = subject.members(asked)
    if isinstance(members, str):
        return members

    def step(place: int, member: Member) -> Step:
        return _scoring(
            subject,
            place,
            inputs={"pruning": dict(member.inputs)},
            needs=member.needs,
            model=member.model,
        )

    return {f"{MEMBER}/{place}": step(place, member) for place, member in enumerate(members)}


def _seed_steps(subject: Subject) -> dict[str, Step] | str:
    """Of the sweep's first seeds, whoever of them asks: all of them share one ensemble."""
    asked, siblings = subject.evaluation.uncertainty, subject.siblings()
    if len(siblings) < 2:
        raise ConfigurationError(
            f"{FIELD}.source",
            asked.source,
            f"the sweep has {len(siblings)} seed, and an ensemble needs two: name more under "
            "seeds, or take source calibration or masks",
        )
    if (asked.samples or 0) > len(siblings):
        raise ConfigurationError(
            f"{FIELD}.samples",
            asked.samples,
            f"with source seeds at most the sweep's {len(siblings)}: name more under seeds, or "
            "leave samples out for all of them",
        )
    chosen = list(siblings.values())[: asked.samples]
    if len({sibling.weights for sibling in chosen}) < len(chosen):
        return (
            "nothing of this cell is random, so that its seeds share one checkpoint; with "
            "calibration.sampling random they draw other windows"
        )
    if asked.items == "options":
        return {
            f"{MEMBER}/{place}/{task}": step
            for place, sibling in enumerate(chosen)
            for task, step in task_steps(sibling).items()
        }
    return {
        f"{MEMBER}/{place}": _scoring(
            sibling,
            place,
            inputs={"dtype": sibling.dtype},
            needs={"weights": sibling.weights},
            model=lambda work, sibling=sibling: nullcontext((network(work, sibling), None)),
        )
        for place, sibling in enumerate(chosen)
    }


def _scoring(
    subject: Subject,
    place: int,
    *,
    inputs: Mapping[str, Any],
    needs: Mapping[str, Step],
    model: Model,
) -> Step:
    """The step that has one member score every item."""
    item_inputs, item_needs = _items(subject)
    options = subject.evaluation.uncertainty.items == "options"
    score = _score_options if options else _score_tokens

    def produce(work: Work) -> Facts:
        with measured(best_device().type) as peak, model(work) as (network, zeros):
            items = score(work, subject, network)
        told = {} if zeros is None else {"sparsity": zeros}
        return {"items": items, "peak_memory_bytes": peak.bytes, **told}

    return Step(
        name=MEMBER,
        version=VERSION,
        inputs={**inputs, **item_inputs},
        needs={**needs, **item_needs},
        produce=produce,
        label=f"member {place}",
        group=subject.label,
    )


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


def answers_of(work: Work, task: str) -> list[list[Question]]:
    """Every member's answers to a task."""
    found: list[list[Question]] = []
    for role in work.step.needs:
        kind, _, rest = role.partition("/")
        asked = rest.partition("/")[2]
        if kind == MEMBER and asked in ("", task):
            member = work.need(role)
            folder = member.path / ("" if asked else str(member.facts["items"].index(task)))
            found.append(read_questions(folder))
    return found


def scores_of(member: Artifact, corpus: str) -> Scored:
    """A member's scores of a text's candidates."""
    return Scored.load(member.path / f"{member.facts['items'].index(corpus)}.safetensors")


def _score_options(work: Work, subject: Subject, model: PreTrainedModel) -> list[str]:
    from tasks.measures.zero_shot.evaluate import zero_shot

    asked, tasks = subject.evaluation.zero_shot, subject.resolved[ZeroShot.name]
    folder, context = work.need("model").path, work.context
    # Members answer the same questions: tokenizer and tasks are read once for all of them.
    tokenizer, known = context.loaded.get(
        _ASKED, folder, lambda: (load_tokenizer(folder, context.trust), {})
    )
    results: Mapping[str, Any] = zero_shot(
        model,
        tokenizer,
        tasks,
        limit=asked.limit,
        num_fewshot=asked.num_fewshot,
        batch_size=subject.evaluation.batch_size,
        progress=work.progress,
        known=known,
    )
    for place, task in enumerate(tasks):
        (work.out / str(place)).mkdir()
        plain = (
            dataclasses.replace(question, context="", options=())
            for question in results[task.name].questions
        )
        write_questions(plain, work.out / str(place))
    return [task.name for task in tasks]


def _score_tokens(work: Work, subject: Subject, model: PreTrainedModel) -> list[str]:
    corpora = [r.removeprefix(_TOKENS) for r in work.step.needs if r.startswith(_TOKENS)]
    for place, name in enumerate(corpora):
        tokens_NL = load_tokens(work.need(f"{_TOKENS}{name}"))
        ids_NPA = Scored.load(work.need(f"{CANDIDATES}{name}").path / FILE).ids_NPA
        found = score(model, tokens_NL, ids_NPA, subject.evaluation.batch_size)
        found.save(work.out / f"{place}.safetensors")
    return corpora
