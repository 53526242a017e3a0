"""Which events there are, which slots each has, and how an annotation answers a slot.

The built-in scheme is that of W-NUT 2020's shared task 3: five events of COVID-19 tweets with 33
event-slot pairs (arXiv 2009.14262).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

AUTHOR, NEAR_AUTHOR = "AUTHOR OF THE TWEET", "NEAR AUTHOR OF THE TWEET"
"""Candidates that stand for nothing in the text."""
OF_ALL_EVENTS = ("stderr", "precision", "recall", "macro_f1")
"""Figures of a task beside its F1, whose columns stand beside those of its events."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One question about an event.

    Attributes:
        field: of the annotation that answers it; two slots may share one.
        kind: ``chunk``: the answer is a part of the text; ``about``: it is a word, and belongs to
            whoever the slot ``name`` holds; ``author``: it is a word, and belongs to the author.
        answer: the word, in lower case; an annotation that starts with it is a yes.
        scored: whether the task counts it.
        first_person: whether "I" means the author.
    """

    name: str
    field: str
    kind: Literal["chunk", "about", "author"] = "chunk"
    answer: str = ""
    scored: bool = True
    first_person: bool = False


@dataclass(frozen=True, kw_only=True)
class Event:
    """One kind of event.

    Attributes:
        candidates: beside the parts of the text, such as :data:`AUTHOR`.
    """

    name: str
    slots: tuple[Slot, ...]
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scheme:
    """All events; a column of the network is one event's slot."""

    events: tuple[Event, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Event]:
        """Event by its name."""
        return {event.name: event for event in self.events}

    @cached_property
    def columns(self) -> Sequence[tuple[str, Slot]]:
        """(event, slot) of each column."""
        return [(event.name, slot) for event in self.events for slot in event.slots]

    def of_event(self, event: str) -> range:
        """The columns of an event."""
        mine = [index for index, (name, _) in enumerate(self.columns) if name == event]
        return range(mine[0], mine[-1] + 1)

    def as_json(self) -> Any:
        """What determines it, for a fingerprint."""
        return [asdict(event) for event in self.events]


_FIRST_PERSON = {"name", "close_contact", "who_cure"}
_ABOUT = {
    "gender_male": ("gender", "male"),
    "gender_female": ("gender", "female"),
    "relation": ("relation", "yes"),
    "symptoms": ("symptoms", "yes"),
}
_UNSCORED = {("negative", "how_long"), ("death", "symptoms")}
_SLOTS = {
    "positive": "age close_contact employer gender_male gender_female name recent_travel relation "
    "when where",
    "negative": "age close_contact gender_male gender_female how_long name relation when where",
    "can_not_test": "relation symptoms name when where",
    "death": "age name relation symptoms when where",
    "cure_and_prevention": "opinion what_cure who_cure",
}


def _slot(event: str, name: str) -> Slot:
    scored = (event, name) not in _UNSCORED
    if name == "opinion":
        return Slot(name=name, field=name, kind="author", answer="effective", scored=scored)
    if name in _ABOUT:
        field, answer = _ABOUT[name]
        return Slot(name=name, field=field, kind="about", answer=answer, scored=scored)
    return Slot(name=name, field=name, scored=scored, first_person=name in _FIRST_PERSON)


COVID = Scheme(
    tuple(
        Event(
            name=event,
            slots=tuple(_slot(event, name) for name in names.split()),
            candidates=(AUTHOR, NEAR_AUTHOR) if "where" in names.split() else (AUTHOR,),
        )
        for event, names in _SLOTS.items()
    )
)
"""The shared task's 33 pairs; negative/how_long and death/symptoms are learned and not scored."""


def scheme_of(found: Mapping[str, Sequence[str]]) -> Scheme:
    """A scheme of one's own: event → its slots, whose answers are parts of the text."""
    return Scheme(
        tuple(
            Event(name=event, slots=tuple(Slot(name=name, field=name) for name in names))
            for event, names in found.items()
        )
    )
