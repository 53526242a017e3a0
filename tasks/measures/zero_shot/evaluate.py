"""Zero-shot tasks of lm-evaluation-harness on a loaded model, in one process or in several.

Requests, likelihoods and metrics are the harness's own, so the figures are those of its command
line (``lm_eval --model hf``) at the same dtype and batch size, but for the two departures that
``model.py`` names. A number of examples other than none makes it few-shot.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigurationError
from tasks.measures.zero_shot.questions import questions_of, record_metrics_
from tasks.measures.zero_shot.quiet import DEFAULT_SEEDS, contained
from tasks.measures.zero_shot.results import Metric, TaskResult, result_of
from tasks.measures.zero_shot.tasks import ResolvedTask, require_unchanged, resolve_tasks
from tasks.models.sources.digests import digest_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tasks.pruning.core.methods import Progress

__all__ = ["Metric", "ResolvedTask", "TaskResult", "ZeroShotError", "resolve_tasks", "zero_shot"]

_BOOTSTRAP = 100_000
"""Resamples for standard errors without a formula, as on the harness's command line."""


class ZeroShotError(RuntimeError):
    """A task that was found but cannot be loaded or measured; the message names it."""


def zero_shot(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[ResolvedTask],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 4,
    seed: int | None = None,
    may_idle: bool = False,
    progress: Progress | None = None,
    known: dict[str, Any] | None = None,
) -> dict[str, TaskResult]:
    """Measure a model on tasks.

    Where ``torch.distributed`` is initialised every rank calls this with the same arguments and
    computes its share; rank 0 gets what one process would get, the others an empty dictionary.

    Args:
        model: in eval mode; sliced, masked or with side branches.
        limit: only the first so many documents of each task.
        num_fewshot: examples before each question; None: as the task says.
        batch_size: sequences of one forward pass.
        seed: of the examples that are drawn; None: the harness's own.
        may_idle: there may be more processes than documents, for nobody named their number.
        progress: called with (sequences computed here, sequences of all ranks).
        known: takes what is loaded of each task, and gives it back to later calls that ask the
            same: to read their data again takes seconds.

    Returns:
        Task name → result, in the tasks' order.

    Raises:
        ConfigurationError: more processes than documents, or files that changed.
        ZeroShotError: a task cannot be loaded, or the harness fails on it.
        FloatingPointError: the model's likelihoods are NaN.
    """
    if not tasks:
        return {}
    for task in tasks:
        require_unchanged(task)
    seeds = DEFAULT_SEEDS if seed is None else (seed, seed, seed)
    with contained(seeds):
        from lm_eval.evaluator import evaluate

        from tasks.measures.zero_shot.model import SharedModel, place

        known = {} if known is None else known
        loaded = {task.name: _known(task, num_fewshot, seeds[1], known) for task in tasks}
        told = {name: record_metrics_(entry) for name, entry in loaded.items()}
        rank, count = place()
        if not may_idle:
            _require_documents(loaded, limit, count)
        language_model = SharedModel(model, tokenizer, batch_size=batch_size, progress=progress)
        found: Any = evaluate(
            lm=language_model,
            task_dict={"tasks": loaded, "groups": {}, "group_map": {}},
            limit=limit,
            log_samples=False,
            bootstrap_iters=_BOOTSTRAP if rank == 0 else 0,
        )
        return {} if rank else _results(loaded, told, found, language_model.cut)


def _results(
    loaded: Mapping[str, Any], told: Mapping[str, Any], found: Any, cut: Any
) -> dict[str, TaskResult]:
    """What the harness found, with each task's questions."""
    results: dict[str, TaskResult] = {}
    for name, task in loaded.items():
        result = result_of(name, found, _unscaled(task, told[name]))
        kept = questions_of(task, told[name], cut)
        results[name] = dataclasses.replace(result, questions=kept)
    return results


def _unscaled(task: Any, told: Sequence[Mapping[str, Any]]) -> set[str]:
    """Metrics that may be above 1, whatever their names say.

    SQuAD 2.0's F1 is in per cent: a task's class may add up as it likes, and a small figure of it
    looks like a share. Elsewhere a document that adds more than 1 tells.
    """
    from lm_eval.api import metrics
    from lm_eval.api.task import ConfigurableTask

    own = {} if type(task) is ConfigurableTask else task.aggregation()
    known = vars(metrics).values()
    above = {n for entry in told for n, v in entry.items() if isinstance(v, Real) and float(v) > 1}
    return {name for name, add_up in own.items() if add_up not in known} | above


def _known(task: ResolvedTask, num_fewshot: int | None, seed: int, known: dict[str, Any]) -> Any:
    """The harness's task with its examples drawn anew, read only where ``known`` lacks it."""
    key = json.dumps([dict(task.identity), num_fewshot], sort_keys=True)
    if key not in known:
        known[key] = _load(task)
    _set_examples(known[key], num_fewshot, seed)
    return known[key]


def _load(task: ResolvedTask) -> Any:
    """The harness's task, with its data.

    Only the folder of the task's file is indexed: all of the harness's takes seconds.

    Raises:
        ZeroShotError: it cannot be loaded.
    """
    from lm_eval.tasks import TaskManager

    folder = str(Path(task.file).parent) if task.file else None
    manager = TaskManager(include_defaults=False, include_path=folder)
    spec: dict[str, Any] = {**_read_by_content(task), "task": task.name}
    try:
        # A group of one, for in a group the harness puts overrides over a task's file.
        loaded = manager.load([{"group": "one", "task": [spec]} if task.file else spec])
        return loaded["tasks"][task.name]
    except Exception as error:  # the harness and `datasets` raise anything
        raise ZeroShotError(f"the task {task.name} cannot be loaded: {error}") from error


def _read_by_content(task: ResolvedTask) -> dict[str, Any]:
    """The task's overrides; of local files, ``datasets`` caches what it reads by their content.

    By itself it knows a file again by path and time, and takes another's rows for its own.
    """
    if task.identity["data"]["source"] in ("hub", "code"):
        return dict(task.overrides)
    from datasets import config

    kept = Path(config.HF_DATASETS_CACHE) / "by-content" / digest_of(task.identity)
    options = {**task.overrides["dataset_kwargs"], "cache_dir": str(kept)}
    return {**task.overrides, "dataset_kwargs": options}


def _set_examples(task: Any, num_fewshot: int | None, seed: int) -> None:
    """As the harness's command line does: a task that says 0 keeps it."""
    own = task.get_config("num_fewshot")
    if own != 0 and num_fewshot is not None:
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=seed)


def _require_documents(loaded: Mapping[str, Any], limit: int | None, processes: int) -> None:
    counts = [len(getattr(task, "task_docs", None) or task.eval_docs) for task in loaded.values()]
    documents = sum(count if limit is None else min(limit, count) for count in counts)
    if processes > documents:
        raise ConfigurationError(
            "evaluation.processes",
            processes,
            f"zero-shot has {documents} documents here, and each process needs at least one",
        )
