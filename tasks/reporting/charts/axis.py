"""Axes: a scale that fits the values, limits, and ticks that are plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tasks.measures.figures import Figure
from tasks.reporting.text import DIVERGED

LOG_SPREAD = 20
"""Values that differ by more than this factor stand on a logarithmic axis."""
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        low, high: its limits, strip for diverged cells included.
        ticks: (place, text).
        edge: where the mark of a diverged cell stands.
        strip: where the strip for them begins; None where no cell diverged.
    """

    label: str
    log: bool = False
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    edge: float = math.inf
    strip: float | None = None


def is_log(figure: Figure, values: Sequence[float]) -> bool:
    """Whether the figure, or else the spread of ``values``, asks for a logarithmic axis."""
    if figure.axis != "auto":
        return figure.axis == "log"
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > LOG_SPREAD


def value_axis(
    label: str, values: Sequence[float], *, log: bool = False, most: int = 8, gap: float = 0.07
) -> Axis:
    """An axis with room around ``values``; with one that is not finite it has a strip above.

    A linear one begins at zero where the values come near it.

    Args:
        most: ticks.
        gap: least distance of two ticks of a logarithmic axis, as a part of the axis.
    """
    scale = math.log10 if log else float
    back = (lambda place: 10.0**place) if log else float
    finite = [scale(value) for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = 0.06 * (high - low) or (0.03 if log else 0.07 * (abs(high) or 1.0))
    bottom, top = low - room, high + room
    if not log and (0 <= low < 0.5 * high or low == high > 0):
        bottom = 0.0
    limits = back(bottom), back(top)
    ticks = log_ticks(*limits, most, gap) if log else linear_ticks(*limits, most - 2)
    told = [(tick, plain_number(tick)) for tick in ticks]
    label = log_label(label) if log else label
    edge = back(top + room)
    if all(map(math.isfinite, values)):
        return Axis(label=label, log=log, low=limits[0], high=limits[1], ticks=told, edge=edge)
    ends = {"low": limits[0], "high": back(top + 2 * room), "strip": limits[1], "edge": edge}
    return Axis(label=label, log=log, ticks=[*told, (edge, DIVERGED)], **ends)


def log_label(label: str) -> str:
    """A label that says that its axis is logarithmic, within the unit's brackets if it has any."""
    return f"{label[:-1]}, log)" if label.endswith(")") else f"{label} (log)"


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if s * power * most >= high - low)
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [float(f"{place * step:.12g}") for place in places]


def log_ticks(low: float, high: float, most: int = 8, gap: float = 0.07) -> list[float]:
    """Round numbers within [low, high] for a log axis: as many as fit, ``most`` at the most."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    length = math.log10(high / low)
    for digits in (range(100, 1000, 5), range(100, 1000, 10), range(100, 1000, 20),
                   range(100, 1000, 50), (100, 150, 200, 300, 400, 500, 700),
                   (100, 200, 300, 500), (100, 200, 500), (100, 300), (100,)):  # fmt: skip
        ticks = [d * 10.0 ** (k - 2) for k in decades for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        gaps = [math.log10(b / a) / length for a, b in pairwise(ticks)]
        if len(ticks) <= most and min(gaps, default=1.0) >= gap:
            return ticks
    whole = [10.0**k for k in decades if low <= 10.0**k <= high]
    return whole[:: math.ceil(len(whole) / most)]


def plain_number(value: float) -> str:
    """30, 1,000, 0.5; powers of ten from a million on."""
    if value < 1e6:
        return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"
    power = math.floor(math.log10(value) + 1e-9)
    digit, raised = value / 10.0**power, f"10{str(power).translate(_POWERS)}"
    return raised if abs(digit - 1) < 1e-6 else f"{digit:.3g}×{raised}"
