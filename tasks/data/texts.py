"""Token windows of a text, as steps: resolved and named, nothing tokenised before they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.corpora import Calibration, Corpus, Training
from configs.errors import ConfigurationError
from tasks.data import windows as token_windows
from tasks.data.corpora import ResolvedCorpus, read_corpus
from tasks.data.documents import Document, rendered
from tasks.models.load import load_tokenizer
from tasks.store.context import Context
from tasks.store.steps import Facts, Step, Work, fingerprint
from tasks.store.store import Artifact

VERSION = 4
"""Raise it when windows of the same text change: tokens of the former version are not reused."""
_FILE = "windows.safetensors"


@dataclass(frozen=True)
class Windows:
    """Token windows of one corpus for one model's tokenizer.

    Attributes:
        model: the step of the model whose tokenizer cuts.
        field: of the sweep file, for messages.
        count: None for all full windows that the corpus holds.
        seed: None for contiguous windows.
        skip: tokens of the corpus's start that are left to another use.
    """

    model: Step
    field: str
    name: str
    corpus: Corpus
    role: str
    facts: ResolvedCorpus
    length: int
    count: int | None
    seed: int | None = None
    skip: int = 0

    @cached_property
    def step(self) -> Step:
        """Cuts and stores them; the step is ``about`` these windows."""
        return Step(
            name="tokens",
            version=VERSION,
            inputs={
                "corpus": self.facts.digest,
                "boundaries": self.facts.boundaries,
                "length": self.length,
                "count": self.count,
                "seed": self.seed,
                "skip": self.skip,
            },
            needs={"model": self.model},
            produce=lambda work: _produce(work, self),
            label=f"tokenise {self.name}",
            group=self.model.group,
            words={
                "corpus": self.facts.description,
                "split": self.corpus.split or self.corpus.part or "",
                "format": ", ".join(dict.fromkeys(self.facts.facts.get("formats", ()))),
            },
            about=self,
        )


@dataclass(frozen=True)
class Texts:
    """Cuts texts for one model.

    Attributes:
        model: the step of the model whose tokenizer cuts.
        known: what was found of corpora, here or on another machine: none is read again.
    """

    model: Step
    known: dict[str, ResolvedCorpus] = field(default_factory=dict)

    def windows(
        self,
        *,
        field: str,
        name: str,
        corpus: Corpus,
        length: int,
        count: int | None,
        role: str = "heldout",
        seed: int | None = None,
        skip: int = 0,
    ) -> Windows:
        """The step that cuts a corpus into windows.

        Args:
            field: of the sweep file that asks for it, such as ``evaluation.perplexity[0]``.

        Raises:
            ConfigurationError: when the corpus cannot be read.
        """
        key = corpus_key(corpus, role)
        if key not in self.known:
            self.known[key] = _read(corpus, role, field)[0]
        facts = self.known[key]
        return Windows(self.model, field, name, corpus, role, facts, length, count, seed, skip)

    def calibration(self, calibration: Calibration) -> Windows:
        """What pruning methods calibrate on."""
        return self.windows(
            field="calibration",
            name="calibration",
            corpus=calibration.corpus,
            role="calibration",
            length=calibration.sequence_length,
            count=calibration.samples,
            seed=calibration.seed if calibration.sampling == "random" else None,
        )

    def training(self, training: Training, calibration: Calibration) -> Windows:
        """What methods learn from; without a corpus of its own, what calibration leaves of its."""
        own = training.corpus is not None
        contiguous = calibration.sampling == "contiguous"
        return self.windows(
            field="training",
            name="training",
            corpus=training.corpus or calibration.corpus,
            role="calibration",
            length=training.sequence_length,
            count=training.samples,
            # Random calibration windows lie anywhere: there is no rest to take.
            skip=0 if own or not contiguous else calibration.samples * calibration.sequence_length,
        )


def corpus_key(corpus: Corpus, role: str) -> str:
    """What tells one corpus of a sweep file from another."""
    return fingerprint({"corpus": corpus.model_dump(mode="json"), "role": role})


def load_tokens(artifact: Artifact) -> Tensor:
    """Token windows, ``N × L``."""
    return token_windows.load_windows(artifact.path / _FILE)


@dataclass(frozen=True)
class Cut:
    """A text as a model's tokenizer cuts it.

    Attributes:
        windows_NL: int32.
        prefix: tokens that each window starts with, before those of the text.
        vocabulary: the tokenizer's digest.
        documents: how many the windows touch and cut; empty where the tokenizer does not tell.
    """

    windows_NL: Tensor
    prefix: tuple[int, ...]
    vocabulary: str
    documents: Mapping[str, int]


def cut(windows: Windows, tokenizer: Any) -> Cut:
    """Read and tokenise a corpus.

    Raises:
        ConfigurationError: when the corpus is too short, or holds conversations and the tokenizer
            has no template.
    """
    field, corpus = windows.field, windows.corpus
    facts, documents = _read(corpus, windows.role, field)
    known = windows.facts
    if (facts.digest, facts.boundaries) != (known.digest, known.boundaries):
        raise ConfigurationError(
            f"{field}.corpus",
            windows.facts.description,
            "its text must stay as it was when the sweep began, and it has changed since",
            "Run the sweep again.",
        )
    prefix = token_windows.prefix_tokens(tokenizer)
    before = tokenizer.decode(prefix) if prefix else ""
    texts = rendered(documents, tokenizer, before, field=f"{field}.corpus", given=facts.description)
    tokens = token_windows.tokenise(tokenizer, texts, corpus.separator)
    ids_T, length, count = tokens.ids_T[windows.skip :], windows.length, windows.count
    step = length - len(prefix)
    if windows.seed is not None:
        assert count is not None
        made = token_windows.random_windows(ids_T, length, count, windows.seed, prefix, field=field)
        offsets = token_windows.random_offsets(len(ids_T), step, count, windows.seed).tolist()
    else:
        made = token_windows.contiguous_windows(ids_T, length, count, prefix, field=field)
        offsets = range(0, len(made) * step, step)
    bounds = ((windows.skip + first, windows.skip + first + step) for first in offsets)
    vocabulary = token_windows.vocabulary_digest(tokenizer)
    return Cut(made, prefix, vocabulary, tokens.documents(bounds))


def cut_once(context: Context, windows: Windows, tokenizer: Any) -> Cut:
    """As :func:`cut`; what a check before the sweep has cut is kept for the step that stores it."""
    role = f"windows {windows.step.fingerprint}"
    return context.loaded.get(role, None, lambda: cut(windows, tokenizer))


def _read(corpus: Corpus, role: str, field: str) -> tuple[ResolvedCorpus, list[Document]]:
    return read_corpus(corpus, role=role, base=Path.cwd(), field=f"{field}.corpus")  # type: ignore[arg-type]


def _produce(work: Work, windows: Windows) -> Facts:
    context = work.context
    tokenizer = load_tokenizer(work.need("model").path, context.trust)
    made = cut_once(context, windows, tokenizer)
    context.loaded.release(f"windows {windows.step.fingerprint}")
    token_windows.save_windows(work.out / _FILE, made.windows_NL, {})
    return {
        "windows": made.windows_NL.shape[0],
        "length": made.windows_NL.shape[1],
        "prefix": list(made.prefix),
        "vocabulary": made.vocabulary,
        **made.documents,
    }
