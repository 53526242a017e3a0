"""Reports say which methods learned, what, and from how many tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tasks.reporting.console import results_artifact, results_table
from tasks.reporting.markdown_results import results_markdown
from tasks.reporting.plots import write_plots
from tasks.reporting.rows import Row
from tasks.reporting.text import format_count
from tasks.reporting.views import learning, points


def row(method: str, target: str, perplexity: float, **more: Any) -> Row:
    return {
        "model": "m", "method": method, "target": target, "seed": 0, "status": "completed",
        "sparsity": 0.5, "perplexity/docs": perplexity, "dense_perplexity/docs": 10.0,
        "prune_seconds": 1.0, "calibration_seconds": 1.0, "learned": "", "training_tokens": 0,
    } | more  # fmt: skip


ROWS = [
    row("dense", "", 10.0, sparsity=0.0),
    row("wanda", "2:4", 30.0),
    row("ast", "2:4", 15.0, learned="weights", training_tokens=51_200),
    row("policy_gradient", "0.2", 40.0, learned="mask", training_tokens=3_000_000, sparsity=0.2),
]


@pytest.mark.parametrize(
    ("value", "text"), [(512, "512"), (51_200, "51.2k"), (3e6, "3M"), (5.24e9, "5.24G"), (0, "0")]
)
def test_counts_are_short(value: float, text: str) -> None:
    assert format_count(value) == text


def test_only_methods_that_learned_say_so() -> None:
    assert [learning(r) for r in ROWS] == ["", "", "weights, 51.2k tokens", "mask, 3M tokens"]
    assert [p.learned for p in points(ROWS, "m", "docs")] == [learning(r) for r in ROWS[1:]]


def test_tables_have_the_column_only_when_a_method_learned() -> None:
    console = Console(width=120, record=True)
    console.print(results_table(ROWS, 120))
    text = console.export_text()
    assert "learned" in text and "weights, 51.2k" in text and "mask, 3M" in text
    assert "weights, 51.2k tokens" in results_markdown(ROWS)
    assert "the whole model was retrained" in results_markdown(ROWS)
    assert results_artifact(ROWS)[2]["learned"] == "weights, 51.2k tokens"
    assert "learned" not in results_markdown(ROWS[:2])
    plain = Console(width=120, record=True)
    plain.print(results_table(ROWS[:2], 120))
    assert "learned" not in plain.export_text()


def test_legends_name_what_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    from matplotlib.figure import Figure

    original = Figure.legend

    def noted(self: Figure, *args: Any, **keywords: Any) -> Any:
        labels.extend(handle.get_label() for handle in keywords["handles"])
        return original(self, *args, **keywords)

    monkeypatch.setattr(Figure, "legend", noted)
    assert len(write_plots(ROWS, tmp_path)) == 2
    assert "ast: learned\nweights, 51.2k tokens" in labels
    assert "wanda" in labels


def test_legends_stay_inside_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.reporting import plots
    from tasks.reporting.style import save

    widths: list[tuple[float, float, float]] = []

    def measured(figure: Any, path: Path) -> Path:
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        widths.append((box.x0, box.x1, figure.bbox.width))
        return save(figure, path)

    monkeypatch.setattr(plots, "save", measured)
    long = row("a-variant-with-a-rather-long-name", "2:4", 20.0, learned="weights",
               training_tokens=123_456_789)  # fmt: skip
    more = [row(name, "0.2", 20.0) for name in ("magnitude", "swiftprune", "sparsegpt")]
    for rows in (ROWS, [*ROWS, long, *more]):
        plots.write_plots(rows, tmp_path)
    assert len(widths) == 4
    assert all(left >= 0 and right <= width for left, right, width in widths)
