"""Token classification as a task that models are tuned for: a column is a label, and an encoder is
read at each word's first piece, a decoder at its last, which has not seen the words behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from configs.errors import ConfigurationError
from tasks.data.windows import suffix_tokens
from tasks.measures.token_classification.records import Sentence, SentenceData, load_sentences
from tasks.measures.token_classification.scoring import Score
from tasks.measures.token_classification.settings import TokenTask
from tasks.measures.token_classification.spans import OUTSIDE
from tasks.measures.tuning.batches import Encoded, Reading, label_counts
from tasks.measures.tuning.objectives import OneLabel
from tasks.measures.tuning.records import TEST, counts_of
from tasks.measures.tuning.task import Task
from tasks.models.errors import UnsupportedModelError
from tasks.store.steps import Facts
from tasks.store.store import Artifact

Pieces = list[tuple[int, int] | None]
"""Of each word its first and its last piece; None where the tokenizer makes no token of it."""
_TABLE = "types.csv"


class TokenClassificationTask(Task):
    """Whole sentences, read at every word that is whole among their tokens."""

    kind: ClassVar[str] = "token"
    words: ClassVar[str] = "token classification"
    version: ClassVar[int] = 1
    judged: ClassVar[tuple[str, ...]] = (TEST,)

    def __init__(self, options: TokenTask, data: SentenceData) -> None:
        self.options, self.data, self.labels = options, data.step, data.labels()
        self.columns = len(self.labels)
        self.objective = OneLabel()
        self.learning, self.scoring = {}, {"labels": options.labels}
        self._task, self._field = options, data.field
        self._columns = {label: column for column, label in enumerate(self.labels)}

    def read(self, data: Artifact) -> Mapping[str, Sequence[Sentence]]:
        return load_sentences(data)

    def encode(self, records: Sequence[Sentence], tokenizer: Any, longest: int) -> list[Encoded]:
        after = suffix_tokens(tokenizer)
        encoded: list[Encoded] = []
        for place, sentence in enumerate(records):
            ids, pieces = pieces_of(sentence.words, tokenizer)
            room, cut = len(ids), len(ids) > longest
            if cut:
                room = longest - len(after)
                ids = [*ids[:room], *after]
            readings = tuple(
                Reading(*found, range(self.columns), self._column(label), word)
                for word, (found, label) in enumerate(zip(pieces, sentence.labels, strict=True))
                if found and found[1] < room
            )
            encoded.append(Encoded(tuple(ids), readings, place, cut))
        if not any(entry.readings for entry in encoded):
            told = "a word is read where all its pieces are, and of no sentence one is"
            raise ConfigurationError(f"{self._field}.max_tokens", longest, told)
        return encoded

    def _column(self, label: str) -> frozenset[int]:
        """None of a label that nothing was learned of."""
        return frozenset(self._columns[name] for name in (label,) if name in self._columns)

    def learned(self, encoded: Sequence[Encoded]) -> Facts:
        counts = label_counts(encoded)
        return {"words": {label: counts[column] for label, column in self._columns.items()}}

    def score(
        self,
        records: Mapping[str, Sequence[Sentence]],
        encoded: Mapping[str, Sequence[Encoded]],
        logits: Mapping[str, Tensor],
        out: Path,
    ) -> Facts:
        tested = records[TEST]
        predicted = [[OUTSIDE] * len(sentence.words) for sentence in tested]
        chosen = iter(logits[TEST].argmax(1).tolist())
        for entry in encoded[TEST]:
            for reading in entry.readings:
                predicted[entry.record][reading.item] = self.labels[next(chosen)]
        score = Score([sentence.labels for sentence in tested], predicted, self._task.labels)
        (out / _TABLE).write_text(score.as_csv(), encoding="utf-8")
        occurs = {label for sentence in tested for label in sentence.labels}
        words = sum(len(sentence.words) for sentence in tested)
        return {
            **score.figures(),
            "sentences": counts_of(records, lambda sentence: sentence.words),
            "words": words,
            "words_unread": words - sum(len(entry.readings) for entry in encoded[TEST]),
            "labels": len(self.labels),
            "never_learned": sorted(occurs - set(self.labels)),
            "never_tested": sorted(set(self.labels) - occurs),
        }


def pieces_of(words: Sequence[str], tokenizer: Any) -> tuple[list[int], Pieces]:
    """A sentence's token ids, special ones included, and where its words stand among them.

    The words are read as one text with a blank between two of them, as a model has read texts. A
    token that spans several words is a piece of each.

    Raises:
        UnsupportedModelError: the tokenizer does not tell which characters a token is of.
    """
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} does not tell which characters its tokens are of, so "
            "words cannot be found among them; a tokenizer.json does"
        )
    found = tokenizer(" ".join(words), return_offsets_mapping=True, verbose=False)
    owner = [place for place, word in enumerate(words) for _ in f"{word} "]
    inside = [sign for word in words for sign in (*(not c.isspace() for c in word), False)]
    pieces: Pieces = [None] * len(words)
    for token, (start, end) in enumerate(found["offset_mapping"]):
        for word in dict.fromkeys(owner[at] for at in range(start, end) if inside[at]):
            first = pieces[word]
            pieces[word] = (first[0] if first else token, token)
    return found["input_ids"], pieces
