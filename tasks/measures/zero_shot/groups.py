"""A group's figure from its tasks', computed by the harness itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from tasks.measures.zero_shot.quiet import DEFAULT_SEEDS, contained
from tasks.measures.zero_shot.results import NO_FILTER, RAW, TaskResult, result_of

_MISSING = "N/A"


def group_result(
    name: str, aggregates: Sequence[Mapping[str, Any]], tasks: Mapping[str, TaskResult]
) -> TaskResult:
    """What the harness's command line shows of a group.

    Args:
        aggregates: its ``aggregate_metric_list``.
        tasks: name → result, of all tasks in it, those of its groups too.

    Raises:
        ValueError: no task has a metric of the list.
    """
    with contained(DEFAULT_SEEDS):
        from lm_eval.api.group import Group

        group: Any = Group.from_config({"group": name, "aggregate_metric_list": list(aggregates)})
        # It asks its tasks for their names alone.
        group.get_all_tasks = lambda: [SimpleNamespace(task_name=task) for task in tasks]
        figures = group.aggregate({task: _as_told(result) for task, result in tasks.items()})
    found = {
        "results": {name: figures},
        "higher_is_better": {},
        "n-samples": {
            name: {
                "effective": sum(result.documents for result in tasks.values()),
                "original": sum(result.documents_in_all for result in tasks.values()),
            }
        },
        "n-shot": {name: max(result.num_fewshot for result in tasks.values())},
        "versions": {},
    }
    if not any("," in key for key in figures):
        wanted = ", ".join(entry["metric"] for entry in aggregates)
        raise ValueError(
            f"the group {name} aggregates {wanted}, and none of its tasks has that: name its tasks "
            "in evaluation.zero_shot.tasks in place of the group"
        )
    metrics = (metric.partition(",")[0] for result in tasks.values() for metric in result.metrics)
    unscaled = {metric.removesuffix(RAW) for metric in metrics if metric.endswith(RAW)}
    return result_of(name, found, unscaled)


def _as_told(result: TaskResult) -> dict[str, Any]:
    """A task's figures under the harness's names."""
    told: dict[str, Any] = {"sample_len": result.documents}
    for shown, figure in result.metrics.items():
        metric, _, filter_name = shown.partition(",")
        metric, filter_name = metric.removesuffix(RAW), filter_name or NO_FILTER
        told[f"{metric},{filter_name}"] = math.nan if figure.value is None else figure.value
        stderr = _MISSING if figure.stderr is None else figure.stderr
        told[f"{metric}_stderr,{filter_name}"] = stderr
    return told
