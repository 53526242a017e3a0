"""Speed: the measured loop is generate's, the figures follow from the samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import structured
import tiny
import torch
import transformers

from configs.errors import ConfigurationError
from tasks.measures.speed import generation
from tasks.measures.speed import timing as speed
from tasks.measures.speed.generation import check_positions, random_prompt, timed_request
from tasks.measures.speed.measure import HARDWARE, Speed
from tasks.measures.speed.timing import measure_speed
from tasks.models.architecture.decoder import describe
from tasks.models.saved.branches import attach_branches, save_branches
from tasks.models.saved.compact import compact_
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import SemiStructured
from tasks.store.store import Artifact

SMALL = {"prompt_tokens": 9, "new_tokens": 6, "batch_size": 2, "warmup": 1, "repetitions": 3}


def masked() -> Any:
    """2:4, by magnitude."""
    model = tiny.llama()
    for layer in describe(model).layers().values():
        weight_OI = layer.weight_OI
        weight_OI.masked_fill_(lowest(weight_OI.abs(), SemiStructured(2, 4)), 0.0)
    return model


def sliced() -> Any:
    model = structured.model_of("llama")
    return compact_(model, structured.random_kept(model, seed=1))


def branched(folder: Path) -> Any:
    """With side branches large enough to change the tokens."""
    model = masked()
    layers = {name: part for name, part in describe(model).layers().items() if "mlp" in name}
    parts = {}
    for name, layer in layers.items():
        rows, columns = layer.weight_OI.shape
        parts |= {f"{name}.slorb_x": torch.ones(2, columns), f"{name}.slorb_s": torch.ones(rows, 2)}
    save_branches(folder, parts)
    assert attach_branches(model, folder) == len(layers)
    return model


def lively(model: Any) -> Any:
    """So that the tokens depend on the prompt: transformers' own weights hardly move the logits."""
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases that are the same at every position would decide alone.
            norm = parameter.ndim == 1 and parameter.mean() > 0.9
            parameter.mul_(1.0 if norm else 0.1 if parameter.ndim == 1 else 10.0)
    return model


FORMS: dict[str, Callable[[Path], Any]] = {
    **{name: lambda _, make=make: make() for name, (make, _) in tiny.ARCHITECTURES.items()},
    "masked": lambda _: masked(),
    "sliced": lambda _: sliced(),
    "sliced opt": lambda _: compact_(
        structured.model_of("opt"), structured.random_kept(structured.model_of("opt"), seed=2)
    ),
    "branches": branched,
}


@pytest.mark.parametrize("form", list(FORMS))
def test_decodes_what_generate_does(form: str, tmp_path: Path) -> None:
    model = lively(FORMS[form](tmp_path))
    prompt = random_prompt(model, 9, 2, seed=3)
    expected = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=7,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[:, 9:]
    request = timed_request(model, prompt, 6)
    assert torch.equal(request.tokens_BN, expected)
    assert len(set(expected.flatten().tolist())) > 1, "a constant would show nothing"
    assert request.prefill_seconds > 0
    assert request.decode_seconds > 0


def test_branches_are_part_of_what_is_measured(tmp_path: Path) -> None:
    prompt = random_prompt(masked(), 9, 2)
    with_them = timed_request(branched(tmp_path), prompt, 6).tokens_BN
    assert not torch.equal(with_them, timed_request(masked(), prompt, 6).tokens_BN)


def test_an_end_of_sequence_stops_nothing() -> None:
    model = tiny.llama()
    ended = int(timed_request(model, random_prompt(model, 9, 1), 1).tokens_BN[0, 0])
    model.config.eos_token_id = model.generation_config.eos_token_id = ended
    assert timed_request(model, random_prompt(model, 9, 1), 12).tokens_BN.shape == (1, 13)


@dataclasses.dataclass
class Calls:
    """Shapes of the model's inputs and logits, call by call."""

    inputs: list[tuple[int, ...]]
    logits: list[int]


@pytest.fixture
def watched() -> Iterator[tuple[Any, Calls]]:
    model, calls = tiny.llama(), Calls([], [])

    def note(_: Any, __: Any, keywords: dict[str, Any], output: Any) -> None:
        calls.inputs.append(tuple(keywords["input_ids"].shape))
        calls.logits.append(output.logits.shape[1])

    handle = model.register_forward_hook(note, with_kwargs=True)
    yield model, calls
    handle.remove()


