"""Zero-shot tasks as a measure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from configs.frozen import Frozen, unique
from configs.trust import Trust
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import network, processes_of, scratch_of
from tasks.measures.figures import Figure, Value, instances, present
from tasks.measures.zero_shot.paired import calibration_error
from tasks.measures.zero_shot.questions import main_metric, write_questions
from tasks.measures.zero_shot.results import RAW, TaskResult, is_share, main_of
from tasks.models.load import best_device, load_tokenizer
from tasks.models.resident import leave_gpus
from tasks.runtime.memory import measured
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from tasks.measures.compared import ComparedAnswers, Kept
    from tasks.measures.zero_shot.tasks import ResolvedTask

PREFIX, STDERR = "zero_shot/", "_stderr"
ASKED = "zero_shot"
"""The kind of step that asks a task's questions."""
ECE = "ece"
CUT = "documents_cut"
MEAN = "mean"
COUNTED = "counted"
ALL_TASKS = "mean of all tasks"
_GROUP = "zero-shot tasks"
_MEAN_VERSION = 6
"""Raise it when the mean of the same tasks changes; the tasks' own is the measure's."""
_BY_CODE = (
    "; its code chooses its data, which no fingerprint holds: these figures stay where they change"
)
_GROUP_VERSION = 1
"""Raise it when a group's figure of the same tasks changes."""
_MANY = 1 << 20
"""Stands for the documents of a task that is judged in full."""
_LOWER = (
    ECE,
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "brier_score",
    "ter",
)


