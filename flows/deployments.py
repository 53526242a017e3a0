"""What the Prefect page and the schedules see: the ``sweep`` form, and presets by name.

Both run below one work pool, whose worker starts each run in a process of its own. A run does what
``secateur run`` does, in the same home, with two differences: what it may read is restricted
(``access.py``), and what the terminal would show goes to the run's log and state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed

from configs.errors import ConfigurationError
from configs.yaml_file import presets, read, validate
from flows.commands.run import log_to_file
from flows.compute.overlap import exclusive
from flows.serve.access import data_folder, restricted, trust_allowed
from flows.serve.forms import requested, with_form
from flows.serve.waiting import give_place_back
from flows.sweep import sweep
from tasks.models.errors import SourceUnavailableError, UnsupportedModelError
from tasks.runtime.progress import Event
from tasks.steps.session import session
from tasks.store.store import StorageFullError

WORK_POOL = "SECATEUR_WORK_POOL"
"""Set where the forms' worker runs: the pool that computes the cells; empty: that worker itself."""
PRESETS = tuple(presets())
PresetName = Literal[*PRESETS]


def _sweep_form(**fields: Any) -> Any:
    """Prune every model with every method to every target, evaluate and compare.

    What was computed once is not computed again. The results are in the run's artifacts, below
    sweeps/ in the home, and in MLflow.
    """
    return _executed(lambda: requested(fields))


sweep_form = flow(name="sweep", flow_run_name="{name}", persist_result=False)(
    with_form(_sweep_form)
)


@flow(name="preset", flow_run_name="{preset}", persist_result=False)
def preset_form(preset: PresetName = "smoke", settings: list[str] = []) -> Any:  # type: ignore[valid-type]  # noqa: B006 (the form's default)
    """Run a sweep that comes with secateur, by name.

    Args:
        preset: quickstart: minutes; smoke: seconds; methods: every method with a serious budget.
        settings: changes, one a row: field=value, such as seeds=[0,1] or name=second.
    """
    return _executed(lambda: read(preset, settings, base=None))


def _executed(asked: Callable[[], dict[str, Any]]) -> Any:
    """Run what was asked for; a mistake fails with the words that the command line has for it."""
    logger = get_run_logger()
    try:
        fields = restricted(asked(), data=data_folder(), allow_trust=trust_allowed())
        config = validate(fields)
        log_to_file(config.name)

        def wait(reason: str) -> None:
            logger.info(reason)
            give_place_back(UUID(str(flow_run.id)), config.name, reason)

        with exclusive(config, wait), session().progress.listening(_logged(logger)):
            return sweep.fn(config, os.environ.get(WORK_POOL, ""))
    except (
        ConfigurationError,
        SourceUnavailableError,
        UnsupportedModelError,
        StorageFullError,
    ) as error:
        logger.error("%s", error)  # noqa: TRY400 (a user's mistake needs no traceback)
        return Failed(message=str(error))


def _logged(logger: Any) -> Callable[[Event], None]:
    """The terminal's lines as lines of the run's log."""

    def write(event: Event) -> None:
        what = event.group if event.name == "cell" else f"{event.group}: {event.name}"
        if event.status == "failed":
            logger.error("failed: %s  %s", what, event.message)
        elif event.status == "computed":
            logger.info("done in %.1f s: %s  %s", event.seconds, what, event.message)
        elif event.status == "reused" and event.name == "cell":
            logger.info("kept: %s  %s", what, event.message)

    return write
