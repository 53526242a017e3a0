"""A seeded generator of annotated tweets, in the corpus's own format.

The corpus of the shared task is given by e-mail alone. These are templates with typed fillers and
*distractors*, chunks of the right type that answer nothing: a second name, a second place, a denied
cure. Fillers of train and dev are the first 60 % of each list, and test draws from all of it, so
that it holds names and places nobody was trained on. They are easy by design: figures on them are
not those of the shared task.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.measures.slot_filling.records import Answer, Span, Tweet
from tasks.measures.slot_filling.schemes import AUTHOR, COVID

VERSION = 1
"""Raise it when the tweets of a seed change."""
_PARTS = (11, 4, 6)
"""Train, dev and test of 21 tweets."""
_NAMES = ("train", "dev", "test")
_SEEN = 0.6
"""Of each list of fillers, what train and dev may use."""
_FIELD = re.compile(r"\{([\w-]+):(\w+)\}")

_FIRST = (
    "Maria", "Boris", "Olga", "Fatima", "Kofi", "Aisha", "Tom", "Rita", "Chidi", "Ana", "Liam",
    "Mei", "Omar", "Priya", "Jonas", "Elena", "Tariq", "Zoe", "Hugo", "Ines", "Pavel", "Noor",
    "Diego", "Hana", "Samuel", "Leila", "Viktor", "Amara", "Felix", "Yuki",
)  # fmt: skip
_LAST = (
    "Garcia", "Mensah", "Novak", "Brown", "Diallo", "Haddad", "Lee", "Petrov", "Silva", "Okafor",
    "Kim", "Rossi", "Nguyen", "Weber", "Khan", "Larsen", "Cohen", "Moreau", "Santos", "Ivanov",
    "Tanaka", "Murphy", "Costa", "Ahmed", "Fischer",
)  # fmt: skip
_FILLERS: Mapping[str, tuple[str, ...]] = {
    "place": (
        "Seoul", "Toronto", "Wuhan", "Italy", "New York", "Lagos", "Madrid", "London", "Lima",
        "Texas", "Berlin", "Mumbai", "the Bronx", "Oslo", "Cape Town", "Ohio", "Manila", "Lyon",
    ),
    "employer": (
        "the police department", "Northside Hospital", "the city council", "a nursing home",
        "the fire brigade", "Hill High School", "the postal service", "an airline",
        "a meat factory", "the national bank", "a cruise line", "the army",
    ),
    "when": (
        "today", "yesterday", "on March 12", "last week", "this morning", "on Monday",
        "two days ago", "last night", "on April 3", "on Friday", "three weeks ago", "last Sunday",
    ),
    "long": (
        "three days", "a week", "48 hours", "two weeks", "five days", "ten hours", "a month",
        "nine days",
    ),
    "relative": (
        "my brother", "her sister", "my uncle", "his mother", "my grandmother", "my cousin",
        "their father", "my aunt", "his son", "my wife",
    ),
    "symptom": (
        "a dry cough", "a fever", "chest pain", "a sore throat", "chills", "a headache",
        "no sense of smell", "body aches",
    ),
    "cure": (
        "vitamin C", "quinine", "garlic", "hot water", "a face mask", "zinc", "ginger tea",
        "sunlight", "salt water", "bleach", "onion soup", "vinegar",
    ),
}  # fmt: skip
_OPENINGS = (
    "", "", "BREAKING: ", "Wow. ", "So sad, ", "Just heard: ", "RT: ", "Thread 1/3 ", "😷 ",
)  # fmt: skip
_ENDINGS = (
    "", "", " #COVID19", " Stay safe everyone", " wash your hands", " https://t.co/x9", " 🙏🏽",
    " @news please report this", " #coronavirus is real", " praying for them",
)  # fmt: skip


@dataclass(frozen=True)
class _Template:
    """``{slot:type}`` is an answer, ``{-:type}`` a distractor; ``words`` answer fields in words."""

    text: str
    words: Mapping[str, str] = field(default_factory=dict)


def _t(text: str, **words: str) -> _Template:
    return _Template(text, words)


_TEMPLATES: Mapping[str, tuple[_Template, ...]] = {
    "positive": (
        _t("{name:person}, {age:age}, is positive for COVID after meeting {close_contact:person} "
           "in {where:place}."),
        _t("{name:person}, who works for {employer:employer}, has tested positive {when:when}."),
        _t("She is positive. {name:person} got her result {when:when} while {-:person} waits.",
           gender="Female"),
        _t("{-:person} said that {name:person} tested positive {when:when}, he is in isolation.",
           gender="Male"),
        _t("{name:person} came back from {recent_travel:place} and tested positive in "
           "{where:place}."),
        _t("{name:relative} tested positive in {where:place}, {-:person} confirmed.",
           relation="Yes"),
        _t("I have tested positive after seeing {close_contact:person} {when:when}.", name=AUTHOR),
    ),
    "negative": (
        _t("I tested negative {when:when}.", name=AUTHOR),
        _t("{name:relative} tested negative in {where:place} after {how_long:long}.",
           relation="Yes"),
        _t("{name:person}, {age:age}, tested negative. She had met {close_contact:person}.",
           gender="Female"),
        _t("{-:person} reports that {name:person} is negative {when:when}, his test took "
           "{how_long:long}.", gender="Male"),
        _t("{name:person} is negative, {-:person} from {-:place} still waits."),
    ),
    "can_not_test": (
        _t("{name:relative} has {-:symptom} and can't get a test in {where:place}.",
           relation="Yes", symptoms="Yes"),
        _t("I have {-:symptom} and they would not test me {when:when}.",
           name=AUTHOR, symptoms="Yes"),
        _t("{name:person} was denied a test {when:when} in {where:place}, says {-:person}."),
        _t("No test for {name:person} although {-:person} was tested in {-:place}."),
        _t("{where:place} has no tests left, {name:person} with {-:symptom} was sent home.",
           symptoms="Yes"),
    ),
    "death": (
        _t("{-:person} confirmed that {name:person} died of COVID in {where:place}."),
        _t("{name:person}, {age:age}, died of COVID {when:when}."),
        _t("{name:relative} passed away {when:when} after {-:symptom}.",
           relation="Yes", symptoms="Yes"),
        _t("COVID took {name:person} at {age:age}, {-:person} writes from {-:place}."),
        _t("RIP {name:person} who died in {where:place} {when:when}."),
    ),
    "cure_and_prevention": (
        _t("I know {what_cure:cure} works against corona, trust me.",
           who_cure=AUTHOR, opinion="effective"),
        _t("{who_cure:person} says {what_cure:cure} cures COVID and I agree.", opinion="effective"),
        _t("No, {-:cure} does not cure COVID, whatever {-:relative} says.", opinion="no_opinion"),
        _t("{who_cure:person} claims that {what_cure:cure} prevents it, not {-:cure}.",
           opinion="no_opinion"),
        _t("Use {what_cure:cure} every day, it works! {-:cure} is useless.", opinion="effective"),
    ),
}  # fmt: skip


def generate(tweets: int, seed: int) -> tuple[list[Tweet], list[Tweet], list[Tweet]]:
    """Train, dev and test, about 11 : 4 : 6, as many of each event as of the others.

    Args:
        tweets: of all events and parts together.
        seed: the same seed gives the same tweets.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    parts: tuple[list[Tweet], list[Tweet], list[Tweet]] = ([], [], [])
    for event in COVID.by_name:
        counts = _counts(tweets // len(COVID.by_name))
        seen: set[str] = set()
        for part, (count, unseen) in enumerate(zip(counts, (False, False, True), strict=True)):
            while len([t for t in parts[part] if t.event == event]) < count:
                name = f"{event}-{_NAMES[part]}-{len(seen)}"
                tweet = _tweet(event, name, draw, unseen=unseen)
                if tweet.text not in seen:
                    seen.add(tweet.text)
                    parts[part].append(tweet)
    return parts


def _counts(tweets: int) -> tuple[int, int, int]:
    train, dev = (round(tweets * part / sum(_PARTS)) for part in _PARTS[:2])
    return train, dev, tweets - train - dev


def _tweet(event: str, name: str, draw: random.Random, *, unseen: bool) -> Tweet:
    template = draw.choice(_TEMPLATES[event])
    text, chunks = draw.choice(_OPENINGS), []
    answers: dict[str, tuple[Answer, ...]] = {slot.field: () for slot in COVID.by_name[event].slots}
    used: set[str] = set()
    end = 0
    for match in _FIELD.finditer(template.text):
        text += template.text[end : match.start()]
        filler = _filler(match[2], draw, unseen=unseen, used=used)
        span: Span = (len(text), len(text) + len(filler))
        text, end = text + filler, match.end()
        chunks.append(span)
        if match[1] in answers:
            answers[match[1]] = (span,)
    text += template.text[end:] + draw.choice(_ENDINGS)
    answers |= {field: (word,) for field, word in template.words.items()}
    return Tweet(name, event, text, tuple(chunks), answers)


def _filler(kind: str, draw: random.Random, *, unseen: bool, used: set[str]) -> str:
    """One that the tweet does not hold yet."""
    while True:
        if kind == "person":
            first, last = (_drawn(names, draw, unseen=unseen) for names in (_FIRST, _LAST))
            filler = draw.choice((first, f"{first} {last}"))
        elif kind == "age":
            filler = str(draw.randrange(18, 95))
        else:
            filler = _drawn(_FILLERS[kind], draw, unseen=unseen)
        if filler not in used:
            used.add(filler)
            return filler


def _drawn(values: tuple[str, ...], draw: random.Random, *, unseen: bool) -> str:
    return draw.choice(values if unseen else values[: round(_SEEN * len(values))])
