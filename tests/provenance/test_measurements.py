"""Each figure is compared by the measurement that it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from comparing import ENVIRONMENT, make

from tasks.provenance.manifests import derived
from tasks.provenance.result import Result
from tasks.provenance.verdict import compare_results
from tasks.store.store import Step, Store

TASK = {"harness": "0.4.9", "task": "piqa", "version": "1", "settings": "s"}


def judged(root: Path, *, limit: int | None = 10, threads: str = "2", **task: str) -> Result:
    """A result with a zero-shot figure, its inputs read from an artifact."""
    zero_shot = {"version": 1, "weights": "w", "dtype": "float32", "task": TASK | task,
                 "limit": limit, "num_fewshot": None}  # fmt: skip
    speed = {"version": 1, "weights": "w", "dtype": "float32", "prompt_tokens": 32}
    environment = ENVIRONMENT | {"threads": threads}
    steps = {"zero_shot/piqa": Step("zero_shot", zero_shot), "speed": Step("speed", speed)}
    store = Store(root)
    for step in steps.values():
        store.get_or_create(step, lambda _: {"processes": 1, "environment": environment})
    places = {role: f"{step.name}/{step.fingerprint}" for role, step in steps.items()}
    base = make()
    metrics = {"zero_shot/piqa/acc": 0.5, "speed/prefill_tokens_per_second": 9.0}
    return replace(
        base, metrics={**base.metrics, **metrics}, inputs=base.inputs | derived(root, places)
    )


@pytest.mark.parametrize(
    ("changes", "inputs", "consequences"),
    [
        ({"limit": 20}, ["zero_shot/limit"], []),
        (
            {"version": "2"},
            ["zero_shot/task_digest"],
            ["zero_shot/task_version"],
        ),
        ({"limit": None}, ["zero_shot/limit"], []),
    ],
)
def test_a_task_differs_in_its_own_settings(
    tmp_path: Path, changes: dict[str, str], inputs: list[str], consequences: list[str]
) -> None:
    sides = judged(tmp_path / "a"), judged(tmp_path / "b", **changes)  # type: ignore[arg-type]
    found = compare_results(*sides, "zero_shot/piqa/acc").compared
    assert [entry.key for entry in found.of("input")] == inputs
    assert [entry.key for entry in found.of("consequence")] == consequences
    assert not found.unknown
    # And the perplexity of the same two results knows nothing of it.
    assert not compare_results(*sides, "perplexity/docs").compared.differences


def test_each_figure_has_the_environment_it_was_measured_in(tmp_path: Path) -> None:
    sides = judged(tmp_path / "a"), judged(tmp_path / "b", threads="8")
    for metric in ("zero_shot/piqa/acc", "speed/prefill_tokens_per_second"):
        keys = {entry.key for entry in compare_results(*sides, metric).compared.differences}
        assert keys - {"environment/evaluated_on"} == {"environment/threads"}
    assert not compare_results(*sides, "perplexity/docs").compared.differences
    assert "speed's prompt_tokens" in compare_results(*sides, metric).compared.same