def test_forward_passes(watched: tuple[Any, Calls]) -> None:
    """Each request: one prompt with the last position's logits, then one token a step."""
    model, calls = watched
    told: list[tuple[int, int]] = []
    measure_speed(model, **SMALL, progress=lambda *counts: told.append(counts))
    assert calls.inputs == [(2, 9), *[(2, 1)] * 6] * 4
    assert set(calls.logits) == {1}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_figures_follow_from_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that is set, every figure is known."""
    prefill, decode = [9.0, 0.5, 0.2, 0.4, 0.3], [9.0, 3.0, 1.0, 4.0, 2.0]  # the first warms up
    times = iter(
        moment
        for index, (first, rest) in enumerate(zip(prefill, decode, strict=True))
        for moment in (100.0 * index, 100.0 * index + first, 100.0 * index + first + rest)
    )
    monkeypatch.setattr(generation.time, "perf_counter", lambda: next(times))
    result = measure_speed(tiny.llama(), **SMALL | {"repetitions": 4})
    assert result.prefill_seconds == pytest.approx(prefill[1:])
    assert result.decode_seconds == pytest.approx(decode[1:])
    read, written = ([2 * n / s for s in seconds[1:]] for n, seconds in ((9, prefill), (6, decode)))
    latency = [1e3 * (a + b) for a, b in zip(prefill[1:], decode[1:], strict=True)]
    for name, values in (("prefill", read), ("decode", written)):
        for suffix, percent in (("", 50), ("_p25", 25), ("_p75", 75)):
            given = getattr(result, f"{name}_tokens_per_second{suffix}")
            assert given == pytest.approx(numpy.percentile(values, percent)), (name, suffix)
    assert result.first_token_ms == pytest.approx(350.0)
    assert result.latency_p50_ms == pytest.approx(numpy.percentile(latency, 50))
    assert result.latency_p95_ms == pytest.approx(numpy.percentile(latency, 95))


@pytest.mark.parametrize("values", [[3.0], [2.0, 1.0], [5.0, 1.0, 4.0, 2.0, 9.0, 9.0]])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.95, 1.0])
def test_quantile(values: list[float], share: float) -> None:
    assert speed.quantile(values, share) == pytest.approx(numpy.quantile(values, share))


def test_says_what_was_measured() -> None:
    model = masked()
    result = measure_speed(model, **SMALL)
    assert json.loads(json.dumps(dataclasses.asdict(result)))["repetitions"] == 3
    assert (result.prompt_tokens, result.new_tokens, result.batch_size) == (9, 6, 2)
    assert (result.dtype, result.device) == ("float32", "cpu")
    assert result.threads == torch.get_num_threads()
    assert result.hardware
    assert result.peak_memory_bytes > 4 * model.num_parameters()


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({"device": "cpu", "threads": 2}, "CPU X, 2 threads"),
        ({"device": "cpu", "threads": 1}, "CPU X, 1 thread"),
        ({"device": "cuda"}, "CPU X"),
        ({"device": "cuda", "device_map": "auto"}, "CPU X, 8 threads, device_map auto"),
    ],
)
def test_rows_say_where_and_with_which_kernels_speed_was_measured(
    facts: dict[str, Any], place: str
) -> None:
    numbers = dict.fromkeys((f.name for f in dataclasses.fields(speed.SpeedResult)), 1.0)
    packed = "12 of 28 linear layers run on cusparselt's 2:4 kernels"
    plain = {"hardware": "CPU X", "threads": 8, "device_map": "none", "kernels": packed}
    artifact = Artifact(Path(), numbers | plain | facts, reused=True)
    columns = Speed().columns({"requests": artifact})
    assert (columns[HARDWARE], columns["speed/kernels"]) == (place, packed)
    timed = [figure for figure in Speed().figures(list(columns)) if figure.format != "text"]
    assert {figure.comparable for figure in timed} == {HARDWARE}


def test_what_others_took_is_told_beside_speed() -> None:
    rows = [
        {"speed/latency_p50_ms": 47.0, "speed/hardware": "GPU", "speed/other_cores": cores}
        for cores in (0.1, 2.96, 0.7)
    ]
    told = "speed of 2 of 3 models was measured, other processes kept up to 3.0 cores"
    assert [told in note for note in Speed().notes(rows)].count(True) == 1
    assert not any("other processes" in note for note in Speed().notes(rows[:1]))


def test_the_prompt_depends_on_the_seed_alone() -> None:
    model = tiny.llama()
    prompt = random_prompt(model, 50, 3, seed=1)
    assert torch.equal(prompt, random_prompt(tiny.gpt2(), 50, 3, seed=1))
    assert not torch.equal(prompt, random_prompt(model, 50, 3, seed=2))
    assert int(prompt.min()) >= 0
    assert int(prompt.max()) < tiny.VOCABULARY


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_positions(architecture: str) -> None:
    """128 of them: all can be used, and not one more."""
    model = tiny.ARCHITECTURES[architecture][0]()
    few = SMALL | {"warmup": 0, "repetitions": 1}
    assert measure_speed(model, **few | {"prompt_tokens": 122}).prompt_tokens == 122
    with pytest.raises(ConfigurationError, match=r"1 to 122") as wrong:
        measure_speed(model, **few | {"prompt_tokens": 123})
    assert wrong.value.field == "evaluation.speed_options.prompt_tokens"
    assert wrong.value.given == 123
    with pytest.raises(ConfigurationError, match=r"128 positions and new_tokens takes 128"):
        measure_speed(model, **few | {"new_tokens": 128})


def test_no_prompt() -> None:
    model = tiny.llama()
    with pytest.raises(ConfigurationError, match="1 to 122"):
        measure_speed(model, **SMALL | {"prompt_tokens": 0})
    bloom = transformers.BloomConfig()
    check_positions(bloom, prompt_tokens=10**6, new_tokens=1)
    with pytest.raises(ConfigurationError, match="at least 1 token"):
        check_positions(bloom, prompt_tokens=0, new_tokens=1)


@pytest.mark.parametrize("name", ["new_tokens", "batch_size", "repetitions", "warmup"])
def test_wrong_counts(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1"):
        measure_speed(tiny.llama(), **SMALL | {name: -1})


def test_a_model_on_disk(tmp_path: Path) -> None:
    """As Accelerate's device map leaves one."""
    from accelerate import disk_offload

    model = masked().to(torch.bfloat16)
    prompt = random_prompt(model, 9, 2)
    wanted = timed_request(model, prompt, 6).tokens_BN
    model = disk_offload(model, str(tmp_path))
    assert torch.equal(timed_request(model, random_prompt(model, 9, 2), 6).tokens_BN, wanted)
    assert measure_speed(model, **SMALL).prefill_tokens_per_second > 0
