"""Which inputs of two figures differ: what matters most first, and what merely follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tasks.provenance.aspects import (
    ANY,
    ASPECTS,
    ENVIRONMENT,
    ENVIRONMENT_ASPECTS,
    OTHER,
    PRUNED_THERE,
    Aspect,
)
from tasks.provenance.manifests import Inputs
from tasks.provenance.views import ENVIRONMENT_PREFIX, PRUNE_ENVIRONMENT_PREFIX

Kind = Literal["input", "consequence", "immaterial", "environment"]
_PRUNING_ALONE = (
    "layers_counted", "weights_counted", "sparsity", "method_version", "seed_used",
    f"{ENVIRONMENT_PREFIX}pruned_on",
)  # fmt: skip
"""What a dense model does not have."""
_TOLD_OF_A_TEXT = ("/corpus_digest", "/window_tokens", "/windows", "/tokens_learned")
"""All that is said of a text which only one side's method looks at."""
NONE = "none"
"""What stands for a text or option that one side's method does not use."""


@dataclass(frozen=True)
class Difference:
    """One input with two values.

    Attributes:
        kind: an input that was chosen; a consequence of others that differ; immaterial, where what
            it determines is the same; or part of the environment.
    """

    key: str
    title: str
    group: str
    kind: Kind
    a: str
    b: str
    why: str


@dataclass(frozen=True)
class Compared:
    """All inputs of two figures, compared.

    Attributes:
        differences: in order of how much each is known to matter; consequences behind inputs, the
            environment last.
        same: titles of what both sides record alike.
        unknown: (title, the sides that do not record it).
    """

    differences: tuple[Difference, ...]
    same: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...]

    def of(self, *kinds: Kind) -> list[Difference]:
        return [entry for entry in self.differences if entry.kind in kinds]


def compare(a: Inputs, b: Inputs) -> Compared:
    """Compare two views of inputs (:func:`tasks.provenance.views.view`)."""
    aspects = [*_expanded(a, b), *_environment(a, b)]
    found: list[tuple[Aspect, Difference]] = []
    same: list[str] = []
    unknown: list[tuple[str, str]] = []
    for aspect in aspects:
        key = _key(aspect, a, b)
        if (key not in a and key not in b) or _moot(aspect, a, b):
            continue
        if (key in a) != (key in b) and not _unused(aspect, a, b):
            unknown.append((aspect.title, "B" if key in a else "A"))
        elif a.get(key) == b.get(key):
            same.append(aspect.title)
        else:
            found.append((aspect, _difference(aspect, key, a, b)))
    differing = {aspect.key for aspect, _ in found}
    judged = [_judged(aspect, entry, a, b, differing) for aspect, entry in found]
    order: tuple[Kind, ...] = ("input", "consequence", "immaterial", "environment")
    judged.sort(key=lambda entry: order.index(entry.kind))
    return Compared(tuple(judged), tuple(same), tuple(unknown))


def _expanded(a: Inputs, b: Inputs) -> Iterator[Aspect]:
    """The aspects in order; those of a prefix once for each of its names, the unknown ones last."""
    names = dict.fromkeys([*a, *b])
    claimed: set[str] = set()
    for aspect in ASPECTS:
        claimed |= {aspect.key, aspect.also}
        if not aspect.key.endswith("/"):
            yield aspect
            continue
        for key in (name for name in names if name.startswith(aspect.key)):
            claimed.add(key)
            yield replace(aspect, key=key, title=f"{aspect.title} {key.removeprefix(aspect.key)}")
    environment = (ENVIRONMENT_PREFIX, PRUNE_ENVIRONMENT_PREFIX)
    for key in names:
        if key not in claimed and not key.startswith(environment):
            group = key.partition("/")[0]
            yield Aspect(key, key.replace("/", " ").replace("_", " "), group, OTHER)


