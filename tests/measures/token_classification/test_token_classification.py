"""Labelled sentences: how they are read, encoded, learned and scored."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support import encoders

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.token_classification.measure import TokenClassification
from tasks.measures.token_classification.records import Sentence, SentenceData, resolve
from tasks.measures.token_classification.settings import TokenTask
from tasks.measures.token_classification.steps import TokenClassificationTask, pieces_of
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.sharing import Lesson, Recipe
from tasks.measures.tuning.training import fine_tune_, logits_of
from tasks.models.load import load_model, load_tokenizer
from tasks.models.sources import random_model
from tasks.training.engine import AccelerateEngine, accelerator_for

CPU = torch.device("cpu")


def lines(path: Path, *records: Any) -> str:
    told = (entry if isinstance(entry, str) else json.dumps(entry) for entry in records)
    path.write_text("\n".join(told), encoding="utf-8")
    return str(path)


def labelled(words: str, labels: str, **more: Any) -> dict[str, Any]:
    return {"tokens": words.split(), "labels": labels.split(), **more}


def task_of(train: str, test: str | None = None, **more: Any) -> TokenTask:
    return TokenTask.model_validate({"data": {"train": train, "test": test}, **more})


def resolved(train: str, test: str | None = None, **more: Any) -> SentenceData:
    return resolve(task_of(train, test, **more), "here")


GOOD = labelled("Ann met Bo", "B-PER O B-PER")


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("{", r"train\.jsonl:2.*Expecting"),
        ("[]", r"train\.jsonl:2.*JSON object"),
        ({"labels": ["O"]}, r"train\.jsonl:2.*tokens is a list of at least one word"),
        ({"tokens": [], "labels": []}, r"train\.jsonl:2.*at least one word"),
        ({"tokens": "Ann", "labels": ["O"]}, r"train\.jsonl:2.*tokens is a list"),
        ({"tokens": ["Ann"]}, r"train\.jsonl:2.*one label a word: of 1, not none"),
        (labelled("Ann left", "O"), r"train\.jsonl:2.*one label a word: of 2, not 1"),
        ({"tokens": ["a", " "], "labels": ["O", "O"]}, r"train\.jsonl:2.*tokens\[1\] is a string"),
        ({"tokens": ["a"], "labels": [None]}, r"train\.jsonl:2.*labels\[0\] is a string"),
        (labelled("a b", "O PER"), r"train\.jsonl:2.*labels\[1\] 'PER' is neither O nor B-.*words"),
        (labelled("a b", "O B-"), r"train\.jsonl:2.*labels\[1\] 'B-' is neither"),
        ({"tokens": ["a"], "labels": [3]}, r"train\.jsonl:2.*labels\[0\] '3' is neither O"),
        ({**GOOD, "id": 7}, r"train\.jsonl:2.*id 7 is labelled in line 1 too"),
        ('{"tokens": ["\\ud800"], "labels": ["O"]}', r"train\.jsonl:2.*tokens\[0\] .*whole char"),
    ],
)
def test_a_bad_line_is_named(second: Any, told: str, tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", {**GOOD, "id": 7}, second)
    with pytest.raises(ConfigurationError, match=told):
        resolved(train)


def test_a_type_that_nothing_is_learned_of_is_named(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", GOOD)
    test = lines(tmp_path / "test.jsonl", GOOD, "", labelled("in Rome", "O B-LOC"))
    with pytest.raises(ConfigurationError, match=r"test\.jsonl:3.*'B-LOC' is of none.*PER"):
        resolved(train, test)
    late = [labelled(f"Ann {n}", "B-PER O") for n in range(7)]
    late = lines(tmp_path / "late.jsonl", *late, labelled("in Rome", "O B-LOC"))
    with pytest.raises(ConfigurationError, match="'LOC' only in the last quarter"):
        resolved(late)


def test_without_a_span_there_is_nothing_to_score(tmp_path: Path) -> None:
    none = lines(tmp_path / "none.jsonl", labelled("so it is", "O O O"))
    some = lines(tmp_path / "some.jsonl", GOOD)
    for files in ((none, some), (some, none)):
        with pytest.raises(ConfigurationError, match="only the label O in the 1 sentences"):
            resolved(*files)
    with pytest.raises(ConfigurationError, match="at least two labels"):
        resolved(lines(tmp_path / "one.jsonl", labelled("Ann", "B-PER")), some)
    with pytest.raises(ConfigurationError, match="no text is tested"):
        resolved(some)
    with pytest.raises(ConfigurationError, match="no text is learned from"):
        resolved(lines(tmp_path / "empty.jsonl"), some)


def test_equal_sentences_come_to_one_side_and_a_name_plays_no_part(tmp_path: Path) -> None:
    told = [labelled(f"Ann {n % 4}", "B-PER O") for n in range(8)]
    data = resolved(lines(tmp_path / "train.jsonl", *told))
    assert [len(data.read.parts[part]) for part in ("train", "test")] == [6, 2]
    same = lines(tmp_path / "other-name.jsonl", *told)
    assert data.step.fingerprint == resolved(same).step.fingerprint


def test_labels_of_single_words_may_be_numbers(tmp_path: Path) -> None:
    told = [{"tokens": ["a", str(n)], "labels": [0, 1]} for n in range(8)]
    data = resolved(lines(tmp_path / "train.jsonl", *told), labels="words")
    assert data.labels() == ["0", "1"]


def test_every_word_is_found_among_its_pieces() -> None:
    tokenizer = encoders.tokenizer(words=("john",))
    words = ("John", "O'Neil", "\u200d", "left", "é", "New York")
    ids, pieces = pieces_of(words, tokenizer)
    told = tokenizer.convert_ids_to_tokens(ids)
    assert told[0] == "[CLS]" and told[-1] == "[SEP]"
    found = ["".join(told[p[0] : p[1] + 1]).replace("##", "") if p else None for p in pieces]
    assert found == ["john", "o'neil", None, "left", "e", "newyork"]
    # Of byte-level tokens, a blank belongs to no word and four bytes are one sign.
    ids, pieces = pieces_of(("ab", "🙂", "c"), random_model.tokenizer())
    assert pieces == [(0, 1), (3, 6), (8, 8)]
    assert len(ids) == 9


def test_words_whose_pieces_are_cut_are_not_read(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(6)]
    told = [{"tokens": words, "labels": ["B-A", *"OOOO", "I-A"]}]
    file = lines(tmp_path / "train.jsonl", *told)
    other = lines(tmp_path / "test.jsonl", *told, *told)
    task = TokenClassificationTask(task_of(file, other), resolved(file, other))
    tokenizer, sentence = encoders.tokenizer(), Sentence(tuple(words), tuple(told[0]["labels"]))
    (whole,) = task.encode([sentence], tokenizer, 14)
    assert not whole.cut
    assert [reading.item for reading in whole.readings] == list(range(6))
    assert [reading.opens for reading in whole.readings] == [1, 3, 5, 7, 9, 11]
    assert [reading.closes for reading in whole.readings] == [2, 4, 6, 8, 10, 12]
    # Ten ids: [CLS], eight pieces, [SEP].
    (cut,) = task.encode([sentence], tokenizer, 10)
    assert cut.cut
    assert cut.ids == (*whole.ids[:9], tokenizer.sep_token_id)
    assert [reading.item for reading in cut.readings] == [0, 1, 2, 3]
    # Half a word is no word: its label would be told of something else.
    (half,) = task.encode([sentence], tokenizer, 9)
    assert [reading.item for reading in half.readings] == [0, 1, 2]
    with pytest.raises(ConfigurationError, match=r"max_tokens.*all its pieces are"):
        task.encode([sentence], tokenizer, 3)


def learned(folder: Path, records: list[Any], **more: Any) -> tuple[Any, Any, Any, Any]:
    """Task, data, network and tokenizer, tuned."""
    encoders.write(folder / "model")
    file = lines(folder / "train.jsonl", *records)
    data = resolved(file)
    task = TokenClassificationTask(task_of(file, **more), data)
    model, tokenizer = (
        load_model(folder / "model", torch.float32, CPU, Trust()),
        load_tokenizer(folder / "model", Trust()),
    )
    network = TaskNetwork(model, task.columns, "last", torch.Generator().manual_seed(0))
    encoded = task.encode(data.read.parts["train"], tokenizer, 32)
    recipe = Recipe(epochs=12, learning_rate=5e-3, batch_size=8, warmup=0.1, seed=0)
    lesson = Lesson(encoded=encoded, objective=task.objective, recipe=recipe, padding=0)
    with accelerator_for(CPU, torch.float32) as accelerator:
        history = fine_tune_(
            network, lesson, {}, engine=AccelerateEngine(accelerator, None),
            progress=lambda done, total: None,
        )  # fmt: skip
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    return task, data, network, tokenizer


def test_an_encoder_learns_which_words_are_spans(tmp_path: Path) -> None:
    draw = random.Random(0)
    names = {"a1": "B-A", "b1": "I-A", "c": "B-B", "so": "O", "on": "O"}
    words = [draw.choices(list(names), k=draw.randint(2, 6)) for _ in range(80)]
    records = [{"tokens": w, "labels": [names[word] for word in w]} for w in words]
    task, data, network, tokenizer = learned(tmp_path, records)
    encoded = {"test": task.encode(data.read.parts["test"], tokenizer, 32)}
    together, single = (logits_of(network, encoded["test"], size, padding=0) for size in (16, 1))
    torch.testing.assert_close(together, single, rtol=0, atol=1e-5)
    told = task.score(data.read.parts, encoded, {"test": together}, tmp_path)
    assert told["f1"] > 0.8
    assert told["token_accuracy"] > 0.9
    assert told["words_unread"] == 0
    assert (tmp_path / "types.csv").read_text().startswith("label,N,TP")
    # What is cut counts as O: its spans are missed.
    few = {"test": task.encode(data.read.parts["test"], tokenizer, 8)}
    logits = logits_of(network, few["test"], 16, padding=0)
    cut = task.score(data.read.parts, few, {"test": logits}, tmp_path)
    assert cut["words"] == told["words"]
    assert cut["words_unread"] == told["words"] - sum(len(e.readings) for e in few["test"]) > 0
    assert cut["recall"] < told["recall"]
    assert cut["never_learned"] == cut["never_tested"] == []


def test_what_was_not_learned_or_tested_is_said(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", labelled("Ann of York met Bo", "B-A O B-B O B-A"))
    test = lines(tmp_path / "test.jsonl", labelled("Ann Lee left", "B-A I-A O"))
    data = resolved(train, test)
    task = TokenClassificationTask(task_of(train, test), data)
    encoded = {"test": task.encode(data.read.parts["test"], encoders.tokenizer(), 32)}
    assert [sorted(r.labels) for r in encoded["test"][0].readings] == [[0], [], [2]]
    logits = {"test": torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])}
    told = task.score(data.read.parts, encoded, logits, tmp_path)
    assert (told["never_learned"], told["never_tested"]) == (["I-A"], ["B-B"])
    assert (told["f1"], told["token_accuracy"]) == (0, pytest.approx(2 / 3))


def test_cut_words_have_a_column_and_a_note_where_there_are_any() -> None:
    from types import SimpleNamespace

    measure = TokenClassification()
    facts = {f"{share.fact}{end}": 0.5 for share in measure.shares for end in ("", "_stderr")}
    found: Any = {"mine": SimpleNamespace(facts={**facts, "words_unread": 3})}
    row = measure.columns(found)
    assert row["span_f1/mine/words_unread"] == 3
    assert {figure.column for figure in measure.figures(list(row))} == {
        column for column in row if not column.endswith("stderr")
    }
    assert any("mine" in note and "3 at most" in note for note in measure.notes([row]))
    found["mine"].facts["words_unread"] = 0
    assert "span_f1/mine/words_unread" not in measure.columns(found)
