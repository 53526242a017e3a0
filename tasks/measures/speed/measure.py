"""Speed as a measure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import network
from tasks.measures.figures import Figure, Row, Value
from tasks.measures.speed.generation import check_positions
from tasks.measures.speed.timing import measure_speed
from tasks.models.load import best_device
from tasks.models.resident import DENSE, PLACED, PRUNED
from tasks.models.saved.semi_structured import convert_
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

PREFIX = "speed/"
HARDWARE, DEVICE = f"{PREFIX}hardware", f"{PREFIX}device"
"""Where it was measured: what figures that compare have in common; the kind of device."""
_GPU = re.compile(r"\b(cuda|gpu|nvidia|geforce|rtx|[ahvbl]\d{2,3}|gh?200|tesla|instinct|mi\d{3})\b")


def _rate(part: str, word: str) -> Figure:
    return Figure(
        column=f"{PREFIX}{part}_tokens_per_second",
        label=f"{word} speed",
        heading=part,
        group="speed",
        unit="tokens/s",
        better="higher",
        format="rate",
        axis="linear",
        role="speed",
        relative=True,
        comparable=HARDWARE,
        bounds=(0.5, 1.5),
    )


def _latency(percent: int) -> Figure:
    return Figure(
        column=f"{PREFIX}latency_p{percent}_ms",
        label=f"latency of a request, percentile {percent}",
        heading=f"latency p{percent}",
        group="speed",
        unit="ms",
        comparable=HARDWARE,
    )


_OTHERS = Figure(
    column=f"{PREFIX}other_cores",
    label="cores that other processes kept busy",
    heading="others",
    group="speed",
    unit="cores",
    better="",
    comparable=HARDWARE,
)
_BUSY = 0.5
"""Cores: what a machine does by itself is less."""
_FIGURES = (
    _rate("prefill", "prefill"),
    _rate("decode", "decoding"),
    _latency(50),
    _latency(95),
    Figure(column=f"{PREFIX}peak_memory_bytes", label="peak memory of generation", unit="MiB",
           heading="memory", group="speed", format="bytes", role="cost", comparable=HARDWARE),
    _OTHERS,
    Figure(column=HARDWARE, label="hardware", heading="hardware", group="speed", better="",
           format="text"),
    Figure(column=DEVICE, label="kind of device", heading="device", group="speed", better="",
           format="text"),
    Figure(column=f"{PREFIX}kernels", label="kernels of the linear layers", heading="kernels",
           group="speed", better="", format="text"),
)  # fmt: skip


class Requests(Frozen):
    """How speed is measured."""

    prompt_tokens: Annotated[int, Field(ge=2)] = 512
    """Tokens of the prompt that prefill reads."""
    new_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens that decoding adds, one at a time with a key-value cache."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Prompts at once."""
    warmup: Annotated[int, Field(ge=0)] = 1
    """Repetitions before any is measured."""
    repetitions: Annotated[int, Field(ge=1)] = 5
    """Measured repetitions; their median and spread are told."""


class SpeedSettings(Frozen):
    """Whether and how speed is measured."""

    speed: bool = False
    """Measure tokens a second, latency and memory of the dense and of every pruned model."""
    speed_options: Requests = Requests()
    """How speed is measured."""


