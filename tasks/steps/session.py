"""What one process knows of the sweeps that it runs: their plans, contexts and recorders."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import SweepConfig
from tasks.models.load import best_device, resolve_dtype
from tasks.plan.check import check_plan
from tasks.plan.plan import Plan
from tasks.plan.sources import Sources, from_json
from tasks.plan.sweep import plan_sweep
from tasks.runtime.progress import Progress
from tasks.store.context import Context, Loaded
from tasks.store.home import home, require_writable
from tasks.store.store import Store

if TYPE_CHECKING:
    from tasks.reporting.timings import Timings
    from tasks.steps.record import Recorder


class Session:
    """One home, in one process. Prefect calls flows with plain data; they meet here.

    Attributes:
        timings: sweep → where the time of its last run in this process went.
        recorders: plan's fingerprint → its runs on the tracking server.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.progress = Progress()
        self.loaded = Loaded()
        atexit.register(self.loaded.release)  # a model that is spread has weights on disk
        self.timings: dict[str, Timings] = {}
        self.recorders: dict[str, Recorder] = {}
        self._plans: dict[str, Plan] = {}

    def context(self, config: SweepConfig) -> Context:
        """What a sweep's steps work with."""
        return Context(self.store, config.trust, self.progress, self.loaded)

    def plan(self, config: SweepConfig, sources: Mapping[str, Any] | None = None) -> Plan:
        """A sweep's plan, made once.

        Args:
            sources: what another machine resolved, as :func:`tasks.plan.sources.to_json` says it:
                none of its texts need be here.

        Raises:
            ConfigurationError: for a source that cannot be used, or no possible combination.
        """
        key = config.model_dump_json()
        if key not in self._plans:
            if sources is None:
                dtype = str(resolve_dtype(config.dtype, best_device())).removeprefix("torch.")
                plan = plan_sweep(config, dtype=dtype)
            else:
                known: Sources = from_json(sources, self.root)
                plan = plan_sweep(config, dtype=config.dtype, sources=known)
            self._keep(config, plan)
        return self._plans[key]

    def _keep(self, config: SweepConfig, plan: Plan) -> None:
        # What comes back from Prefect as the resolved sweep is the same plan.
        for key in (config, plan.config):
            self._plans[key.model_dump_json()] = plan

    def checked_plan(self, config: SweepConfig, *, download: bool = True) -> Plan:
        """As :meth:`plan`, and every corpus is long enough and every measure can be computed.

        Args:
            download: ask the hub for models' headers, and write what is learned; else neither.
        """
        if download:
            require_writable(self.root)
        plan = self.plan(config)
        if learned := check_plan(plan, self.context(plan.config), download=download):
            # As the next run will plan it: what a method cannot prune is skipped, and all is told.
            sources = replace(plan.sources, models={**plan.sources.models, **learned})
            plan = plan_sweep(config, dtype=plan.config.dtype, sources=sources)
            self._keep(config, plan)
        return plan


@lru_cache(maxsize=1)
def _session_of(root: Path) -> Session:
    return Session(root)


def session() -> Session:
    """This process's session in this home."""
    return _session_of(home())
