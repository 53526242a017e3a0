"""Which inputs of two figures differ: what matters most first, and what merely follows from it.

What follows from what is in the trees: what only computing a step tells (its facts) follows from
the step's inputs and from everything behind it; an input of a text whose token ids are the same on
both sides changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tasks.provenance.aspects import (
    ASPECTS,
    ENVIRONMENT,
    ENVIRONMENT_ASPECTS,
    FACTS,
    IMMATERIAL,
    ON_THEIR_OWN,
    OTHER,
    PRUNED_THERE,
    Aspect,
)
from tasks.provenance.inputs import (
    DENSE,
    DIGEST,
    ENVIRONMENT_PREFIX,
    METHOD,
    NEEDS,
    NONE,
    PRUNED_PREFIX,
    Inputs,
)

Kind = Literal["input", "consequence", "immaterial", "environment"]
SPARSITY = "sparsity"
_TOLD_OF_A_TEXT = ("/corpus", "/length", "/count")
"""All that is said of a text which only one side's method looks at."""


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
    """Compare two views of inputs (:func:`tasks.provenance.inputs.view`)."""
    found: list[tuple[Aspect, Difference]] = []
    same: list[str] = []
    unknown: list[tuple[str, str]] = []
    for aspect in (*_aspects(a, b), *_environment(a, b)):
        key = aspect.key
        if (key not in a and key not in b) or _moot(aspect, a, b):
            continue
        if (key in a) != (key in b) and not _unused(key, a, b):
            unknown.append((aspect.title, "B" if key in a else "A"))
        elif _value(key, a, b) == _value(key, b, a):
            same.append(aspect.title)
        else:
            shown = {"a": _shown(key, a), "b": _shown(key, b)}
            found.append(
                (
                    aspect,
                    Difference(key, aspect.title, aspect.group, "input", **shown, why=aspect.why),
                )
            )
    needs = {k.removesuffix(NEEDS): v.split(", ") for s in (a, b) for k, v in s.items()
             if k.endswith(NEEDS)}  # fmt: skip
    kinds = {aspect.key: _certain(aspect, a, b) for aspect, _ in found}
    open_ = [key for key, kind in kinds.items() if kind is None or kind == "input"]
    judged = [
        replace(entry, kind=kinds[aspect.key] or _judged(aspect, open_, needs))
        for aspect, entry in found
    ]
    order: tuple[Kind, ...] = ("input", "consequence", "immaterial", "environment")
    judged.sort(key=lambda entry: order.index(entry.kind))
    return Compared(tuple(judged), tuple(same), tuple(unknown))


def _aspects(a: Inputs, b: Inputs) -> Iterator[Aspect]:
    """The aspects in order; those of a path once for each of its names, the unknown ones last."""
    own = {aspect.key for aspect in ASPECTS}
    names = [
        key
        for key in dict.fromkeys([*a, *b])
        if key not in own
        and not key.endswith((DIGEST, NEEDS))
        and not key.startswith((ENVIRONMENT_PREFIX, PRUNED_PREFIX))
    ]
    for aspect in ASPECTS:
        if not aspect.key.endswith("/"):
            yield aspect
            continue
        for key in [name for name in names if name.startswith(aspect.key)]:
            names.remove(key)
            name = key.removeprefix(aspect.key).replace("/", " · ")
            yield replace(aspect, key=key, title=f"{aspect.title} {name}")
    for key in names:
        yield Aspect(key, key.replace("/", " · "), key.partition("/")[0], OTHER)


def _environment(a: Inputs, b: Inputs) -> Iterator[Aspect]:
    """Versions and hardware; of where it was pruned only what the evaluation's do not say too."""
    names = dict.fromkeys(
        key.removeprefix(prefix)
        for prefix in (ENVIRONMENT_PREFIX, PRUNED_PREFIX)
        for key in (*a, *b)
        if key.startswith(prefix)
    )
    known = list(ENVIRONMENT_ASPECTS)
    for name in sorted(names, key=lambda n: known.index(n) if n in known else len(known)):
        title, why = ENVIRONMENT_ASPECTS.get(name, (name, OTHER))
        yield Aspect(f"{ENVIRONMENT_PREFIX}{name}", title, ENVIRONMENT, why)
        there, here = (f"{p}{name}" for p in (PRUNED_PREFIX, ENVIRONMENT_PREFIX))
        both = there in a and there in b
        if both and (a[there], b[there]) != (a.get(here), b.get(here)):
            yield Aspect(there, title + PRUNED_THERE, ENVIRONMENT, why)


