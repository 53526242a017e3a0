"""The one Prefect task: it looks in the store, else produces, else says why not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prefect import Task, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.states import Completed
from prefect.utilities.annotations import quote

from tasks.runtime.errors import forget_frames
from tasks.runtime.progress import Pace
from tasks.steps.results import read_no_stored_results
from tasks.store.context import Context
from tasks.store.steps import PassingError, Step, walk

read_no_stored_results()

_SECONDS_BETWEEN = 5.0
"""An update is a call of Prefect's API."""
_MANY = 50
"""Parts from which on a step is shown at once, however quick they are."""


def call_task(
    called: Task[..., Any], *arguments: Any, name: str = "", return_state: bool = False
) -> Any:
    """Call a Prefect task in this process; its arguments are not searched and no slot is asked for.

    Prefect would search the arguments, whole graphs, for futures; and a task takes over the tags of
    its flow run, for each of which Prefect asks the server for a slot and renews it in a thread.

    Args:
        name: of the task run.
        return_state: give the final state, whatever it is, instead of raising what went wrong.
    """
    if name:  # Prefect reads it as a template, in which a model's path may have braces
        called = called.with_options(task_run_name=name.replace("{", "{{").replace("}", "}}"))
    with TagsContext(current_tags=set()):
        return called(*map(quote, arguments), return_state=return_state)


def can_pass(_task: Any, _run: Any, state: State) -> bool:
    """Whether a task failed with an error that may be gone on a second try."""
    try:
        state.result(raise_on_failure=True)
    except PassingError:
        return True
    except Exception:  # noqa: BLE001 (any other error is no reason to try again)
        return False
    return False


def cached(value: Any) -> State:
    """The state that Prefect itself gives a task whose result it has.

    The store, not Prefect, decides: it verifies the artifact, which a Prefect cache key does not.
    """
    return Completed(name="Cached", message="The store has this artifact.", data=value)


@task(
    name="step",
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=can_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def _run(step: Step, context: Context) -> Any:
    with _shown_in_prefect(f"{step.group}: {step.label}") as watch:
        try:
            artifact = context.make(step, watch=watch)
        except Exception as error:
            # The run's state keeps the error: not the models in the frames that it came through.
            forget_frames(error)
            raise
    return cached(step.place) if artifact.reused else step.place


def run_step(step: Step, context: Context, *, return_state: bool = False) -> Any:
    """Run a step as a task of this flow run.

    Args:
        return_state: give the final state, whatever it is, instead of raising what went wrong.
    """
    return call_task(
        _run.with_options(name=step.name),
        step,
        context,
        name=f"{step.label} · {step.group}",
        return_state=return_state,
    )


def open_steps(goals: Iterable[Step], context: Context) -> Iterator[Step]:
    """What is to be run for the goals, needs first: the goals, and what is missing behind them.

    A goal that the store holds is told too, so that Prefect shows it as cached. Each step is looked
    for when its turn comes: cells that share a step may run side by side, and the other one may
    have made it by then, and dropped the checkpoint behind it.
    """
    goals = list(goals)
    wanted = set(goals)
    lacking: set[Step] = set()

    def lacks(step: Step) -> bool:
        if step.outside is not None:
            return True
        if context.find(step) is None:
            lacking.add(step)
        return step in lacking

    for step in walk(goals, into=lacks):
        if step in wanted or step in lacking:
            yield step


def is_complete(goals: Iterable[Step], context: Context) -> bool:
    """Whether nothing is left to compute."""
    return all(context.find(goal) is not None for goal in goals)


@contextlib.contextmanager
def _shown_in_prefect(label: str) -> Iterator[Callable[[int, int], None]]:
    """What a long step tells, as a progress artifact of the run; a short one needs none."""
    told = time.monotonic()
    pace = Pace()
    artifact: Any = None

    def watch(done: int, total: int) -> None:
        nonlocal told, artifact
        now = time.monotonic()
        left = pace(done, total, now)
        late = now - told >= _SECONDS_BETWEEN or (artifact is None and total >= _MANY)
        if not late and (done < total or artifact is None):
            return
        told = now
        text = f"{label}: {left}"
        with contextlib.suppress(Exception):  # a server's outage must not cost the work
            if artifact is None:
                artifact = create_progress_artifact(0.0, key=None, description=text)
            update_progress_artifact(artifact, progress=100.0 * done / total, description=text)

    yield watch
