"""Which windows of which text a model sees: resolved and fingerprinted, nothing tokenised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.corpora import Calibration, Corpus, Training
from configs.schema import Perplexity
from tasks.data.corpora import ResolvedCorpus, read_corpus
from tasks.models.sources.sources import ResolvedModel
from tasks.plan.resolved import known_corpus
from tasks.store.store import Step

VERSION = 1
"""Raise it when windows of the same text change: tokens of the former version are not reused."""


@dataclass(frozen=True)
class Windows:
    """Token windows of one corpus for one model's tokenizer.

    Attributes:
        field: of the sweep file, for messages.
        count: None for all full windows that the corpus holds.
        seed: None for contiguous windows.
        skip: tokens of the corpus's start that are left to another use.
    """

    step: Step
    field: str
    name: str
    corpus: Corpus
    role: str
    facts: ResolvedCorpus
    length: int
    count: int | None
    seed: int | None
    skip: int = 0


def calibration_windows(calibration: Calibration, model: ResolvedModel) -> Windows:
    """What pruning methods calibrate on."""
    return _windows(
        model,
        field="calibration",
        name="calibration",
        corpus=calibration.corpus,
        role="calibration",
        length=calibration.sequence_length,
        count=calibration.samples,
        seed=calibration.seed if calibration.sampling == "random" else None,
    )


def training_windows(training: Training, calibration: Calibration, model: ResolvedModel) -> Windows:
    """What methods learn from; without a corpus of its own, what calibration leaves of its."""
    own = training.corpus is not None
    contiguous = calibration.sampling == "contiguous"
    return _windows(
        model,
        field="training",
        name="training",
        corpus=training.corpus or calibration.corpus,
        role="calibration",
        length=training.sequence_length,
        count=training.samples,
        seed=None,
        # Random calibration windows lie anywhere: there is no rest to take.
        skip=0 if own or not contiguous else calibration.samples * calibration.sequence_length,
    )


def evaluation_windows(entry: Perplexity, model: ResolvedModel, position: int) -> Windows:
    """What perplexity is measured on."""
    return _windows(
        model,
        field=f"evaluation.perplexity[{position}]",
        name=entry.name,
        corpus=entry.corpus,
        role="heldout",
        length=entry.sequence_length,
        count=entry.windows,
        seed=None,
    )


def _windows(
    model: ResolvedModel,
    *,
    field: str,
    name: str,
    corpus: Corpus,
    role: str,
    length: int,
    count: int | None,
    seed: int | None,
    skip: int = 0,
) -> Windows:
    facts = known_corpus(corpus, role)
    if facts is None:
        facts, _ = read_corpus(corpus, role=role, base=Path.cwd(), field=f"{field}.corpus")  # type: ignore[arg-type]
    inputs: dict[str, Any] = {
        "version": VERSION,
        "model": model.digest,
        "corpus": facts.digest,
        "length": length,
        "count": count,
        "seed": seed,
    }
    if skip:
        inputs["skip"] = skip
    return Windows(
        Step("tokens", inputs), field, name, corpus, role, facts, length, count, seed, skip
    )