def _value(key: str, side: Inputs, other: Inputs) -> str | None:
    """What is compared: the digest where both record it, else the words."""
    return side[key + DIGEST] if key + DIGEST in side and key + DIGEST in other else side.get(key)


def _shown(key: str, side: Inputs) -> str:
    """A value as it is told: digests short, behind what they are the digest of."""
    value = side.get(key, NONE)
    if key.endswith("/count") and side.get(key) == NONE:
        return "all"
    if digest := side.get(key + DIGEST, ""):
        return f"{value} (sha256 {digest[:12]})"
    is_digest = len(value) == 64 and not set(value) - set("0123456789abcdef")
    return f"sha256 {value[:12]}" if is_digest else value


def _unused(key: str, a: Inputs, b: Inputs) -> bool:
    """Whether one side lacks an input because its method has none, and not its record."""
    path = key.partition("/")[0]
    return path in ("calibration", "training", "statistics", "pruning") and a[METHOD] != b[METHOD]


def _moot(aspect: Aspect, a: Inputs, b: Inputs) -> bool:
    """Whether an input cannot be compared, as options of two methods, or pruning with none."""
    key = aspect.key
    options = [option for option in aspect.follows if option.startswith("pruning/options/")]
    if (key in a) != (key in b) and any(a.get(option) != b.get(option) for option in options):
        return True  # what only one value of an option has
    if key.startswith("pruning/options/") and a[METHOD] != b[METHOD]:
        return True
    sampling = f"{key.partition('/')[0]}/sampling"
    if (key in a) != (key in b) and sampling in a and sampling in b and a[sampling] != b[sampling]:
        return True  # what only one way of choosing windows has
    if (key in a) != (key in b) and _unused(key, a, b):
        told = key.startswith(("calibration/", "training/")) and key.endswith(_TOLD_OF_A_TEXT)
        return not told and key != "pruning/target"
    dense = DENSE in (a[METHOD], b[METHOD])
    pruning_s = key == SPARSITY or key.startswith((PRUNED_PREFIX, f"{ENVIRONMENT_PREFIX}pruned"))
    return dense and pruning_s


def _certain(aspect: Aspect, a: Inputs, b: Inputs) -> Kind | None:
    """The kind of a difference as far as it does not depend on the others."""
    key = aspect.key
    if aspect.group == ENVIRONMENT:
        return "environment"
    stem = key.rpartition("/")[0]
    # The same token ids of another text, or the same model from elsewhere.
    proofs = (f"{stem}/content", f"{stem}{DIGEST}")
    if aspect.group == IMMATERIAL or any(p in a and a[p] == b.get(p) for p in proofs):
        return "immaterial"
    one_sided = (key in a) != (key in b)
    return "consequence" if one_sided and _unused(key, a, b) else None


def _judged(aspect: Aspect, differing: list[str], needs: Mapping[str, list[str]]) -> Kind:
    others = [key for key in differing if key != aspect.key]
    if any(cause in others for cause in aspect.follows):
        return "consequence"
    if aspect.key == SPARSITY:
        return "consequence" if others else "input"
    path, _, name = aspect.key.rpartition("/")
    if name not in FACTS.values() or name in ON_THEIR_OWN:
        return "input"
    behind = _behind(path, needs)
    inputs = [key for key in others if key.rpartition("/")[2] not in FACTS.values()]
    if name == "content":  # BOS and the tokenizer are facts, too, but decide what tokens there are
        inputs += [f"{path}/{fact}" for fact in ("bos", "vocabulary") if f"{path}/{fact}" in others]
    caused = any(key == "dtype" or _lies(key, behind) for key in inputs)
    return "consequence" if caused else "input"


def _behind(path: str, needs: Mapping[str, list[str]]) -> set[str]:
    """The path of a step and of everything behind it."""
    found: set[str] = set()
    new = {path}
    while new:
        found |= new
        new = {need for step in new for need in needs.get(step, ())} - found
    return found


def _lies(key: str, paths: set[str]) -> bool:
    return any(key == path or key.startswith(f"{path}/") for path in paths)
