"""The plan of a sweep in this process: resolved once, shared by the sweep and its cells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from configs.schema import SweepConfig
from tasks.models.load import best_device, resolve_dtype
from tasks.plan.plan import Plan, plan_sweep
from tasks.plan.resolved import from_json, knowing
from tasks.steps.prepare import check_windows
from tasks.store.home import home, require_writable
from tasks.store.store import Store


@lru_cache(maxsize=1)
def _store_at(root: Path) -> Store:
    return Store(root)


def store() -> Store:
    """The artifact store of this home, one for the process: it remembers what it verified."""
    return _store_at(home())


_plans: dict[str, Plan] = {}


def plan_of(config: SweepConfig) -> Plan:
    """Resolve a sweep on this machine, once in this process.

    Raises:
        ConfigurationError: for a source that cannot be used, or no possible combination.
    """
    key = config.model_dump_json()
    if key not in _plans:
        dtype = str(resolve_dtype(config.dtype, best_device())).removeprefix("torch.")
        plan = plan_sweep(config, dtype=dtype)
        # What comes back from Prefect as the resolved sweep is the same plan.
        _plans[key] = _plans[plan.config.model_dump_json()] = plan
    return _plans[key]


def plan_from(config: SweepConfig, sources: Mapping[str, Any]) -> Plan:
    """The plan of a sweep that another machine resolved: none of its texts need be here.

    Args:
        sources: what :func:`tasks.plan.resolved.to_json` says of them.
    """
    with knowing(from_json(sources, home())):
        plan = plan_sweep(config, dtype=config.dtype)
    _plans[config.model_dump_json()] = _plans[plan.config.model_dump_json()] = plan
    return plan


def checked_plan_of(config: SweepConfig) -> Plan:
    """As :func:`plan_of`, and every corpus is long enough and the home can be written."""
    require_writable(home())
    plan = plan_of(config)
    check_windows(plan, store(), download=True)
    return plan
