"""The shared steps: the model as a plain folder, token windows, statistics of the dense model."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.data import windows as token_windows
from tasks.data.corpora import read_corpus
from tasks.measures.speed.generation import check_positions
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.files import share
from tasks.models.load import (
    best_device,
    load_config,
    load_model,
    load_tokenizer,
    resolve_dtype,
)
from tasks.models.prepare import needs_preparation, prepare, read_config, read_tokenizer
from tasks.models.sources.sources import SourceUnavailableError, fetch
from tasks.plan.corpora import Windows
from tasks.plan.plan import ModelPlan, Plan
from tasks.pruning.core.driver import collect_statistics
from tasks.pruning.core.statistics import VECTORS, ColumnStatistics
from tasks.runtime.progress import work
from tasks.steps.states import cached, can_pass
from tasks.store.store import Artifact, Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_tokenised: dict[str, tuple[Tensor, int | None, str]] = {}
"""Windows made while a sweep was checked, kept for the step that stores them."""


def model_folder(model: ModelPlan, store: Store, trust: Trust) -> Path:
    """The model as a folder that transformers loads; fetched or written first where it must be."""
    if not needs_preparation(model.model):
        return Path(fetch(model.model, field="models", trust=trust).path)

    def produce(folder: Path) -> Mapping[str, Any]:
        prepare(model.model, folder)
        return {"source": model.model.spec}

    return store.get_or_create(model.prepared, produce, contents=True).path


@lru_cache(maxsize=1)
def _resident(folder: Path, dtype: str, remote_code: bool, pickles: bool) -> PreTrainedModel:
    device = best_device()
    trust = Trust(remote_code=remote_code, pickle_weights=pickles)
    return load_model(folder, resolve_dtype(dtype, device), device, trust)


def dense_model(model: ModelPlan, store: Store, trust: Trust) -> PreTrainedModel:
    """The dense model, loaded once in this process and shared by all steps; never changed."""
    folder = model_folder(model, store, trust)
    return _resident(folder, model.dtype, trust.remote_code, trust.pickle_weights)


def forget_dense() -> None:
    """Give the dense model's memory back; the next step that needs it loads it again."""
    _resident.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _texts_side(model: ModelPlan, store: Store, trust: Trust) -> tuple[Any, Any]:
    """(configuration, tokenizer) without the weights; of a GGUF file, from its header."""
    if needs_preparation(model.model) and store.find(model.prepared) is None:
        return read_config(model.model), read_tokenizer(model.model)
    folder = model_folder(model, store, trust)
    return load_config(folder, trust), load_tokenizer(folder, trust)


def make_windows(windows: Windows, tokenizer: Any) -> tuple[Tensor, int | None, str]:
    """Read and tokenise a corpus.

    Returns:
        Windows ``N × L``, the token that each starts with if the model wants one, and the
        vocabulary's digest.

    Raises:
        ConfigurationError: when the corpus is too short.
    """
    field = f"{windows.field}.corpus"
    _, text = read_corpus(windows.corpus, role=windows.role, base=Path.cwd(), field=field)  # type: ignore[arg-type]
    tokens = token_windows.tokenise(tokenizer, text)[windows.skip :]
    bos = token_windows.wants_bos(tokenizer)
    if windows.seed is not None:
        assert windows.count is not None
        made = token_windows.random_windows(
            tokens, windows.length, windows.count, windows.seed, bos, field=windows.field
        )
    else:
        made = token_windows.contiguous_windows(
            tokens, windows.length, windows.count, bos, field=windows.field
        )
    return made, bos, token_windows.vocabulary_digest(tokenizer)


def check_windows(plan: Plan, store: Store, *, download: bool) -> None:
    """Make sure that every corpus is long enough, before anything is computed.

    Args:
        download: fetch hub models now; else those that are not on this machine go unchecked.

    Raises:
        ConfigurationError: naming the field, and how much there is.
    """
    for index, model in enumerate(plan.models):
        learning = [w for w in (model.calibration, model.training) if w]
        every = [*model.evaluations.values(), *learning]
        missing = [w for w in every if store.find(w.step) is None]
        untimed = model.dense.speed is not None and store.find(model.dense.speed) is None
        on_hub = model.model.kind == "hub" and not model.model.path
        if (missing or untimed) and not (on_hub and not download):
            _check_model(plan, index, missing, store)
        _check_processes(plan, model, store)


def _check_model(plan: Plan, index: int, missing: list[Windows], store: Store) -> None:
    """That a model has room for the windows, and its corpora enough of them."""
    model, evaluation = plan.models[index], plan.config.evaluation
    try:
        config, tokenizer = _texts_side(model, store, plan.config.trust)
    except UnsupportedModelError as error:
        field = f"models[{index}]"
        raise ConfigurationError(
            field, model.model.spec, f"this model cannot be used: {error}"
        ) from error
    if evaluation.speed:
        prompt, new = evaluation.speed_options.prompt_tokens, evaluation.speed_options.new_tokens
        check_positions(config, prompt_tokens=prompt, new_tokens=new)
    for windows in missing:
        token_windows.check_length(config, windows.length, f"{windows.field}.sequence_length")
        _tokenised[windows.step.fingerprint] = make_windows(windows, tokenizer)


