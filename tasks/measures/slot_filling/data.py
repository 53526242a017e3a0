"""Where a task's tweets come from, resolved before anything is computed, and the step they are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from configs.safe_yaml import parse
from tasks.measures.slot_filling.generator import VERSION, generate
from tasks.measures.slot_filling.records import (
    Tweet,
    files_of,
    read_tweets,
    record_of,
    split,
    tweet_of,
)
from tasks.measures.slot_filling.schemes import COVID, OF_ALL_EVENTS, Scheme, scheme_of
from tasks.measures.slot_filling.settings import SlotTask
from tasks.models.sources.digests import file_digest
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

PARTS = ("train", "dev", "test")
_FILE = "tweets.json"


@dataclass(frozen=True)
class TaskData:
    """A task's events and tweets.

    Attributes:
        field: of the sweep file, for messages.
        identity: what determines the tweets; no paths.
        parts: train, dev and test.
    """

    field: str
    scheme: Scheme
    identity: Mapping[str, Any]
    parts: tuple[Sequence[Tweet], Sequence[Tweet], Sequence[Tweet]] = dataclasses.field(repr=False)

    @property
    def step(self) -> Step:
        """The tweets as an artifact; the same for every model."""
        return Step(
            name="slot_data",
            inputs={"tweets": dict(self.identity), "scheme": self.scheme.as_json()},
            produce=lambda work: _produce(work, self),
            label="slot data",
            group="slot filling",
        )


def resolve(task: SlotTask, where: str) -> TaskData:
    """Read or generate a task's tweets.

    Raises:
        ConfigurationError: naming file and line.
    """
    scheme, data = _scheme(task.slots, f"{where}.slots"), task.data
    if data.source == "generated":
        if task.slots is not None:
            raise ConfigurationError(
                f"{where}.slots", task.slots, "events of your own need data of your own"
            )
        identity = {"generator": VERSION, "tweets": data.tweets, "seed": data.seed}
        return TaskData(where, scheme, identity, generate(data.tweets, data.seed))
    read: dict[str, list[Tweet]] = {}
    digests: dict[str, dict[str, str]] = {}
    for part in PARTS:
        if (given := getattr(data, part)) is None:
            continue
        named, folder = f"{where}.data.{part}", Path(given).expanduser()
        if not folder.is_dir():
            raise ConfigurationError(named, given, "there is no such folder of <event>.jsonl files")
        files = files_of(folder, scheme, named)
        read[part] = read_tweets(files, scheme, named)
        mine = {event: file_digest(path, None) for event, path in files.items()}
        for other, theirs in digests.items():
            for event, digest in mine.items():
                if digest == theirs.get(event):
                    raise ConfigurationError(
                        named, f"{event}.jsonl", f"it holds what {event}.jsonl of {other} holds"
                    )
        digests[part] = mine
    parts = (read["train"], read["dev"], read["test"]) if "test" in read else split(read["train"])
    for part, tweets in zip(PARTS, parts, strict=True):
        if not tweets:
            raise ConfigurationError(f"{where}.data", data.train, f"no tweet is left for {part}")
    return TaskData(where, scheme, digests, parts)


def load_tweets(artifact: Artifact, scheme: Scheme) -> dict[str, list[Tweet]]:
    """Part → tweets."""
    found = json.loads((artifact.path / _FILE).read_text(encoding="utf-8"))
    return {
        part: [tweet_of(entry, entry["event"], scheme, entry["place"]) for entry in entries]
        for part, entries in found.items()
    }


def _produce(work: Work, data: TaskData) -> Facts:
    told = {
        part: [{**record_of(t), "event": t.event, "place": t.place} for t in tweets]
        for part, tweets in zip(PARTS, data.parts, strict=True)
    }
    (work.out / _FILE).write_text(json.dumps(told), encoding="utf-8")
    return {part: len(tweets) for part, tweets in told.items()}


def _scheme(given: str | None, where: str) -> Scheme:
    if given is None:
        return COVID
    try:
        found = parse(Path(given).expanduser().read_text(encoding="utf-8"), where)
    except OSError as error:
        raise ConfigurationError(where, given, f"it cannot be read: {error}") from error
    told = found if isinstance(found, dict) else {}
    named = all(
        isinstance(event, str)
        and isinstance(slots, list)
        and slots
        and all(isinstance(slot, str) for slot in slots)
        and len(set(slots)) == len(slots)
        for event, slots in told.items()
    )
    if not told or not named:
        allowed = "it holds a mapping: event → list of its slots, each named once"
        raise ConfigurationError(where, given, allowed)
    if taken := [event for event in told if event in OF_ALL_EVENTS]:
        allowed = f"a figure of all events is called so: {', '.join(OF_ALL_EVENTS)}"
        raise ConfigurationError(where, taken[0], allowed, "Give the event another name")
    return scheme_of(told)
