"""Records, label rules, splits and the generator of slot filling, on hand-made tweets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigurationError
from tasks.measures.slot_filling.answers import allowed
from tasks.measures.slot_filling.data import _scheme, resolve
from tasks.measures.slot_filling.generator import generate
from tasks.measures.slot_filling.labels import (
    candidates_of,
    gold_of,
    instances_of,
    labels_of,
    predicted_of,
)
from tasks.measures.slot_filling.records import (
    Tweet,
    files_of,
    read_tweets,
    record_of,
    split,
    tweet_of,
)
from tasks.measures.slot_filling.schemes import (
    AUTHOR,
    COVID,
    NEAR_AUTHOR,
    OF_ALL_EVENTS,
    scheme_of,
)
from tasks.measures.slot_filling.settings import SlotTask

CHUNKS = {
    "positive": "age close_contact employer name recent_travel when where",
    "negative": "age close_contact how_long name when where",
    "can_not_test": "name when where",
    "death": "age name when where",
    "cure_and_prevention": "what_cure who_cure",
}
CHUNK_CASES = [(event, slot) for event, slots in CHUNKS.items() for slot in slots.split()]


def tweet(event: str, text: str, words: list[str], **answers: Any) -> Tweet:
    """A tweet with the words as candidates; an answer that is a word of the text is its span."""

    def span(word: str) -> list[int]:
        return [text.index(word), text.index(word) + len(word)]

    told = {
        f"part2-{field}.Response": [span(a) if a in words else a for a in given]
        for field, given in answers.items()
    }
    record = {
        "id": "1",
        "text": text,
        "candidate_chunks_offsets": [span(word) for word in words],
        "annotation": told,
    }
    return tweet_of(record, event, COVID, "here:1")


def labels(given: Tweet, chunk: str) -> set[str]:
    return set(labels_of(given, chunk, COVID.by_name[given.event]))


def test_there_are_33_columns_and_two_are_not_scored() -> None:
    assert len(COVID.columns) == 33
    silent = {(event, slot.name) for event, slot in COVID.columns if not slot.scored}
    assert silent == {("negative", "how_long"), ("death", "symptoms")}
    assert [list(COVID.of_event(e)) for e in COVID.by_name] == [
        list(range(10)), list(range(10, 19)), list(range(19, 24)), list(range(24, 30)),
        list(range(30, 33)),
    ]  # fmt: skip


@pytest.mark.parametrize(("event", "slot"), CHUNK_CASES)
def test_a_chunk_fills_a_slot_if_and_only_if_it_is_gold(event: str, slot: str) -> None:
    given = tweet(event, "Ann met Bob", ["Ann", "Bob"], **{slot: ["Bob"]})
    assert labels(given, "Bob") == {slot}
    assert labels(given, "Ann") == set()


@pytest.mark.parametrize(
    ("field", "answer", "slot"),
    [
        ("gender", "Male", "gender_male"),
        ("gender", "Female", "gender_female"),
        ("relation", "Yes", "relation"),
    ],
)
def test_a_yes_belongs_to_who_is_named(field: str, answer: str, slot: str) -> None:
    given = tweet("positive", "Ann met Bob", ["Ann", "Bob"], name=["Ann"], **{field: [answer]})
    assert labels(given, "Ann") == {"name", slot}
    assert labels(given, "Bob") == set()
    nobody = tweet("positive", "Ann met Bob", ["Ann", "Bob"], **{field: [answer]})
    assert labels(nobody, "Ann") == set()


def test_symptoms_belong_to_who_is_named_and_no_is_no_yes() -> None:
    given = tweet("death", "Ann coughed", ["Ann"], name=["Ann"], symptoms=["Yes"])
    assert labels(given, "Ann") == {"name", "symptoms"}
    given = tweet("death", "Ann coughed", ["Ann"], name=["Ann"], symptoms=["No"])
    assert labels(given, "Ann") == {"name"}


@pytest.mark.parametrize(
    ("answer", "found", "gold"),
    [
        ("effective", {"opinion"}, ["effective"]),
        ("not_effective", set(), ["not_effective"]),
        ("no_opinion", set(), []),
    ],
)
def test_an_opinion_is_the_author_s(answer: str, found: set[str], gold: list[str]) -> None:
    given = tweet("cure_and_prevention", "Tea helps", ["Tea"], opinion=[answer])
    assert labels(given, AUTHOR) == found
    assert labels(given, "Tea") == set()
    opinion = COVID.by_name["cure_and_prevention"].slots[0]
    assert gold_of(given, opinion) == gold


@pytest.mark.parametrize(
    ("event", "slot"),
    [
        ("positive", "name"),
        ("positive", "close_contact"),
        ("cure_and_prevention", "who_cure"),
    ],
)
def test_i_is_the_author(event: str, slot: str) -> None:
    given = tweet(event, "I am here", ["I"], **{slot: ["I"]})
    assert labels(given, "I") == labels(given, AUTHOR) == {slot}
    asked = next(s for s in COVID.by_name[event].slots if s.name == slot)
    assert gold_of(given, asked) == [AUTHOR]
    answers = predicted_of({slot: ["I", AUTHOR]}, COVID.by_name[event])
    assert answers[slot] == [AUTHOR]


def test_candidates_are_told_apart_by_their_words() -> None:
    given = tweet("positive", "coronavirus Ann saw Ann", ["coronavirus", "Ann"], name=["Ann"])
    twice = Tweet("1", "positive", given.text, (*given.chunks, (20, 23)), given.answers)
    found = candidates_of(twice, COVID.by_name["positive"])
    assert list(found) == ["Ann", AUTHOR, NEAR_AUTHOR]
    assert found["Ann"] == (12, 15)
    assert NEAR_AUTHOR not in candidates_of(twice, COVID.by_name["cure_and_prevention"])


def test_both_genders_are_none() -> None:
    event = COVID.by_name["positive"]
    one = predicted_of({"gender_male": ["Ann", "Bob"]}, event)
    assert (one["gender_male"], one["gender_female"]) == (["male"], [])
    both = predicted_of({"gender_male": ["Ann"], "gender_female": ["Bob"]}, event)
    assert (both["gender_male"], both["gender_female"]) == ([], [])


def test_offsets_count_characters_whatever_they_are() -> None:
    record = (
        '{"id": 7, "text": "\\ud83d\\ude37\\ud83d\\ude4f\\ud83c\\udffd Ann is ill", '
        '"candidate_chunks_offsets": [[4, 7]], '
        '"annotation": {"part2-name.Response": [[4, 7]], "part2-where.Response": "NO_CONSENSUS"}}'
    )
    given = tweet_of(json.loads(record), "positive", COVID, "here:1")
    assert labels(given, "Ann") == {"name"}
    assert given.answers["where"] == ()
    assert tweet_of(record_of(given), "positive", COVID, "here:1") == given


def line(**changes: Any) -> str:
    record = {
        "id": "1",
        "text": "Ann is ill",
        "candidate_chunks_offsets": [[0, 3]],
        "annotation": {"part2-name.Response": [[0, 3]]},
    }
    return json.dumps({**record, **changes})


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("{", "Expecting property name"),
        ("[]", "a JSON object"),
        (line(), "id 1 is annotated in line 1 too"),
        (line(id="2", text=3), "text is a string"),
        (line(id="2", text="\ud83d and half"), "whole characters"),
        (line(id="2", candidate_chunks_offsets=[[0, 11]]), "a text of 10 characters"),
        (line(id="2", candidate_chunks_offsets=[[3, 3]]), "a text of 10 characters"),
        (line(id="2", annotation={"part2-name.Response": [[-1, 2]]}), "none of a text"),
        (line(id="2", candidate_chunks_offsets=[[0]]), "values to unpack"),
    ],
)
def test_a_bad_line_is_named(second: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "positive.jsonl"
    path.write_text(f"{line()}\n{second}\n")
    with pytest.raises(ConfigurationError) as raised:
        read_tweets({"positive": path}, COVID, "evaluation.slot_filling[0].data.train")
    assert raised.value.given == "positive.jsonl:2"
    assert told in str(raised.value)


def test_tweets_of_another_encoding_are_refused(tmp_path: Path) -> None:
    """Read with replacements, offsets would name other characters."""
    path = tmp_path / "positive.jsonl"
    record = json.dumps(json.loads(line(text="Ann é ill")), ensure_ascii=False)
    path.write_bytes(record.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="UTF-8; byte 0xe9 at offset"):
        read_tweets({"positive": path}, COVID, "here")
    path.write_text(record, encoding="utf-8-sig")
    assert read_tweets({"positive": path}, COVID, "here")[0].text == "Ann é ill"


def test_a_file_of_no_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="with events positive"):
        files_of(tmp_path, COVID, "data.train")
    (tmp_path / "positives.jsonl").touch()
    with pytest.raises(ConfigurationError, match=r"positives\.jsonl"):
        files_of(tmp_path, COVID, "data.train")


def test_a_part_that_holds_what_another_holds_is_refused(tmp_path: Path) -> None:
    for part, text in (("train", "I tested positive"), ("dev", "He tested"), ("test", "He tested")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "positive.jsonl").write_text(line(text=text))
    data = {part: str(tmp_path / part) for part in ("train", "dev", "test")}
    task = SlotTask.model_validate({"data": {"source": "files", **data}})
    with pytest.raises(ConfigurationError, match=r"data\.test.*positive\.jsonl of dev holds"):
        resolve(task, "here")


def test_splits_keep_equal_texts_together_in_file_order() -> None:
    def made(event: str, number: int, text: str) -> Tweet:
        return Tweet(str(number), event, text, (), {})

    tweets = [made("positive", n, f"text {n % 20}") for n in range(40)]
    tweets += [made("death", n, f"text {n}") for n in range(20)]
    parts = split(tweets)
    assert [len(part) for part in parts] == [24 + 12, 6 + 3, 10 + 5]
    texts = [{(t.event, t.text) for t in part} for part in parts]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    assert ("positive", "text 11") in texts[0]
    assert ("positive", "text 12") in texts[1]
    assert ("positive", "text 15") in texts[2]


def test_the_generator_keeps_its_seed_and_its_promises() -> None:
    parts = generate(210, 0)
    assert parts == generate(210, 0)
    assert parts != generate(210, 1)
    assert [len(part) for part in parts] == [110, 40, 60]
    assert {t.event for t in parts[0]} == set(COVID.by_name)
    texts = [tweet.text for part in parts for tweet in part]
    assert len(set(texts)) == len(texts)
    for part in parts:
        for tweet in part:
            again = tweet_of(record_of(tweet), tweet.event, COVID, tweet.place)
            assert again == tweet
    trained = instances_of(parts[0], COVID)
    slots = {(i.event, label) for i in trained for label in i.labels}
    assert slots == {(event, slot.name) for event, slot in COVID.columns}
    seen = {i.chunk for i in trained if "name" in i.labels}
    unseen = {i.chunk for i in instances_of(parts[2], COVID) if "name" in i.labels} - seen
    assert unseen, "test holds names that train does not"


def test_a_scheme_of_one_s_own() -> None:
    scheme = scheme_of({"order": ["item", "price"]})
    assert [(event, slot.name) for event, slot in scheme.columns] == [
        ("order", "item"),
        ("order", "price"),
    ]
    assert scheme.by_name["order"].candidates == ()


@pytest.mark.parametrize(
    ("slot", "chunk", "fits"),
    [
        ("age", "42", True),
        ("age", "forty", True),
        ("age", "Ann", False),
        ("when", "last Sunday", True),
        ("when", "on March 12", True),
        ("when", "two days ago", True),
        ("when", "Seoul", False),
        ("name", "42", False),
        ("name", "Ann 2", True),
        ("employer", "42", True),
    ],
)
def test_typed_rules(slot: str, chunk: str, fits: bool) -> None:
    assert allowed(slot, chunk, {slot: 0.9}, named=False) == fits


def test_a_place_is_no_likelier_name() -> None:
    told = {"where": 0.6, "name": 0.7}
    assert not allowed("where", "Paris", told, named=True)
    assert allowed("where", "Paris", told, named=False)
    assert allowed("where", "Paris", {"where": 0.8, "name": 0.7}, named=True)


@pytest.mark.parametrize("event", OF_ALL_EVENTS)
def test_an_event_is_not_called_as_a_figure_of_all(event: str, tmp_path: Path) -> None:
    """Its F1 took the place of the other figure's column."""
    path = tmp_path / "scheme.yaml"
    path.write_text(f"{event}: [name]\nother: [name]\n")
    with pytest.raises(ConfigurationError, match=f"'{event}' is not possible; a figure of all"):
        _scheme(str(path), "scheme")
