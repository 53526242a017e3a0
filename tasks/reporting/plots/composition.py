"""What chosen windows consist of: a bar for each way to choose them, a part for each source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch

from tasks.reporting.charts.style import PARTS
from tasks.reporting.plots.paper import WIDTH, place_legend
from tasks.reporting.text import one_line

Compositions = Mapping[str, Mapping[str, int]]
"""How windows were chosen → source → how many of them are of it."""
_INSIDE = 8.0
"""Per cent from which a part has room for its number."""


def draw_composition(field: str, compositions: Compositions) -> Drawn:
    """Shares of the windows in per cent, with counts in them; the first way at the top.

    Args:
        field: ``calibration`` or ``training``, for the title.
    """
    sources = list(dict.fromkeys(name for counts in compositions.values() for name in counts))
    wholes = [sum(counts.values()) for counts in compositions.values()]
    height = 0.9 + 0.28 * len(compositions)
    drawn = Drawn(figsize=(WIDTH, height), layout="constrained")
    axes = drawn.subplots()
    handles: list[Patch] = []
    left = [0.0] * len(compositions)
    for rank, source in enumerate(sources):
        counts = [mine.get(source, 0) for mine in compositions.values()]
        shares = [100 * count / whole for count, whole in zip(counts, wholes, strict=True)]
        look: dict[str, Any] = {
            "facecolor": PARTS[rank % len(PARTS)],
            "edgecolor": "white",
            "hatch": "///" * (rank // len(PARTS)),  # where colours begin again
        }
        bars = axes.barh(range(len(counts)), shares, left=left, **look)
        texts = [str(c) if s >= _INSIDE else "" for c, s in zip(counts, shares, strict=True)]
        axes.bar_label(bars, texts, label_type="center", color="white")
        handles.append(Patch(label=one_line(source, 28), **look))
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.set_yticks(range(len(compositions)), [one_line(name, 24) for name in compositions])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("windows (%)")
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{field}: windows by source", loc="left")
    place_legend(drawn, handles)
    return drawn
