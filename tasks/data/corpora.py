"""Where text comes from: one text per corpus, with everything that says which text it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from configs.corpora import Corpus
from configs.errors import ConfigurationError
from tasks.data.documents import Document, as_text
from tasks.data.files import read_files
from tasks.data.hub_datasets import read_hub
from tasks.data.python_docs import read_python_docs

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


def read_corpus(
    corpus: Corpus, *, role: Role, base: Path, field: str
) -> tuple[ResolvedCorpus, list[Document]]:
    """Read a corpus whole.

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
    if corpus.source == "python-docs":
        description, texts, facts = read_python_docs(corpus.part or role)
        documents: list[Document] = [*texts]
    elif corpus.source == "files":
        description, documents, facts = read_files(
            corpus.files, column=corpus.column, base=base, field=field
        )
    else:
        description, documents, facts = read_hub(corpus, base=base, field=field)
    parts = [as_text(document) for document in documents]
    text = corpus.separator.join(parts)
    if not text.strip():
        raise ConfigurationError(field, description, "a corpus must hold text, and this is empty")
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    lengths = [len(part) for part in parts]
    boundaries = hashlib.sha256(json.dumps([lengths, len(corpus.separator)]).encode()).hexdigest()
    facts = {"source": corpus.source, **facts}
    found = ResolvedCorpus(description, digest, len(text), len(documents), boundaries, facts)
    return found, documents
