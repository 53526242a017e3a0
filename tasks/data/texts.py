"""Token windows of a text, as steps: resolved and named, nothing tokenised before they are made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from configs.corpora import Calibration, Corpus, Training
from configs.errors import ConfigurationError
from tasks.data import windows as token_windows
from tasks.data.corpora import ResolvedCorpus, passages, read_corpus
from tasks.data.cutting import Cut, cut_passages
from tasks.data.documents import Document
from tasks.models.load import is_encoder, load_config, load_tokenizer
from tasks.selection.registry import Sampling
from tasks.store.context import Context
from tasks.store.steps import Facts, Step, Work, fingerprint
from tasks.store.store import Artifact

VERSION = 5
"""Raise it when windows of the same text change: tokens of the former version are not reused."""
_FILE = "windows.safetensors"
_PLACES = "places.json"
"""Where windows lie, of texts not read from the start: ``source`` and ``offset`` of each."""


@dataclass(frozen=True)
class Windows:
    """Token windows of one corpus for one model's tokenizer.

    Attributes:
        model: the step of the model whose tokenizer cuts.
        field: of the sweep file, for messages.
        count: None for all full windows that the corpus holds, of a mixture as many as keep its
            shares.
        sampling: contiguous, random or spread.
        seed: of random windows; None for others.
        skip: tokens of the corpus's start that are left to another use.
        at_least: where fewer than ``count`` will do: how many there must be.
        loss: which tokens whatever learns from them counts, by the corpus's texts; empty: nothing
            does.
        asked_by: the field that holds ``count``, where it does not lie below ``field``.
    """

    model: Step
    field: str
    name: str
    corpus: Corpus
    role: str
    facts: ResolvedCorpus
    length: int
    count: int | None
    sampling: Sampling = "contiguous"
    seed: int | None = None
    skip: int = 0
    at_least: int | None = None
    loss: str = ""
    asked_by: str = ""

    @property
    def count_field(self) -> str:
        """Dotted path of the field that says how many, for messages."""
        number = "windows" if self.field.startswith("evaluation") else "samples"
        return self.asked_by or f"{self.field}.{number}"

    @property
    def counted(self) -> bool:
        """Whether some tokens alone count: each window then predicts one of them."""
        return "completion" in self.loss

    @property
    def description(self) -> str:
        """The corpus in words, and that completions alone count."""
        counted = f" (loss: {self.loss})" if self.counted else ""
        return f"{self.facts.description}{counted}"

    def enough(self, count: int) -> bool:
        """Whether so many windows of this step will do: who asks for more may share it."""
        return count >= (self.at_least or 0)

    def limited(self, count: int) -> Windows:
        """Those that a method looks at when it takes only ``count`` of them: spread ones, and those
        of a mixture, again over the whole text; of others it takes the first of this step."""
        whole = self.sampling == "spread" or self.corpus.source == "mixture"
        return replace(self, count=count) if whole else self

    @cached_property
    def step(self) -> Step:
        """Cuts and stores them; the step is ``about`` these windows."""
        said = self.sampling != "spread" and not self.field.startswith("evaluation")
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
                # What was there before these had names keeps its own.
                **({"sampling": self.sampling} if self.sampling == "spread" else {}),
                **({"at_most": True} if self.at_least is not None else {}),
                **({"loss": self.loss} if self.counted else {}),
                # Since its windows lie in turn and keep the shares.
                **({"mixed": 2} if self.corpus.source == "mixture" else {}),
            },
            needs={"model": self.model},
            produce=lambda work: _produce(work, self),
            label=f"tokenise {self.name}",
            group=self.model.group,
            words={
                "corpus": self.facts.description,
                "split": self.corpus.split or self.corpus.part or "",
                "format": ", ".join(dict.fromkeys(self.facts.facts.get("formats", ()))),
                # Said here where it is no input.
                "sampling": self.sampling if said else "",
                "loss": "" if self.counted else self.loss,
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
        sampling: Sampling = "contiguous",
        seed: int | None = None,
        skip: int = 0,
        at_least: int | None = None,
        learns: bool = False,
        asked_by: str = "",
    ) -> Windows:
        """The step that cuts a corpus into windows.

        Args:
            field: of the sweep file that asks for it, such as ``evaluation.perplexity[0]``.
            learns: whether a loss is taken of them that counts what the corpus says.
            asked_by: the field that holds ``count``, where it does not lie below ``field``.

        Raises:
            ConfigurationError: when the corpus cannot be read, or is measured on and does not
                count every token.
        """
        if corpus.counts_completions and field.startswith("evaluation"):
            allowed = "what is measured counts every token: all"
            raise ConfigurationError(f"{field}.corpus.loss", "completion", allowed)
        facts = read_once(self.known, corpus, role, field)
        return Windows(
            self.model,
            field,
            name,
            corpus,
            role,
            facts,
            length,
            count,
            sampling,
            seed if sampling == "random" else None,
            skip,
            at_least,
            _loss(corpus) if learns else "",
            asked_by,
        )

    def calibration(self, calibration: Calibration, sampling: Sampling, seed: int) -> Windows:
        """What pruning methods calibrate on; of a coreset, the pool that it is chosen from.

        Args:
            seed: of random windows.
        """
        chosen = sampling == "coreset"
        least = max(calibration.samples, calibration.coreset.clusters or 1)
        return self.windows(
            field="calibration",
            name="calibration",
            corpus=calibration.corpus,
            role="calibration",
            length=calibration.sequence_length,
            count=calibration.coreset.pool if chosen else calibration.samples,
            sampling="spread" if chosen else sampling,
            seed=seed,
            at_least=least if chosen else None,
            learns=chosen,
        )

    def training(
        self, training: Training, calibration: Calibration, seed: int, *, rest: bool
    ) -> Windows:
        """What methods learn from; of a coreset, the pool that it is chosen from.

        Without a corpus of its own it is what calibration leaves of its.

        Args:
            seed: of random windows.
            rest: whether calibration windows lie at the start: else there is no rest to take.
        """
        own = training.corpus is not None
        rest = rest and calibration.corpus.source != "mixture"
        chosen = training.sampling == "coreset"
        least = max(training.samples or 1, training.coreset.clusters or 1)
        return self.windows(
            field="training",
            name="training",
            corpus=training.corpus or calibration.corpus,
            role="calibration",
            length=training.sequence_length,
            count=training.coreset.pool if chosen else training.samples,
            sampling="spread" if chosen else training.sampling,
            seed=seed,
            at_least=least if chosen else None,
            learns=True,
            skip=calibration.samples * calibration.sequence_length if rest and not own else 0,
        )


def _loss(corpus: Corpus) -> str:
    return ", ".join(corpus.losses) if corpus.counts_completions else "all"


def read_once(
    known: dict[str, ResolvedCorpus], corpus: Corpus, role: str, field: str
) -> ResolvedCorpus:
    """What is found of a corpus, read where it is not known.

    Raises:
        ConfigurationError: when it cannot be read.
    """
    key = corpus_key(corpus, role)
    if key not in known:
        known[key] = _read(corpus, role, field)[0]
    return known[key]


def corpus_key(corpus: Corpus, role: str) -> str:
    """What tells one corpus of a sweep file from another."""
    return fingerprint({"corpus": corpus.model_dump(mode="json"), "role": role})


def save_tokens(folder: Path, windows_NL: Tensor, counted_NL: Tensor | None = None) -> None:
    """Write windows where :func:`load_tokens` finds them."""
    token_windows.save_windows(folder / _FILE, windows_NL, {}, counted_NL)


def load_tokens(artifact: Artifact) -> Tensor:
    """Token windows, ``N × L``."""
    return token_windows.load_windows(artifact.path / _FILE)


def load_counted(artifact: Artifact) -> Tensor | None:
    """Which tokens of the windows learning counts, ``N × L``, bool; None: all."""
    return token_windows.load_counted(artifact.path / _FILE)


def load_places(artifact: Artifact) -> dict[str, list[Any]]:
    """``source`` and ``offset`` of each window, of an artifact that has them."""
    return json.loads((artifact.path / _PLACES).read_text(encoding="utf-8"))


def cut(windows: Windows, tokenizer: Any, encoder: bool = False) -> Cut:
    """Read and tokenise a corpus.

    Args:
        encoder: whether each window ends with what the tokenizer puts after a text: an encoder
            sees both sides of every token, and has seen no text without it.

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
    parts = passages(corpus, facts, documents)
    return cut_passages(windows, parts, tokenizer, facts.description, encoder=encoder)


