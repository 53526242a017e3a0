"""Every pruning method, by name.

A method registers itself with ``@register``; each module of this package is imported once, so a
new file is found without being listed anywhere. An installed package names its methods under the
entry points ``secateur.methods``: each names a registered class, or the module that registers it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

import tasks.pruning
from tasks.pruning.core.methods import Method
from tasks.pruning.core.targets import ALLOWED, Target, TargetError, parse_target

__all__ = ["ALLOWED", "Target", "TargetError", "get", "methods", "parse_target", "register"]

ENTRY_POINTS = "secateur.methods"
_registered: dict[str, type[Method]] = {}

MethodType = TypeVar("MethodType", bound=type[Method])


def register(method: MethodType) -> MethodType:
    """Class decorator: make a method selectable under its ``name``.

    Raises:
        ValueError: when the name is taken by another class.
    """
    taken = _registered.get(method.name)
    if taken is not None and _full_name(taken) != _full_name(method):
        raise ValueError(f"two pruning methods are called {method.name!r}: {taken} and {method}")
    _registered[method.name] = method
    return method


def _full_name(method: type[Method]) -> tuple[str, str]:
    return method.__module__, method.__qualname__


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(tasks.pruning.__path__, "tasks.pruning."):
        # A folder keeps its method in ``method.py``; ``core`` holds none.
        if not module.ispkg:
            importlib.import_module(module.name)
        elif module.name != "tasks.pruning.core":
            importlib.import_module(f"{module.name}.method")
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        entry.load()


def methods() -> dict[str, type[Method]]:
    """All methods, in alphabetical order."""
    _discover()
    return dict(sorted(_registered.items()))


def get(name: str) -> type[Method]:
    """Look a method up.

    Raises:
        KeyError: with the nearest name, for one that does not exist.
    """
    known = methods()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no method {name!r}: there are {', '.join(known)}{hint}")
    return known[name]