class Tasks(Frozen):
    """Tasks of lm-evaluation-harness."""

    tasks: Annotated[tuple[str, ...], AfterValidator(unique)] = ()
    """Names of tasks or groups that the harness knows, or paper-seven for the papers' seven. Groups
    of which the harness computes a figure count once in the mean, others as their tasks do."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many documents of each task; empty: all."""
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples before each question; empty: as the task itself says."""
    include_path: str | None = None
    """A folder with task files of your own, beside the harness's tasks."""

    @model_validator(mode="after")
    def _nothing_without_tasks(self) -> Self:
        if not self.tasks:
            for name in ("limit", "num_fewshot", "include_path"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs tasks: name at least one")
        return self


class ZeroShotSettings(Frozen):
    """Which zero-shot tasks are asked."""

    zero_shot: Tasks = Tasks()
    """Zero-shot tasks."""


class ZeroShot(Measure):
    """Each task is a step of its own; figures of groups and the mean wait for theirs."""

    name = "zero_shot"
    summary = "accuracy on tasks of lm-evaluation-harness, with standard errors"
    version = 4
    writes = (
        f"{PREFIX}<task>/<metric>",
        f"{PREFIX}<task>/<metric>{STDERR}",
        f"{PREFIX}<group>/<task>/<metric>",
        f"{PREFIX}<group>/<task>/<metric>{STDERR}",
        f"{PREFIX}{MEAN}",
        f"{PREFIX}{MEAN}{STDERR}",
    )
    on_form = ("zero_shot",)
    Settings = ZeroShotSettings

    def resolve(self, evaluation: Any, trust: Trust) -> tuple[ResolvedTask, ...]:
        if not evaluation.zero_shot.tasks:
            return ()
        from tasks.measures.zero_shot.tasks import resolve_tasks

        return resolve_tasks(evaluation.zero_shot, trust=trust)

    def compare(
        self, a: Kept, b: Kept, columns: tuple[str, str], *, wanted: bool
    ) -> ComparedAnswers | None:
        from tasks.measures.zero_shot.compare import compare_answers

        return compare_answers(a, b, columns, wanted=wanted)

    def asks_of_encoders(self, evaluation: Any) -> str:
        return "evaluation.zero_shot={}" if evaluation.zero_shot.tasks else ""

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        own, tasks = task_steps(subject), subject.resolved[ZeroShot.name]
        if not tasks:
            return {}
        named = {task.name: own[task.name] for task in tasks if task.alone}
        for group, aggregates in _groups(tasks).items():
            members = {task.name: own[task.name] for task in tasks if group in task.groups}
            named[group] = Step(
                name="zero_shot_group",
                version=_GROUP_VERSION,
                inputs={"group": group, "aggregates": aggregates},
                needs=members,
                produce=_grouped,
                label=f"zero-shot {group}",
                group=subject.label,
            )
        mean = Step(
            name="zero_shot_mean",
            version=_MEAN_VERSION,
            inputs={},
            needs=named,
            produce=_mean,
            label="zero-shot mean",
            group=subject.label,
        )
        return {**{task.place: own[task.name] for task in tasks}, **named, ALL_TASKS: mean}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for name, artifact in found.items():
            if name == ALL_TASKS:
                row |= {PREFIX + column: value for column, value in artifact.facts.items()
                        if column in (MEAN, MEAN + STDERR)}  # fmt: skip
                continue
            for metric, figures in TaskResult.from_json(artifact.facts["result"]).metrics.items():
                row[f"{PREFIX}{name}/{metric}"] = figures.value
                if figures.stderr is not None:
                    row[f"{PREFIX}{name}/{metric}{STDERR}"] = figures.stderr
            if artifact.facts[ECE] is not None:
                row[f"{PREFIX}{name}/{ECE}"] = artifact.facts[ECE]
            if artifact.facts[CUT]:
                row[f"{PREFIX}{name}/{CUT}"] = artifact.facts[CUT]
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        metrics = _metrics(columns)
        told = [
            _figure(task, metric, metric == main_of(names), columns, _group_of(task, metrics))
            for task, names in metrics.items()
            for metric in names
        ]
        if PREFIX + MEAN not in columns:
            return told
        named = [names for task, names in metrics.items() if not _group_of(task, metrics)]
        count = sum(map(is_share, map(main_of, named)))
        mean = Figure(
            column=PREFIX + MEAN,
            label=f"mean of {count} zero-shot tasks" if count > 1 else "zero-shot accuracy",
            heading="zero-shot",
            group=_GROUP,
            unit="%",
            better="higher",
            format="percent",
            axis="linear",
            role="quality",
            headline=True,
            error=_error_of(MEAN, columns),
        )
        return [mean, *told]

    def notes(self, rows: Sequence[Mapping[str, Value]]) -> Sequence[str]:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if not present(self.figures(columns), rows):
            return ()
        metrics = _metrics(columns)
        groups = list(dict.fromkeys(filter(None, (_group_of(task, metrics) for task in metrics))))
        named = {t: main_of(names) for t, names in metrics.items() if not _group_of(t, metrics)}
        return (
            "Zero-shot: ± one standard error; the mean is over each task's main metric, its error "
            "as if tasks were independent.",
            *(
                f"{group} counts once in the mean, with the figure that lm-evaluation-harness "
                "computes of the group."
                for group in groups
            ),
            *(
                f"{task} is not in the mean: {main} is not known to be a share of right answers."
                for task, main in named.items()
                if not is_share(main)
            ),
            "ECE: how far the likelihood share of the chosen option lies from how often it is "
            "right, in ten bins.",
            *dict.fromkeys(note for row in rows for note in _cut_notes(row)),
        )

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        by_code = {
            task.place
            for task in subject.resolved[ZeroShot.name]
            if task.identity["data"]["source"] == "code"
        }
        return {
            f"zero-shot {name}": _described(artifact.facts) + _BY_CODE * (name in by_code)
            for name, artifact in found.items()
            if name != ALL_TASKS
        }


def task_steps(subject: Subject) -> dict[str, Step]:
    """Task → the step that asks its questions, and keeps each answer."""
    return {
        task.name: Step(
            name=ASKED,
            version=ZeroShot.version,
            inputs={"dtype": subject.dtype, **asked_of(subject, task)},
            needs={"weights": subject.weights},
            produce=lambda work, task=task: _produce(work, subject, task),
            label=f"zero-shot {task.name}",
            group=subject.label,
        )
        for task in subject.resolved[ZeroShot.name]
    }


def asked_of(subject: Subject, task: ResolvedTask) -> dict[str, Any]:
    """What determines a task's answers beside the model."""
    asked: Tasks = subject.evaluation.zero_shot
    # Figures without it were rounded to the dtype, which float32's were not.
    softmax = {} if subject.dtype == "float32" else {"softmax": "float32"}
    told = {"limit": asked.limit, "num_fewshot": asked.num_fewshot, **softmax}
    return {"task": dict(task.identity), **told}


def _groups(tasks: Sequence[ResolvedTask]) -> dict[str, Any]:
    """Named groups with a figure → how the harness computes it."""
    return {group: listed for task in tasks for group, listed in task.groups.items()}


def _group_of(task: str, tasks: Iterable[str]) -> str:
    """The group among ``tasks`` below which a task stands; empty where it stands alone."""
    return next((group for group in tasks if task.startswith(f"{group}/")), "")


def _metrics(columns: Sequence[str]) -> dict[str, list[str]]:
    """Task → its metrics, as far as columns name them."""
    metrics: dict[str, list[str]] = {}
    for instance in instances(columns, PREFIX):
        task, _, metric = instance.rpartition("/")
        if task and not metric.endswith(STDERR):
            metrics.setdefault(task, []).append(metric)
    return metrics


def _figure(task: str, metric: str, main: bool, columns: Sequence[str], group: str) -> Figure:
    kind = metric.partition(",")[0]
    share = is_share(metric)
    name = task.removeprefix(f"{group}/")
    return Figure(
        column=f"{PREFIX}{task}/{metric}",
        label=f"{name} {metric}",
        heading=f"{name} ({metric})",
        group=("" if main else "further metrics of ") + (f"tasks of {group}" if group else _GROUP),
        unit="%" if share else "",
        better="higher" if is_share(kind.removesuffix(RAW)) else "lower" if kind in _LOWER else "",
        format="percent" if share else "number",
        axis="linear",
        error=_error_of(f"{task}/{metric}", columns),
    )


def _cut_notes(row: Mapping[str, Value]) -> Iterator[str]:
    """One sentence a task of which the model did not see all."""
    for column, count in row.items():
        task, _, metric = column.removeprefix(PREFIX).rpartition("/")
        if column.startswith(PREFIX) and metric == CUT and count is not None:
            yield (
                f"{task}: {count} of its documents are longer than {row['model']} takes: their "
                "beginning was not seen, or, of a text that is read whole, in another window."
            )


def _described(facts: Mapping[str, Any]) -> str:
    result = TaskResult.from_json(facts["result"])
    if told := facts.get(COUNTED):
        of = ", ".join(f"{metric} of {count} of them" for metric, count in told.items())
        return f"a group of {facts['tasks']} tasks: {of}; {result.documents} documents"
    return (
        f"version {result.version}, {result.documents} of {result.documents_in_all} documents, "
        f"{result.num_fewshot} examples before each; longer than the model takes: {facts[CUT]}"
    )


def _error_of(name: str, columns: Sequence[str]) -> str:
    column = f"{PREFIX}{name}{STDERR}"
    return column if column in columns else ""


def _produce(work: Work, subject: Subject, task: ResolvedTask) -> Facts:
    from tasks.measures.zero_shot.evaluate import zero_shot
    from tasks.measures.zero_shot.rank import ZeroShotJob, zero_shot_in_processes

    evaluation, asked, trust = subject.evaluation, subject.evaluation.zero_shot, work.context.trust
    processes, device = processes_of(evaluation, asked.limit or _MANY), best_device()
    folder = work.need("weights").path
    options = {
        "limit": asked.limit,
        "num_fewshot": asked.num_fewshot,
        "batch_size": evaluation.batch_size,
    }
    start = time.perf_counter()
    if processes > 1:
        job = ZeroShotJob(
            folder=str(folder.absolute()),
            dtype=subject.dtype,
            tasks=(task,),
            remote_code=trust.remote_code,
            pickle_weights=trust.pickle_weights,
            on_cpu=device.type == "cpu",
            may_idle=evaluation.processes is None,
            **options,
        )
        leave_gpus(work.context)
        with scratch_of(work) as scratch:
            results, peak_bytes = zero_shot_in_processes(job, scratch, processes, work.progress)
    else:
        with measured(device.type) as peak:
            model, tokenizer = network(work, subject), load_tokenizer(folder, trust)
            results = zero_shot(model, tokenizer, [task], progress=work.progress, **options)
        peak_bytes = peak.bytes
    found = results[task.name]
    write_questions(found.questions, work.out)
    judged_by = main_metric(found.questions)
    return {
        "result": found.as_json(),
        ECE: calibration_error(found.questions, judged_by) if judged_by else None,
        CUT: sum(question.cut for question in found.questions),
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak_bytes,
        "processes": processes,
        "batch_size": evaluation.batch_size,
    }


def _grouped(work: Work) -> Facts:
    """The figure of a group, and of how many tasks each metric is."""
    from tasks.measures.zero_shot.groups import group_result

    name, aggregates = work.step.inputs["group"], work.step.inputs["aggregates"]
    tasks = {t: TaskResult.from_json(work.need(t).facts["result"]) for t in work.step.needs}
    found = group_result(name, aggregates, tasks)
    counted = {m: sum(m in result.metrics for result in tasks.values()) for m in found.metrics}
    told = {"tasks": len(tasks), COUNTED: counted}
    return {"result": found.as_json(), ECE: None, CUT: 0, **told}


def _mean(work: Work) -> Facts:
    """Mean of the main metrics of what was named, of those that are shares, and its standard error.

    There is none where one of them has no value: it would be of other tasks than a neighbour's.
    """
    found = [TaskResult.from_json(work.need(t).facts["result"]) for t in work.step.needs]
    shares = [result for result in found if is_share(result.main)]
    values = [result.value for result in shares if result.value is not None]
    if not values or len(values) < len(shares):
        return {}
    facts: dict[str, Any] = {MEAN: math.fsum(values) / len(values)}
    errors = [result.stderr for result in shares if result.stderr is not None]
    if len(errors) == len(values):
        # As if the tasks were independent.
        facts[MEAN + STDERR] = math.hypot(*errors) / len(errors)
    return facts