def _check_processes(plan: Plan, model: ModelPlan, store: Store) -> None:
    """That every evaluation process has a window, where the windows are known."""
    processes = plan.config.evaluation.processes or 1
    for name, windows in model.evaluations.items():
        made = _tokenised.get(windows.step.fingerprint)
        stored = None if made else store.find(windows.step)
        count = len(made[0]) if made else stored.facts["windows"] if stored else processes
        if processes > count:
            raise ConfigurationError(
                "evaluation.processes", processes, f"{name} has {count} windows: at most {count}"
            )


def windows_of(model: ModelPlan, windows: Windows, store: Store, trust: Trust) -> Artifact:
    """The step that stores a corpus's token windows."""

    def produce(folder: Path) -> Mapping[str, Any]:
        made, bos, vocabulary = _tokenised.get(windows.step.fingerprint) or make_windows(
            windows, load_tokenizer(model_folder(model, store, trust), trust)
        )
        token_windows.save_windows(folder / "windows.safetensors", made, {})
        return {
            "windows": made.shape[0],
            "length": made.shape[1],
            "bos": bos,
            "vocabulary": vocabulary,
        }

    return store.get_or_create(windows.step, produce, contents=True)


def load_tokens(artifact: Artifact) -> Tensor:
    """Token windows, ``N × L``."""
    return token_windows.load_windows(artifact.path / "windows.safetensors")


def statistics_of(model: ModelPlan, count: int, store: Store, trust: Trust) -> Artifact:
    """The step that collects the dense model's column statistics on ``count`` windows."""
    assert model.calibration is not None
    calibration = model.calibration

    def produce(folder: Path) -> Mapping[str, Any]:
        tokens = load_tokens(windows_of(model, calibration, store, trust))[:count]
        dense = dense_model(model, store, trust)
        decoder = describe(dense)
        with work(model.model.spec, "statistics") as advance:
            start = time.perf_counter()
            found = collect_statistics(decoder, tokens, progress=advance)
            seconds = time.perf_counter() - start
        tensors = {
            f"{name}.{vector}": getattr(entry, vector)
            for name, entry in found.items()
            for vector in VECTORS
        }
        save_file(tensors, folder / "statistics.safetensors")
        share(folder / "statistics.safetensors")
        return {"seconds": seconds, "windows": tokens.shape[0], "tokens": tokens.numel()}

    return store.get_or_create(model.statistics[count], produce, contents=True)


def load_statistics(artifact: Artifact) -> dict[str, ColumnStatistics]:
    """Layer name → column statistics."""
    tensors = load_file(artifact.path / "statistics.safetensors")
    windows, tokens = artifact.facts["windows"], artifact.facts["tokens"]
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    return {
        name: ColumnStatistics(
            **{vector: tensors[f"{name}.{vector}"] for vector in VECTORS},
            windows=windows,
            tokens=tokens,
        )
        for name in names
    }


def _hub_can_pass(_task: Any, _run: Any, state: Any) -> bool:
    return can_pass(state, SourceUnavailableError)


_RETRIED = {
    "retries": 2,
    "retry_delay_seconds": [2, 10],
    "retry_condition_fn": _hub_can_pass,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(name="prepare model", task_run_name="prepare {model.model.spec}", **_RETRIED)
def prepare_model(model: ModelPlan, store: Store, trust: Trust) -> Any:
    """Make the model a plain folder; a GGUF file is converted once, into the store."""
    with work(model.model.spec, "prepare") as piece:
        local = bool(model.model.path)
        written = needs_preparation(model.model) and store.find(model.prepared) is not None
        piece.reused = written if needs_preparation(model.model) else local
        # What is there is compared in full when it is loaded, which a finished sweep never does.
        if not piece.reused:
            model_folder(model, store, trust)
    return cached(model.model.spec) if piece.reused else model.model.spec


@task(name="tokenise", task_run_name="tokenise {windows.name}", **_RETRIED)
def tokenise(model: ModelPlan, windows: Windows, store: Store, trust: Trust) -> Any:
    """Cut a corpus into token windows."""
    with work(model.model.spec, f"tokenise {windows.name}") as piece:
        artifact = windows_of(model, windows, store, trust)
        piece.reused = artifact.reused
    return cached(dict(artifact.facts)) if artifact.reused else dict(artifact.facts)


@task(
    name="collect statistics",
    task_run_name="statistics on {count} windows",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def collect(model: ModelPlan, count: int, store: Store, trust: Trust) -> Any:
    """Collect statistics of the dense model's activations, once for all cells that share them."""
    artifact = statistics_of(model, count, store, trust)
    return cached(dict(artifact.facts)) if artifact.reused else dict(artifact.facts)
