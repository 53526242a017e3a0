"""Layers that a sweep leaves as they are, by shell-style patterns over names in the model.

A pattern names a module, all that lies in it included: ``lm_head``, ``*.mlp.router``,
``model.layers.0``, ``*.q_proj.weight``. ``*`` matches dots too. What is no linear layer of a block
is never pruned anyway; naming it is no error.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_SHOWN = 3


class ExclusionError(ValueError):
    """A pattern that names nothing, or patterns that leave nothing to prune.

    Attributes:
        pattern: the one that is wrong; None where it is all of them together.
        reason: what is allowed, in words.
    """

    def __init__(self, pattern: str | None, reason: str) -> None:
        super().__init__(f"exclude: {pattern!r}: {reason}" if pattern else f"exclude: {reason}")
        self.pattern, self.reason = pattern, reason


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern names this layer or something that it lies in."""
    return bool(patterns) and _names_any(patterns, name.split("."))


def require_named(patterns: Sequence[str], names: Iterable[str]) -> None:
    """Check that each pattern names something.

    Args:
        names: of all modules and layers of the model.

    Raises:
        ExclusionError: with the names that come close.
    """
    known = {".".join(parts[: n + 1]) for name in names for parts in [name.split(".")]
             for n in range(len(parts))}  # fmt: skip
    for pattern in patterns:
        matches = _compiled((pattern,)).match
        if not any(matches(name) for name in known):
            reason = f"no layer of the model has such a name{_near(pattern, known)}"
            raise ExclusionError(pattern, reason)


def _names_any(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    matches = _compiled(tuple(patterns)).match
    return any(matches(".".join(parts[: n + 1])) for n in range(len(parts)))


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(p.removesuffix(".weight")) for p in patterns))


def _in_blocks(known: Iterable[str]) -> list[str]:
    """The names below which there is no other, of what stands in a numbered block."""
    parents = {name.rpartition(".")[0] for name in known}
    return [name for name in known if name not in parents and re.search(r"\.\d+\.", name)]


def _near(pattern: str, known: Iterable[str]) -> str:
    """The names that look like the pattern, blocks told apart by no number."""
    alike = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in known}
    candidates = alike | {f"*.{name.rpartition('.')[2]}" for name in alike if "." in name}
    layers = [name.split(".") for name in _in_blocks(known)]
    candidates = sorted(  # without those that would leave nothing to prune
        each for each in candidates if not all(_names_any((each,), parts) for parts in layers)
    )
    wanted = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", pattern.removesuffix(".weight"))
    near = difflib.get_close_matches(wanted, candidates, n=_SHOWN, cutoff=0.5)
    near = near or difflib.get_close_matches(wanted, candidates, n=_SHOWN, cutoff=0.0)
    return f"; close to it: {', '.join(near)}" if near else ""
