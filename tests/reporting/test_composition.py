"""Bars of sources: each whole is all of its windows."""

from __future__ import annotations

import pytest

from tasks.reporting.plots import composition, paper


def test_parts_fill_the_bar_and_say_how_many_windows_they_are() -> None:
    compositions = {
        "contiguous": {"docs": 30, "code": 10},
        "coreset, seed 0": {"code": 39, "docs": 1},
        "pool": {"docs": 100, "code": 100, "blimp": 50},
    }
    with paper.plain_style():
        drawn = composition.draw_composition("calibration", compositions)
        (axes,) = drawn.axes
        parts = [bar for group in axes.containers for bar in group]
        ends = {}
        for bar in parts:
            row = round(bar.get_y() + bar.get_height() / 2)
            ends[row] = max(ends.get(row, 0.0), bar.get_x() + bar.get_width())
        assert ends == pytest.approx({0: 100, 1: 100, 2: 100})
        texts = [text.get_text() for text in axes.texts]
        assert texts == ["30", "", "100", "10", "39", "100", "", "", "50"], "1 of 40 has no room"
        legend = [text.get_text() for text in drawn.legends[0].get_texts()]
        assert legend == ["docs", "code", "blimp"]
        assert axes.yaxis_inverted(), "in their order from the top"
