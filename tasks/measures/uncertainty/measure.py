"""Uncertainty as a measure: one ensemble a cell, U of every question, and what stands beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Row, Value, instances
from tasks.measures.uncertainty.judging import Judged, NoOptionsError, judge, summary
from tasks.measures.uncertainty.members import (
    answers_of,
    member_steps,
    reference_steps,
    scores_of,
)
from tasks.measures.uncertainty.settings import FIELD, UncertaintySettings
from tasks.measures.uncertainty.tokens import FILE as SCORES
from tasks.measures.uncertainty.tokens import Scored, judge_tokens
from tasks.measures.zero_shot.questions import read_questions
from tasks.store.steps import MEMBER, Facts, Step, Work
from tasks.store.store import Artifact

PREFIX = "uncertainty/"
ALL = "all tasks"
REASON = "no members"
FILE = "questions.jsonl"
"""Of each question: :class:`tasks.measures.uncertainty.judging.Judged`, and its task."""
_REFERENCE = "reference/"
KINDS = ("entropy", "agreement", "auroc", "margin", "accuracy", "spearman")


class Uncertainty(Measure):
    """Of pruned models that have an ensemble: see ``source``."""

    name = "uncertainty"
    summary = "how sure answers are without labels: LiDu over an ensemble of each pruned model"
    writes = (
        f"{PREFIX}<task>",
        *(f"{PREFIX}<task>/{kind}" for kind in KINDS),
        f"{PREFIX}{REASON}",
    )
    Settings = UncertaintySettings

    def asks_of_encoders(self, evaluation: Any) -> str:
        return "evaluation.uncertainty=null" if evaluation.uncertainty else ""

    def resolve(self, evaluation: Any, trust: Trust) -> None:
        del trust
        asked = evaluation.uncertainty
        if asked is None:
            return
        if asked.items == "options" and not evaluation.zero_shot.tasks:
            raise ConfigurationError(
                f"{FIELD}.items",
                asked.items,
                "there is no task whose options could be scored: name at least one under "
                "evaluation.zero_shot.tasks",
            )
        if evaluation.device_map == "auto":
            allowed = "members are pruned and measured in memory: leave device_map none"
            raise ConfigurationError("evaluation.device_map", "auto", allowed)

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        asked = subject.evaluation.uncertainty
        if asked is None or subject.dense is None:
            return {}
        members = member_steps(subject)
        if isinstance(members, str):
            reason = members
            step = Step(
                name="uncertainty_unknown",
                inputs={"reason": reason},
                produce=lambda work: {"reason": reason},
                label="uncertainty",
                group=subject.label,
            )
            return {REASON: step}
        dense = {f"{_REFERENCE}{n}": step for n, step in reference_steps(subject).items()}
        step = Step(
            name="uncertainty",
            version=self.version,
            inputs={
                "items": asked.items,
                "form": asked.form,
                "k": asked.positions,
                **_asked_for(subject),
            },
            needs={**members, **dense},
            produce=_produce,
            label="uncertainty",
            group=subject.label,
        )
        return {"all": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        if REASON in found:
            return {PREFIX + REASON: found[REASON].facts["reason"]}
        row: dict[str, Value] = {}
        for task, told in found["all"].facts["tasks"].items():
            row[PREFIX + task] = told["u"]
            values = {**told, "auroc": told["auroc"]["u"]}
            row |= {f"{PREFIX}{task}/{k}": values[k] for k in KINDS if values.get(k) is not None}
        return row

    def curves(self, found: Mapping[str, Artifact]) -> Mapping[str, Sequence[tuple[float, float]]]:
        if "all" not in found:
            return {}
        told = found["all"].facts["tasks"]
        whole = ALL if ALL in told else next(iter(told))
        points = [(float(part), float(value)) for part, value in told[whole]["coverage"]["u"]]
        return {f"{PREFIX}{whole}/accuracy": points} if points else {}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        told = instances(columns, PREFIX)
        tasks = {name.rpartition("/")[0] for name in told} - {""}
        return [_figure(name, tasks) for name in told]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(PREFIX) for row in rows for column in row):
            return ()
        return (
            "U: minus the mean log-probability that members rank the answer above the other "
            "options; log 2 is chance, 0 certainty. A collapsed model that answers alike every "
            "time has a low U: read it beside entropy and agreement, and rank no models by it.",
            "Accuracy and AUROC there are of the members' mean, AUROC of -U against right or "
            "wrong; 0.5 tells nothing.",
        )


def _asked_for(subject: Subject) -> dict[str, Any]:
    """Which members. Of calibration text the inputs are a former version's, whose artifacts stay
    of use."""
    asked = subject.evaluation.uncertainty
    if asked.source == "calibration":
        return {"samples": asked.members, "subset": asked.windows}
    if asked.source == "masks":
        return {"source": asked.source, "samples": asked.members}
    # The needs are other cells' steps, of which ``diff`` does not say whose they are.
    return {"source": asked.source, "seeds": list(subject.siblings())[: asked.samples]}


def _figure(name: str, tasks: set[str]) -> Figure:
    task, _, kind = name.rpartition("/")
    if name == REASON:
        return Figure(column=PREFIX + name, label="why there is no uncertainty", heading=name,
                      group="uncertainty", format="text", better="")  # fmt: skip
    if name in tasks:
        task, kind = name, "u"
    share = {"unit": "%", "format": "percent", "better": "higher"}
    words: dict[str, tuple[str, str, dict[str, Any]]] = {
        "u": ("LiDu's U", "U", {"unit": "nats", "better": ""}),
        "auroc": ("AUROC of −U against right or wrong", "AUROC", {"better": "higher"}),
        "entropy": ("entropy of the options", "entropy", {"unit": "nats", "better": ""}),
        "spearman": (
            "Spearman of −U with minus the loss, over windows",
            "Spearman",
            {"better": "higher"},
        ),
        "margin": ("margin of the answer", "margin", {"unit": "nats", "better": ""}),
        "agreement": ("agreement with the dense model's answers", "agreement", share),
        "accuracy": ("accuracy of the members' mean", "accuracy", share),
    }
    label, heading, more = words[kind]
    whole = len(tasks) == 1 or task == ALL
    if whole and kind == "u":
        more = {**more, "estimates": f"{PREFIX}{task}/accuracy"}
    return Figure(
        column=PREFIX + name,
        label=label if whole else f"{label}, {task}",
        heading=heading if whole else f"{task} {heading}",
        group="uncertainty" if whole else "uncertainty, task by task",
        axis="linear",
        **more,
    )


def _produce(work: Work) -> Facts:
    inputs, roles = work.step.inputs, work.step.needs
    options = inputs["items"] == "options"
    members = _scored(work)
    judged: dict[str, list[Judged]] = {}
    told: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    how = {"form": inputs["form"], "k": inputs["k"]}
    for role in (role for role in roles if role.startswith(_REFERENCE)):
        name, dense, over_windows = role.removeprefix(_REFERENCE), work.need(role).path, None
        try:
            if options:
                judged[name] = judge(answers_of(work, name), read_questions(dense), **how)
            else:
                scores = [scores_of(member, name) for member in members]
                judged[name], over_windows = judge_tokens(
                    scores, Scored.load(dense / SCORES), **how
                )
        except NoOptionsError as error:
            unusable[name] = str(error)
            continue
        told[name] = {**summary(judged[name]), "spearman": over_windows}
    if not told:
        allowed = "; ".join(f"{task}: {reason}" for task, reason in unusable.items())
        raise ConfigurationError(f"{FIELD}.items", inputs["items"], allowed)
    _write(work, judged)
    if len(told) > 1:
        told[ALL] = summary([entry for entries in judged.values() for entry in entries])
    return {
        "tasks": told,
        "unusable": unusable,
        "members": len({role.split("/")[1] for role in roles if role.startswith(f"{MEMBER}/")}),
        "sparsities": [m.facts["sparsity"] for m in members if "sparsity" in m.facts],
        # What the cell's evaluation cost holds what its members' own steps cost.
        "seconds": sum(member.facts["step_seconds"] for member in members),
        "peak_memory_bytes": max((m.facts["peak_memory_bytes"] for m in members), default=0),
    }


def _scored(work: Work) -> list[Artifact]:
    """Artifacts of members that have a step of their own; seeds' answers to tasks have none."""
    needs = work.step.needs.items()
    return [work.need(role) for role, step in needs if step.name == MEMBER]


def _write(work: Work, judged: Mapping[str, Sequence[Judged]]) -> None:
    lines = (
        json.dumps({"task": task, **entry.as_json()}) + "\n"
        for task, entries in judged.items()
        for entry in entries
    )
    (work.out / FILE).write_text("".join(lines), encoding="utf-8")
