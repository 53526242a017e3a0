"""Whose code makes an artifact: another package's is part of what determines it."""

from __future__ import annotations

import hashlib
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

_OURS = __name__.partition(".")[0]
_OWN = {_OURS, "flows", "configs", "__main__", "__mp_main__"}
"""What has versions of its own, raised when results change; and scripts, which are no package."""


def foreign_code(made_by: Any) -> str:
    """SHA-256 of all Python of the package that a class or function is from; empty for our own.

    An installed method or measure has a ``version``, which its author may forget to raise.
    """
    while isinstance(made_by, partial):
        made_by = made_by.func
    package = str(getattr(made_by, "__module__", "") or "").partition(".")[0]
    return "" if not package or package in _OWN else _digest(package)


def code_input(made_by: Any) -> dict[str, str]:
    """:func:`foreign_code` as an input of a step; none for our own."""
    code = foreign_code(made_by)
    return {"code": code} if code else {}


@cache
def _digest(package: str) -> str:
    """As it was when it was first asked for: what changes later is not imported again."""
    module = sys.modules.get(package)
    roots = [Path(place) for place in getattr(module, "__path__", ())]
    found = [
        (path.relative_to(root), path)
        for root in roots
        for path in root.rglob("*.py")
        if path.is_file()  # an editor's lock is a link to nothing
    ]
    alone = getattr(module, "__file__", None)
    if not roots and alone and Path(alone).is_file():
        found = [(Path(Path(alone).name), Path(alone))]
    whole = hashlib.sha256()
    for name, path in sorted(found):
        content = path.read_bytes()
        whole.update(f"{name.as_posix()} {len(content)}\n".encode() + content)
    return whole.hexdigest()
