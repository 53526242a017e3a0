"""How fast a subject, dense or pruned, is on this hardware, as a step of the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Evaluation
from configs.trust import Trust
from tasks.measures.speed.timing import measure_speed
from tasks.models.load import best_device
from tasks.models.saved.semi_structured import convert_
from tasks.runtime.environment import environment
from tasks.runtime.progress import work
from tasks.steps.prepare import forget_dense
from tasks.steps.states import cached
from tasks.steps.subject import Subject, release
from tasks.store.store import Store


@task(
    name="measure speed",
    task_run_name="speed of {subject.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def measure(subject: Subject, store: Store, trust: Trust, evaluation: Evaluation) -> Any:
    """Prefill, decoding, latency and memory; measured once, with the hardware beside the figures.

    The hardware is no part of the step's identity: a store that machines share holds one
    measurement of each subject, and the report says where figures come from different hardware.
    """
    step = subject.measures.speed
    assert step is not None

    def produce(folder: Path) -> Mapping[str, Any]:
        del folder
        begun = time.perf_counter()
        # Its peak memory shall be that of one model.
        if subject.cell:
            forget_dense()
        else:
            release()
        network = subject.network(store, trust, evaluation)
        kernels = "dense"
        if subject.cell and best_device().type == "cuda" and evaluation.device_map == "none":
            # The last that is measured of a cell, whose model is then let go; the dense one stays.
            kernels = convert_(network).note
        with work(subject.label, "speed") as advance:
            result = measure_speed(
                network, **evaluation.speed_options.model_dump(), progress=advance
            )
        return asdict(result) | {
            "kernels": kernels,
            "device_map": evaluation.device_map,
            "environment": environment(),
            "step_seconds": time.perf_counter() - begun,
        }

    artifact = store.get_or_create(step, produce)
    told = {key: artifact.facts[key] for key in ("prefill_tokens_per_second",)}
    return cached(told) if artifact.reused else told
