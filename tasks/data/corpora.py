"""Where text comes from: one text per corpus, with everything that says which text it was."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from configs.corpora import Corpus, Text
from configs.errors import ConfigurationError
from tasks.data.documents import Document, as_text
from tasks.data.files import read_files
from tasks.data.hub_datasets import read_hub

Role = Literal["calibration", "heldout"]


@dataclass(frozen=True)
class ResolvedCorpus:
    """A corpus that was read.

    Attributes:
        description: one line for reports, without paths.
        digest: SHA-256 hex of the text's UTF-8 bytes, after joining; conversations as JSON.
        characters: of the text.
        documents: topics, files, lines or rows that were joined.
        boundaries: SHA-256 hex of where they end in the text.
        facts: what else determines the text, by name: revision, split, formats, Python version.
    """

    description: str
    digest: str
    characters: int
    documents: int
    boundaries: str
    facts: Mapping[str, Any]

    @property
    def digests(self) -> set[str]:
        """Of the text, and of each part of a mixture."""
        return {self.digest, *(part["digest"] for part in self.facts.get("parts", ()))}


@dataclass(frozen=True)
class Passage:
    """One text of a corpus: its only one, or a part of a mixture.

    Attributes:
        share: of the corpus's windows, in proportion to the other passages' shares.
        sources: where each document is from, in words: a file's name, a data set's.
        loss: which tokens learning counts: ``all``, or those of completions.
    """

    documents: list[Document]
    sources: list[str]
    separator: str
    share: float = 1.0
    loss: str = "all"

    def source(self, document: int | None) -> str:
        """Where a document is from; where it is not known which one it is, all that it may be."""
        if document is not None:
            return self.sources[document]
        return " or ".join(dict.fromkeys(self.sources))


def passages(corpus: Corpus, facts: ResolvedCorpus, documents: list[Document]) -> list[Passage]:
    """The texts that :func:`read_corpus` read, each by itself."""
    if corpus.source != "mixture":
        sources = _sources(facts.description, facts.facts, len(documents))
        return [Passage(documents, sources, corpus.separator, loss=corpus.loss)]
    found: list[Passage] = []
    begin = 0
    for part, told in zip(corpus.parts, facts.facts["parts"], strict=True):
        mine = documents[begin : begin + told["documents"]]
        begin += len(mine)
        sources = _sources(told["description"], told["facts"], len(mine))
        found.append(Passage(mine, sources, part.separator, part.share, part.loss))
    return found


def _sources(description: str, facts: Mapping[str, Any], count: int) -> list[str]:
    """Where each of ``count`` documents is from: files are told apart, all else is one."""
    if "rows" not in facts:
        return [description] * count
    named = zip(facts["files"], facts["rows"], strict=True)
    return list(chain.from_iterable([name] * rows for name, rows in named))


def read_corpus(
    corpus: Corpus, *, role: Role, base: Path, field: str
) -> tuple[ResolvedCorpus, list[Document]]:
    """Read a corpus whole; of a mixture, all parts.

    Args:
        role: which part of ``python-docs`` is meant where the corpus does not say.
        base: what relative paths are relative to.
        field: dotted path of the corpus in the sweep, for messages.

    Returns:
        What was read, and the documents in order, which ``corpus.separator`` joins.

    Raises:
        ConfigurationError: a file, data set, split or column does not exist, or is no text.
        SourceUnavailableError: a data set cannot be reached.
    """
    if corpus.source == "mixture":
        return _read_mixture(corpus, role=role, base=base, field=field)
    return _read_text(corpus, role=role, base=base, field=field)


def _read_mixture(
    corpus: Corpus, *, role: Role, base: Path, field: str
) -> tuple[ResolvedCorpus, list[Document]]:
    """The digest is of the parts' digests, separators and shares."""
    read = [
        _read_text(part, role=role, base=base, field=f"{field}.parts[{index}]")
        for index, part in enumerate(corpus.parts)
    ]
    resolved = [facts for facts, _ in read]
    whole = sum(part.share for part in corpus.parts)
    percents = [f"{100 * part.share / whole:.3g} %" for part in corpus.parts]
    named = zip(percents, resolved, strict=True)
    told = [
        [facts.digest, part.separator, part.share]
        for facts, part in zip(resolved, corpus.parts, strict=True)
    ]
    return (
        ResolvedCorpus(
            description=" + ".join(f"{percent} {facts.description}" for percent, facts in named),
            digest=_sha256(told),
            characters=sum(facts.characters for facts in resolved),
            documents=sum(facts.documents for facts in resolved),
            boundaries=_sha256([facts.boundaries for facts in resolved]),
            facts={"source": "mixture", "parts": [asdict(facts) for facts in resolved]},
        ),
        [document for _, documents in read for document in documents],
    )


def _sha256(told: Any) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _read_text(
    corpus: Text, *, role: Role, base: Path, field: str
) -> tuple[ResolvedCorpus, list[Document]]:
    if corpus.source == "python-docs":
        description, texts, facts = read_python_docs(corpus.part or role)
        documents: list[Document] = [*texts]
    elif corpus.source == "files":
        description, documents, facts = read_files(
            corpus.files, column=corpus.column, loss=corpus.loss, base=base, field=field
        )
    else:
        description, documents, facts = read_hub(corpus, base=base, field=field)
    parts = [as_text(document) for document in documents]
    text = corpus.separator.join(parts)
    if not text.strip():
        raise ConfigurationError(field, description, "a corpus must hold text, and this is empty")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    lengths = [len(part) for part in parts]
    boundaries = _sha256([lengths, len(corpus.separator)])
    facts = {"source": corpus.source, **facts}
    found = ResolvedCorpus(description, digest, len(text), len(documents), boundaries, facts)
    return found, documents


def read_python_docs(part: Role) -> tuple[str, list[str], dict[str, Any]]:
    """Description, topics in alphabetical order, and facts of one part.

    The text is ``pydoc_data.topics``, which every CPython carries. A topic belongs to the part that
    its name's hash says, so that the parts stay the same where a Python version adds a topic. The
    texts differ between versions: figures of two versions compare only where their corpus digests
    agree. Topics quote each other: of the held-out ones, paragraphs that a topic of the calibration
    part has as well are left out.
    """
    from pydoc_data.topics import topics

    texts: dict[str, list[str]] = {"calibration": [], "heldout": []}
    for name in sorted(topics):
        texts[_part_of(name)].append(topics[name])
    if part == "heldout":
        seen = {_words(of) for text in texts["calibration"] for of in _paragraphs(text)}
        kept = [[of for of in _paragraphs(text) if _words(of) not in seen] for text in texts[part]]
        texts[part] = ["\n\n".join(paragraphs) for paragraphs in kept if paragraphs]
    version = platform.python_version()
    facts = {"part": part, "python": version}
    return f"Python {version} language reference, {part} part", texts[part], facts


def _paragraphs(text: str) -> list[str]:
    return text.split("\n\n")


def _words(paragraph: str) -> str:
    """However it is indented."""
    return " ".join(paragraph.split())


def _part_of(topic: str) -> str:
    odd = hashlib.sha256(topic.encode("utf-8")).digest()[0] & 1
    return "heldout" if odd else "calibration"
