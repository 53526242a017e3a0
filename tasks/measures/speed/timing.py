"""How fast a model generates: medians and spread over requests that are all alike.

A masked weight is a zero that is multiplied like any other: such a model is as fast as the dense
one, and these figures show it.

Shapes: ``B`` prompts at once, ``L`` tokens of a prompt, ``N`` tokens that decoding adds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasks.measures.speed.generation import Request, check_positions, random_prompt, timed_request
from tasks.runtime.environment import environment
from tasks.runtime.load import others_measured
from tasks.runtime.memory import measured

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class SpeedResult:
    """Rates and times follow from ``prefill_seconds`` and ``decode_seconds``; JSON-able as a dict.

    Attributes:
        prefill_tokens_per_second: of all prompts of a batch together; the median over repetitions,
            with the quartiles beside it.
        decode_tokens_per_second: likewise.
        first_token_ms: time to the first token, which is prefill's; the median.
        latency_p50_ms, latency_p95_ms: of a whole request, interpolated between repetitions; of
            few repetitions the 95th percentile is little but the slowest.
        peak_memory_bytes: as ``tasks.runtime.memory`` measures it: on a CPU the resident set.
        other_cores: of this machine's cores, those that other processes kept busy meanwhile, warmup
            included, on average.
        hardware: the GPU's or the processor's name; threads: torch's, on the CPU.
        prefill_seconds, decode_seconds: of each measured repetition, in order.
    """

    prefill_tokens_per_second: float
    prefill_tokens_per_second_p25: float
    prefill_tokens_per_second_p75: float
    decode_tokens_per_second: float
    decode_tokens_per_second_p25: float
    decode_tokens_per_second_p75: float
    first_token_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    peak_memory_bytes: int
    other_cores: float
    prompt_tokens: int
    new_tokens: int
    batch_size: int
    warmup: int
    repetitions: int
    seed: int
    dtype: str
    device: str
    hardware: str
    threads: int
    prefill_seconds: tuple[float, ...]
    decode_seconds: tuple[float, ...]


def measure_speed(
    model: PreTrainedModel,
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch_size: int,
    warmup: int,
    repetitions: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SpeedResult:
    """Measure a causal language model that is loaded, in eval mode, where it is.

    Args:
        prompt_tokens: ``L``; new_tokens: ``N``, the steps of decoding; batch_size: ``B``.
        warmup: requests that are not measured, before those that are.
        seed: of the prompts' random tokens.
        progress: called with (requests done, requests in all), between measurements.

    Raises:
        ConfigurationError: (a ValueError) when prompt and new tokens exceed the model's positions.
        ValueError: for counts below 1 (below 0 for ``warmup``).
    """
    counts = {"new_tokens": new_tokens, "batch_size": batch_size, "repetitions": repetitions}
    for name, given, least in (*((n, c, 1) for n, c in counts.items()), ("warmup", warmup, 0)):
        if given < least:
            raise ValueError(f"{name} is {given}, and must be at least {least}")
    check_positions(model.config, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    prompt_BL = random_prompt(model, prompt_tokens, batch_size, seed)
    measured_requests: list[Request] = []
    with measured(prompt_BL.device.type) as peak, others_measured() as others:
        for done in range(warmup + repetitions):
            request = timed_request(model, prompt_BL, new_tokens)
            if done >= warmup:
                measured_requests.append(request)
            if progress:
                progress(done + 1, warmup + repetitions)
    return summarise(
        model,
        measured_requests,
        prompt_BL,
        warmup=warmup,
        seed=seed,
        peak_memory_bytes=peak.bytes,
        other_cores=others.cores,
    )


def summarise(
    model: PreTrainedModel,
    requests: Sequence[Request],
    prompt_BL: Tensor,
    *,
    warmup: int,
    seed: int,
    peak_memory_bytes: int,
    other_cores: float,
) -> SpeedResult:
    """The figures of measured requests, at least one, all of the same length."""
    batch, length = prompt_BL.shape
    steps = requests[0].tokens_BN.shape[1] - 1
    prefill = tuple(request.prefill_seconds for request in requests)
    decode = tuple(request.decode_seconds for request in requests)
    latency = [first + rest for first, rest in zip(prefill, decode, strict=True)]
    read = [batch * length / seconds for seconds in prefill]
    written = [batch * steps / seconds for seconds in decode]
    return SpeedResult(
        prefill_tokens_per_second=statistics.median(read),
        prefill_tokens_per_second_p25=quantile(read, 0.25),
        prefill_tokens_per_second_p75=quantile(read, 0.75),
        decode_tokens_per_second=statistics.median(written),
        decode_tokens_per_second_p25=quantile(written, 0.25),
        decode_tokens_per_second_p75=quantile(written, 0.75),
        first_token_ms=1e3 * statistics.median(prefill),
        latency_p50_ms=1e3 * quantile(latency, 0.5),
        latency_p95_ms=1e3 * quantile(latency, 0.95),
        peak_memory_bytes=peak_memory_bytes,
        other_cores=other_cores,
        prompt_tokens=length,
        new_tokens=steps,
        batch_size=batch,
        warmup=warmup,
        repetitions=len(requests),
        seed=seed,
        dtype=str(model.dtype).removeprefix("torch."),
        device=prompt_BL.device.type,
        hardware=_hardware(prompt_BL.device),
        threads=torch.get_num_threads(),
        prefill_seconds=prefill,
        decode_seconds=decode,
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two sorted values that ``share`` (0 to 1) of the way lies between."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def _hardware(device: torch.device) -> str:
    on_cuda = device.type == "cuda"
    return torch.cuda.get_device_name(device) if on_cuda else environment()["processor"]
