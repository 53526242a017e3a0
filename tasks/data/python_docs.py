"""The Python Language Reference as a corpus: ``pydoc_data.topics``, which every CPython carries.

A topic belongs to the part that its name's hash says, so that the parts stay the same where a
Python version adds a topic. The texts differ between versions: figures of two versions compare only
where their corpus digests agree.
"""

from __future__ import annotations

import hashlib
import platform
from typing import Any, Literal


def read_python_docs(
    part: Literal["calibration", "heldout"],
) -> tuple[str, list[str], dict[str, Any]]:
    """Description, topics in alphabetical order, and facts of one part.

    The parts are disjoint, make up all topics, and each holds about half of the characters.
    """
    from pydoc_data.topics import topics

    names = [name for name in sorted(topics) if _part_of(name) == part]
    version = platform.python_version()
    facts = {"part": part, "python": version}
    return f"Python {version} language reference, {part} part", [topics[n] for n in names], facts


def _part_of(topic: str) -> str:
    odd = hashlib.sha256(topic.encode("utf-8")).digest()[0] & 1
    return "heldout" if odd else "calibration"