def cut_once(context: Context, windows: Windows, tokenizer: Any, encoder: bool = False) -> Cut:
    """As :func:`cut`; what a check before the sweep has cut is kept for the step that stores it."""
    made = context.loaded.get(_role(windows), None, lambda: cut(windows, tokenizer, encoder))
    if windows.enough(len(made.windows_NL)):
        return made
    return cut(windows, tokenizer, encoder)  # cut before for who asks for fewer: this is refused


def made_windows(context: Context, windows: Windows) -> Tensor | None:
    """Windows that are stored, or that a check before the sweep has cut; None: neither."""
    if found := context.find(windows.step):
        return load_tokens(found)
    made: Cut | None = context.loaded.held(_role(windows))
    return made.windows_NL if made else None


def _role(windows: Windows) -> str:
    """Under which a process keeps windows that it has cut."""
    return f"windows {windows.step.fingerprint}"


def _read(corpus: Corpus, role: str, field: str) -> tuple[ResolvedCorpus, list[Document]]:
    return read_corpus(corpus, role=role, base=Path.cwd(), field=f"{field}.corpus")  # type: ignore[arg-type]


def _produce(work: Work, windows: Windows) -> Facts:
    context = work.context
    folder = work.need("model").path
    encoder = is_encoder(load_config(folder, context.trust))
    made = cut_once(context, windows, load_tokenizer(folder, context.trust), encoder)
    context.loaded.release(_role(windows))
    save_tokens(work.out, made.windows_NL, made.counted_NL)
    if windows.sampling != "contiguous" or len(set(made.sources)) > 1:
        places = {"source": list(made.sources), "offset": list(made.offsets)}
        (work.out / _PLACES).write_text(json.dumps(places), encoding="utf-8")
    return {
        "windows": made.windows_NL.shape[0],
        "length": made.windows_NL.shape[1],
        "prefix": list(made.prefix),
        "vocabulary": made.vocabulary,
        "sources": made.by_source(),
        **({} if made.counted_NL is None else {"counted_tokens": int(made.counted_NL.sum())}),
        **made.documents,
    }
