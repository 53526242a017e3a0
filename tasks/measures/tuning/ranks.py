"""A tuning in several processes of this machine, which share every batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.tuning.batches import Encoded, Reading
from tasks.measures.tuning.files import load_head_, save_body, save_head
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.sharing import Lesson, Recipe
from tasks.measures.tuning.training import fine_tune_, weights_of, zeros_of
from tasks.models.load import load_model
from tasks.processes.call import call
from tasks.processes.rank import Rank, joined
from tasks.runtime.memory import measured
from tasks.training.checkpoints import Checkpoints
from tasks.training.engine import AccelerateEngine, accelerator_for

_MODEL, _EXAMPLES, _TUNED = "model", "examples.json", "tuned.safetensors"


def tune_in_processes_(
    network: TaskNetwork,
    lesson: Lesson,
    *,
    holds: bool,
    processes: int,
    device: torch.device,
    trust: Trust,
    scratch: Path,
    progress: Callable[[int, int], None],
    checkpoint_seconds: float = 60.0,
) -> tuple[list[dict[str, float]], int]:
    """As :func:`tasks.measures.tuning.training.fine_tune_`, shared by so many processes.

    Args:
        holds: whether the zeros of the model's layers stay zero.
        device: of its kind each process takes one.
        scratch: a folder of this tuning alone; a killed one goes on from what lies there.
        checkpoint_seconds: of work between two snapshots, at least.

    Returns:
        The history, and the memory in bytes of the process that took most.

    Raises:
        ConfigurationError: more processes than GPUs.
        CallError: a process failed; the message holds its traceback.
    """
    from safetensors.torch import load_file

    if device.type == "cuda" and processes > torch.cuda.device_count():
        allowed = f"at most one a GPU is, and there are {torch.cuda.device_count()} GPUs"
        raise ConfigurationError("evaluation.processes", processes, allowed)
    scratch.mkdir(parents=True, exist_ok=True)
    save_body(network, scratch / _MODEL)
    save_head(network, scratch)
    told = [_as_json(entry) for entry in lesson.encoded]
    (scratch / _EXAMPLES).write_text(json.dumps(told), encoding="utf-8")
    kind = type(lesson.objective)
    job = {
        "columns": network.head.out_features,
        "pooling": network.pooling,
        "recipe": asdict(lesson.recipe),
        "objective": [kind.__module__, kind.__qualname__, asdict(lesson.objective)],
        "padding": lesson.padding,
        "holds": holds,
        "on_cpu": device.type == "cpu",
        "trust": trust.model_dump(),
        "checkpoint_seconds": checkpoint_seconds,
    }
    reports = call(
        tune_rank, job, work="tuning", processes=processes, scratch=scratch, progress=progress
    )
    tuned = load_file(scratch / _TUNED)
    with torch.no_grad():
        for name, weight in weights_of(network).items():
            weight.copy_(tuned[name])
    return reports[0]["history"], max(report["peak_memory_bytes"] for report in reports)


def tune_rank(facts: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """This rank's part; rank 0 alone writes snapshots and the tuned weights."""
    from safetensors.torch import save_file

    module, name, fields = facts["objective"]
    told = json.loads((rank.scratch / _EXAMPLES).read_text(encoding="utf-8"))
    lesson = Lesson(
        encoded=[_from_json(entry) for entry in told],
        objective=getattr(import_module(module), name)(**fields),
        recipe=Recipe(**facts["recipe"]),
        padding=facts["padding"],
    )
    device, trust = rank.device(on_cpu=facts["on_cpu"]), Trust(**facts["trust"])
    with joined(device), measured(device.type) as peak:
        model = load_model(rank.scratch / _MODEL, torch.float32, device, trust)
        network = TaskNetwork(model, facts["columns"], facts["pooling"], torch.Generator())
        load_head_(network, rank.scratch)
        with accelerator_for(device, torch.float32) as accelerator:
            checkpoints = Checkpoints(rank.scratch, facts["checkpoint_seconds"])
            history = fine_tune_(
                network,
                lesson,
                zeros_of(model) if facts["holds"] else {},
                engine=AccelerateEngine(accelerator, checkpoints),
                # All ranks take every step together.
                progress=rank.tell if rank.index == 0 else lambda done, total: None,
            )
        if rank.index == 0:
            save_file(
                {name: weight.cpu().contiguous() for name, weight in weights_of(network).items()},
                rank.scratch / _TUNED,
            )
    return {"history": history, "peak_memory_bytes": peak.bytes}


def _as_json(entry: Encoded) -> list[Any]:
    readings = [
        [r.opens, r.closes, r.columns.start, r.columns.stop, sorted(r.labels), r.item]
        for r in entry.readings
    ]
    return [list(entry.ids), readings, entry.record, entry.cut]


def _from_json(told: Sequence[Any]) -> Encoded:
    ids, readings, record, cut = told
    return Encoded(
        tuple(ids),
        tuple(
            Reading(opens, closes, range(start, stop), frozenset(labels), item)
            for opens, closes, start, stop, labels, item in readings
        ),
        record,
        cut,
    )
