"""Text beside points of a plot, where it covers neither a point nor another text."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

_OFFSETS = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))
"""Directions from the point, the most readable first."""
_DISTANCE = 5.0
"""Points (1/72 inch) from the middle of a marker."""
_MARKER = 3.0
"""Points from the middle of a marker to its rim."""
_ALIGN_X = {1: "left", 0: "center", -1: "right"}
_ALIGN_Y = {1: "bottom", 0: "center", -1: "top"}


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[tuple[float, float], str]],
    points: Sequence[tuple[float, float]],
    *,
    leftwards: bool = False,
) -> list[str]:
    """Write each text beside its place, in the first direction that is free and inside the axes.

    Args:
        labels: ((x, y), text), the most important first.
        points: (x, y) of every marker.
        leftwards: prefer the left side to the right one.

    Returns:
        The texts written: one that finds no free direction is left out, rather than be
        unreadable.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue]
    rim = _MARKER * figure.dpi / 72
    taken = [
        Bbox([[x - rim, y - rim], [x + rim, y + rim]])
        for x, y in (axes.transData.transform(point) for point in points)
    ]
    written: list[str] = []
    for place, text in labels:
        for right, up in _OFFSETS:
            across = -right if leftwards else right
            note = axes.annotate(
                text,
                place,
                xytext=(across * _DISTANCE, up * _DISTANCE),
                textcoords="offset points",
                ha=_ALIGN_X[across],
                va=_ALIGN_Y[up],
                path_effects=[withStroke(linewidth=2.0, foreground="white")],
                zorder=4,
            )
            # Where the text stands must not move the axes.
            note.set_in_layout(False)
            box = note.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 + 2 * rim
            inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                written.append(text)
                break
            note.remove()
    return written
