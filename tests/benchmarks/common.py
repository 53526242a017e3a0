"""What the benchmark scripts share: the model, WikiText-2's windows, repeated timing."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from configs.trust import Trust
from tasks.data.windows import contiguous_windows, prefix_tokens, tokenise, windows_at
from tasks.models.architecture.decoder import describe
from tasks.models.load import DTYPES, load_model, load_tokenizer
from tasks.models.prepare import prepare
from tasks.models.sources.sources import resolve_model
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Method
from tasks.runtime.environment import environment
from tasks.selection import positions


@dataclass(frozen=True)
class Bench:
    """A loaded model and its text."""

    model: PreTrainedModel
    decoder: Decoder
    calibration: Tensor
    test: Tensor
    text_T: Tensor
    prefix: tuple[int, ...]
    tokenizer: Any

    def windows_of(self, texts: Sequence[str], count: int) -> Tensor:
        """The first windows of 512 tokens of other texts, put one after the other."""
        ids_T = tokenise(self.tokenizer, texts).ids_T
        return contiguous_windows(ids_T, 512, count, self.prefix, field="texts")

    def calibration_of(self, seed: int) -> Tensor:
        """Calibration windows of a seed: the first ones for 0, else drawn from the whole text."""
        if seed == 0:
            return self.calibration
        count, length = self.calibration.shape
        step = length - len(self.prefix)
        offsets_N = positions.random(len(self.text_T), step, count, seed)
        return windows_at(self.text_T, offsets_N, step, self.prefix)

    def held_out(self, behind: int) -> Tensor:
        """12 windows, evenly spread over the calibration text behind its first ``behind``."""
        step = self.calibration.shape[1] - len(self.prefix)
        offsets_N = torch.linspace(behind * step, len(self.text_T) - step, 12).long()
        return windows_at(self.text_T, offsets_N, step, self.prefix)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with WikiText-2's files")
    parser.add_argument("--model", default="smollm2-135m", help="alias, folder or file.gguf")
    parser.add_argument("--cache", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--samples", type=int, default=32, help="calibration windows of 512")
    parser.add_argument("--windows", type=int, default=32, help="test windows of 512")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--device", default="cpu", help="where the model lies: cpu, cuda")
    return parser


def load(options: argparse.Namespace, dtype: str | None = None) -> Bench:
    """The model and the first windows of `calibration.txt` and `test.txt`."""
    trust = Trust()
    source = resolve_model(
        options.model, field="models", base=Path(), trust=trust, digest_cache=None
    )
    folder = options.cache / source.digest[:16]
    if source.kind == "folder":
        folder = Path(source.path)
    elif not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare(source, folder)
    model = load_model(folder, DTYPES[dtype or options.dtype], torch.device(options.device), trust)
    tokenizer = load_tokenizer(folder, trust)

    prefix = prefix_tokens(tokenizer)

    def tokens(name: str) -> Tensor:
        return tokenise(tokenizer, [(options.data / name).read_text(encoding="utf-8")]).ids_T

    def windows(ids_T: Tensor, count: int, name: str) -> Tensor:
        return contiguous_windows(ids_T, 512, count, prefix, field=name)

    text_T = tokens("calibration.txt")
    return Bench(
        model,
        describe(model),
        windows(text_T, options.samples, "calibration.txt"),
        windows(tokens("test.txt"), options.windows, "test.txt"),
        text_T,
        prefix,
        tokenizer,
    )


def method_of(name: str, methods: Mapping[str, Method]) -> Any:
    """``sketched_obs:directions=16,ridge=0.03``: one of ``methods`` with options of its own."""
    method, _, text = name.partition(":")
    return replace(methods[method], **options_of(text))


def options_of(text: str) -> dict[str, Any]:
    """``a=1,b=x`` as a dictionary."""
    pairs = (pair.split("=") for pair in text.split(",") if pair)
    return {name: json.loads(value) if value[0].isdigit() else value for name, value in pairs}


def median_seconds(work: Callable[[], object], repetitions: int = 5) -> float:
    """Median wall time after one warm-up."""
    work()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def print_environment() -> None:
    """Hardware and versions, to stand beside the figures."""
    facts = environment()
    print(", ".join(f"{name} {facts[name]}" for name in ("secateur", "python", "torch")))
    cards = f", {facts['gpus']}" if "gpus" in facts else ""
    print(f"{facts['processor']}, {facts['threads']} threads{cards}\n")
