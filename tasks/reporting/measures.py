"""What else a row may hold beside perplexity: agreement, zero-shot tasks, speed and size.

Every column is optional: it is absent, or None, where it was not measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tasks.reporting.rows import Row, Value, is_dense
from tasks.reporting.views import figure, of_model

KL = "kl/"
AGREEMENT = "top1_agreement/"
ZERO_SHOT = "zero_shot/"
STDERR = "_stderr"
ZERO_SHOT_MEAN = "zero_shot/mean"
RECONSTRUCTION = "reconstruction_error"
PREFILL = "speed/prefill_tokens_per_second"
DECODE = "speed/decode_tokens_per_second"
LATENCY_P50 = "speed/latency_p50_ms"
LATENCY_P95 = "speed/latency_p95_ms"
SPEED_MEMORY = "speed/peak_memory_bytes"
HARDWARE = "speed/hardware"
DEVICE = "speed/device"
ON_DISK = "bytes_on_disk"

SPEED_FIGURES = (PREFILL, DECODE, LATENCY_P50, LATENCY_P95, SPEED_MEMORY)
_MAIN_METRICS = ("acc", "acc_norm", "exact_match", "f1")
"""The first of these that a task has is its main metric; else the first that it has at all."""
_GPU = re.compile(r"\b(cuda|gpu|nvidia|geforce|rtx|[ahvbl]\d{2,3}|gh?200|tesla|instinct|mi\d{3})\b")


def measured(rows: Iterable[Mapping[str, Value]], column: str) -> bool:
    """Whether any row has a number in ``column``."""
    return any(figure(row, column) is not None for row in rows)


def corpora_of(rows: Iterable[Mapping[str, Value]], prefix: str) -> list[str]:
    """Names of the corpora with a number under ``prefix``, in order of first appearance."""
    return list(
        dict.fromkeys(
            key.removeprefix(prefix)
            for row in rows
            for key in row
            if key.startswith(prefix) and figure(row, key) is not None
        )
    )


def zero_shot_tasks(rows: Iterable[Mapping[str, Value]]) -> dict[str, str]:
    """Task → column of its main metric, in order of first appearance."""
    metrics: dict[str, list[str]] = {}
    for row in rows:
        for key in row:
            task, _, metric = key.removeprefix(ZERO_SHOT).rpartition("/")
            if not key.startswith(ZERO_SHOT) or not task or metric.endswith(STDERR):
                continue
            if figure(row, key) is not None and metric not in metrics.setdefault(task, []):
                metrics[task].append(metric)
    return {
        task: f"{ZERO_SHOT}{task}/{next((m for m in _MAIN_METRICS if m in found), found[0])}"
        for task, found in metrics.items()
        if found
    }


def standard_error(row: Mapping[str, Value], column: str, tasks: Mapping[str, str]) -> float | None:
    """Of a zero-shot column; of the mean over tasks, as if they were independent.

    Args:
        tasks: from :func:`zero_shot_tasks`.
    """
    if column != ZERO_SHOT_MEAN:
        return figure(row, column + STDERR)
    # The tasks that this row has: the mean is over these.
    errors = [
        figure(row, main + STDERR) for main in tasks.values() if figure(row, main) is not None
    ]
    if not errors or any(error is None for error in errors):
        return None
    return math.hypot(*(error for error in errors if error is not None)) / len(errors)


def dense_figure(rows: Iterable[Row], model: str, column: str) -> float | None:
    """The dense model's own figure."""
    mine = (figure(row, column) for row in of_model(rows, model) if is_dense(row))
    return next((value for value in mine if value is not None), None)


def speedup(row: Row, rows: Sequence[Row], column: str) -> float | None:
    """Tokens a second as a multiple of the dense model's; None unless on the same hardware."""
    mine = figure(row, column)
    for dense in of_model(rows, str(row.get("model"))):
        base = figure(dense, column)
        if is_dense(dense) and mine is not None and base:
            return mine / base if dense.get(HARDWARE) == row.get(HARDWARE) else None
    return None


def hardware(rows: Iterable[Mapping[str, Value]]) -> list[str]:
    """What speed was measured on, each once."""
    timed = (
        row for row in rows if any(figure(row, column) is not None for column in SPEED_FIGURES)
    )
    return list(dict.fromkeys(str(row.get(HARDWARE) or "unnamed hardware") for row in timed))


def on_cpu(rows: Iterable[Mapping[str, Value]]) -> bool:
    """Whether speed was measured on a processor: ``speed/device`` says so, or no GPU is named."""
    for row in rows:
        if _timed(row):
            device, named = str(row.get(DEVICE) or ""), str(row.get(HARDWARE) or "")
            if device.startswith("cpu") or (not device and named and not _names_gpu(named)):
                return True
    return False


def _timed(row: Mapping[str, Value]) -> bool:
    return any(figure(row, column) is not None for column in SPEED_FIGURES)


def _names_gpu(text: str) -> bool:
    lower = text.lower()
    return not lower.startswith("cpu") and _GPU.search(lower) is not None


def speed_notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of speed figures must know: the hardware, and what a mask does not do."""
    places = hardware(rows)
    if not places:
        return []
    notes = [f"Speed on {'; '.join(places)}."]
    if len(places) > 1:
        notes.append("Only figures of the same hardware are compared.")
    if on_cpu(rows):
        notes.append(
            "On a CPU masked weights are not faster: a zero is multiplied like any other number, "
            "and differences of masked models are noise. Only models whose heads or channels were "
            "cut out compute less."
        )
    return notes