def _environment(a: Inputs, b: Inputs) -> Iterator[Aspect]:
    """Versions and hardware; of where it was pruned only what the evaluation's do not say too."""
    names = dict.fromkeys(
        key.removeprefix(prefix)
        for prefix in (ENVIRONMENT_PREFIX, PRUNE_ENVIRONMENT_PREFIX)
        for key in (*a, *b)
        if key.startswith(prefix)
    )
    for name in sorted(names, key=_environment_place):
        title, why = ENVIRONMENT_ASPECTS.get(name, (name, OTHER))
        yield Aspect(f"{ENVIRONMENT_PREFIX}{name}", title, ENVIRONMENT, why)
        there, here = (f"{p}{name}" for p in (PRUNE_ENVIRONMENT_PREFIX, ENVIRONMENT_PREFIX))
        both = there in a and there in b
        if both and (a[there], b[there]) != (a.get(here), b.get(here)):
            yield Aspect(there, title + PRUNED_THERE, ENVIRONMENT, why)


def _environment_place(name: str) -> int:
    known = list(ENVIRONMENT_ASPECTS)
    return known.index(name) if name in known else len(known)


def _key(aspect: Aspect, a: Inputs, b: Inputs) -> str:
    """The name to compare by: the second one where only it is known on both sides."""
    if aspect.key in a and aspect.key in b:
        return aspect.key
    return aspect.also if aspect.also in a and aspect.also in b else aspect.key


def _unused(aspect: Aspect, a: Inputs, b: Inputs) -> bool:
    """Whether one side lacks an input because its method has none, and not its record."""
    return aspect.key.startswith(("calibration/", "training/")) and a["method"] != b["method"]


def _moot(aspect: Aspect, a: Inputs, b: Inputs) -> bool:
    """Whether an input cannot be compared, as options of two methods, or pruning with none."""
    if aspect.key.startswith("options/"):
        return a["method"] != b["method"]
    if _unused(aspect, a, b) and (aspect.key in a) != (aspect.key in b):
        return not aspect.key.endswith(_TOLD_OF_A_TEXT)
    dense = "dense" in (a["method"], b["method"])
    return dense and (
        aspect.key in _PRUNING_ALONE or aspect.key.startswith(PRUNE_ENVIRONMENT_PREFIX)
    )


def _difference(aspect: Aspect, key: str, a: Inputs, b: Inputs) -> Difference:
    values = {"a": _shown(aspect, key, a), "b": _shown(aspect, key, b)}
    return Difference(
        key=aspect.key,
        title=aspect.title,
        group=aspect.group,
        kind="input",
        why=aspect.why,
        **values,
    )


def _shown(aspect: Aspect, key: str, side: Inputs) -> str:
    """A value as it is told: digests short, behind what they are the digest of."""
    value = side.get(key, NONE)
    if not key.endswith(("digest", "vocabulary")) or value == NONE:
        return value
    brief = f"sha256 {value[:12]}"
    return f"{side[aspect.also]} ({brief})" if aspect.also in side else brief


def _judged(
    aspect: Aspect, entry: Difference, a: Inputs, b: Inputs, differing: set[str]
) -> Difference:
    if aspect.group == ENVIRONMENT:
        return replace(entry, kind="environment")
    proof = aspect.proof
    if proof and proof in a and a[proof] == b.get(proof):
        return replace(entry, kind="immaterial")
    methods_differ = "method" in differing and _unused(aspect, a, b)
    one_sided = (aspect.key in a) != (aspect.key in b)
    if methods_differ and one_sided:
        return replace(entry, kind="consequence")
    if entry.key == "target" and "dense" in (a["method"], b["method"]):
        return replace(entry, kind="consequence")
    others = differing - {aspect.key}
    if any(_explains(cause, others) for cause in aspect.follows):
        return replace(entry, kind="consequence")
    return entry


def _explains(cause: str, differing: set[str]) -> bool:
    if cause == ANY:
        return bool(differing)
    if cause.endswith("/"):
        return any(key.startswith(cause) for key in differing)
    return cause in differing