class Speed(Measure):
    """Prefill, decoding, latency and memory, measured once, with the hardware beside the figures.

    The hardware is no part of the step's identity: a store that machines share holds one
    measurement of each subject, and the notes say where figures come from different hardware.
    """

    name = "speed"
    summary = "tokens a second, latency and memory on this hardware"
    version = 3
    writes = tuple(figure.column for figure in _FIGURES)
    repeatable = False
    on_form = ("speed",)
    Settings = SpeedSettings

    def asks_of_encoders(self, evaluation: Any) -> str:
        return "evaluation.speed=false" if evaluation.speed else ""

    def check(self, subject: Subject, config: Any) -> None:
        if subject.evaluation.speed:
            options: Requests = subject.evaluation.speed_options
            check_positions(
                config, prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens
            )

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        evaluation = subject.evaluation
        if not evaluation.speed:
            return {}
        options: dict[str, Any] = evaluation.speed_options.model_dump()
        if evaluation.device_map != "none":
            options |= {
                "device_map": evaluation.device_map,
                "max_memory": dict(evaluation.max_memory),
            }
        step = Step(
            name="speed",
            version=self.version,
            inputs={"dtype": subject.dtype, **options},
            needs={"weights": subject.weights},
            produce=lambda work: _produce(work, subject),
            label="speed",
            group=subject.label,
        )
        return {"requests": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        facts = found["requests"].facts
        told = {**facts, "hardware": _place(facts)}
        return {figure.column: told[figure.column.removeprefix(PREFIX)] for figure in _FIGURES}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        return [figure for figure in _FIGURES if figure.column in columns]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        """The hardware, and what a mask does not do."""
        numbers = [figure for figure in _FIGURES if figure.format != "text"]
        timed = [row for row in rows if any(figure.value(row) is not None for figure in numbers)]
        places = dict.fromkeys(str(row.get(HARDWARE) or "unnamed hardware") for row in timed)
        if not places:
            return ()
        notes = [f"Speed on {'; '.join(places)}."]
        if len(places) > 1:
            notes.append("Only figures of the same hardware, threads and placement are compared.")
        taken = [value for row in timed if (value := _OTHERS.value(row)) is not None]
        if busy := [value for value in taken if value >= _BUSY]:
            notes.append(
                f"While the speed of {len(busy)} of {len(taken)} models was measured, other "
                f"processes kept up to {max(busy):.1f} cores of the machine busy, such as cells on "
                "its other GPUs: part of a difference may be theirs. One cell at a time, as with "
                "CUDA_VISIBLE_DEVICES=0, has nobody beside it."
            )
        if any(_on_cpu(row) for row in timed):
            notes.append(
                "On a CPU masked weights are not faster: a zero is multiplied like any other "
                "number, and differences of masked models are noise. Only models whose heads or "
                "channels were cut out compute less."
            )
        return notes


def _produce(work: Work, subject: Subject) -> Facts:
    loaded, evaluation = work.context.loaded, subject.evaluation
    # Its peak memory shall be that of one model.
    mine = PLACED if evaluation.device_map == "auto" else PRUNED if subject.dense else DENSE
    loaded.release(*{DENSE, PRUNED, PLACED} - {mine})
    model = network(work, subject)
    options = evaluation.speed_options.model_dump()
    if mine != PRUNED or best_device().type != "cuda":
        result, kernels = measure_speed(model, **options, progress=work.progress), "dense"
    else:
        try:
            kernels = convert_(model).note
            result = measure_speed(model, **options, progress=work.progress)
        finally:
            # What else is measured of it shall not use the packed weights.
            loaded.release(PRUNED)
    return asdict(result) | {"kernels": kernels, "device_map": evaluation.device_map}


def _place(facts: Facts) -> str:
    """The processor or GPU, its threads where it computes with them, and the device map."""
    mapped = facts["device_map"] != "none"
    threads = facts["threads"] if mapped or facts["device"] == "cpu" else 0
    return ", ".join(
        [
            facts["hardware"],
            *([f"{threads} thread{'s' * (threads > 1)}"] if threads else []),
            *([f"device_map {facts['device_map']}"] if mapped else []),
        ]
    )


def _on_cpu(row: Row) -> bool:
    """``speed/device`` says so, or no GPU is named."""
    device, named = str(row.get(DEVICE) or ""), str(row.get(HARDWARE) or "")
    if device:
        return device.startswith("cpu")
    lower = named.lower()
    return bool(lower) and (lower.startswith("cpu") or not _GPU.search(lower))
