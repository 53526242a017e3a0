"""How methods look: one colour, mark and line each, in every plot of every sweep.

Colours are Okabe and Ito's, which people with any colour vision tell apart ("Color Universal
Design", 2008); marks and lines tell methods apart in grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

DENSE_COLOUR = "#000000"
DENSE_DASHES = (4.4, 1.4)
"""Longer than any method's; three fit a legend's handle."""
FAINT = "#B0B0B0"
PARTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Parts of a whole, such as sources, from the first one on."""
_PALE = 0.62


class MethodStyle(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    """As matplotlib calls it."""
    dashes: tuple[float, ...]
    """Lengths on and off, in widths of the line; empty for a solid one."""

    @property
    def pale(self) -> str:
        """The colour towards white, for cells that another beats."""
        parts = (int(self.colour[place : place + 2], 16) for place in (1, 3, 5))
        return "#" + "".join(f"{round(part + _PALE * (255 - part)):02X}" for part in parts)


_METHODS = {
    "magnitude": MethodStyle("#E69F00", "o", ()),
    "wanda": MethodStyle("#0072B2", "s", (2.2, 0.9)),
    "sparsegpt": MethodStyle("#009E73", "D", (4, 1, 1, 1)),
    "swiftprune": MethodStyle("#D55E00", "^", ()),
    "sketched_obs": MethodStyle("#882255", ">", (2.2, 0.9)),
    "full_obs": MethodStyle("#117733", "d", (6, 1, 1, 1)),
    "wanda_sp": MethodStyle("#332288", "X", (1, 1)),
    "flip_gradient": MethodStyle("#44AA99", "<", (4, 1, 1, 1)),
    "policy_gradient": MethodStyle("#CC79A7", "v", (6, 1, 1, 1)),
    "ast": MethodStyle("#56B4E9", "P", (4, 1, 1, 1, 1, 1)),
}
_SPARE = (
    MethodStyle("#AA4499", "p", (2.2, 0.9)),
    MethodStyle("#999933", "h", ()),
    MethodStyle("#666666", "8", (1, 1)),
    MethodStyle("#DDCC77", "d", (6, 1, 1, 1)),
)
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "X": "x",
    "v": "triangle-down", "P": "cross", "p": "pentagon", "h": "hexagon", "8": "octagon",
    "d": "diamond-tall", "*": "star", "<": "triangle-left", ">": "triangle-right",
}  # fmt: skip
"""matplotlib's marks as plotly calls them."""


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Colour, mark and line of each method.

    A method that this module knows has its own. Another takes a spare one that its name chooses,
    the next one where two names choose the same, so that plots of one sweep always agree.
    """
    styles = dict(_METHODS)
    taken: set[int] = set()
    for name in sorted(set(names) - _METHODS.keys()):
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(_SPARE)
        while place in taken and len(taken) < len(_SPARE):
            place = (place + 1) % len(_SPARE)
        taken.add(place)
        styles[name] = _SPARE[place]
    return styles
