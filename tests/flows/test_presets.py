"""``secateur plan`` of every preset: with its own methods, options and targets."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from configs import yaml_file as loading
from flows.commands.plan import show_plan
from tasks.pruning.core.registry import parse_target

LOCAL = [
    # The hub's models and text cannot be had in a test; everything else is as in the file.
    "models=[tiny-random]",
    "calibration.corpus={source: python-docs}",
    "calibration.sequence_length=64",
    "calibration.samples=4",
    "training={sequence_length: 128}",
    "evaluation.perplexity=[{name: docs, windows: 2, sequence_length: 64}]",
]


@pytest.mark.parametrize("name", list(loading.presets()))
def test_every_preset_can_be_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    config = loading.load(name, LOCAL)
    console = Console(width=200, record=True)
    show_plan(config, console)
    text = console.export_text()
    possible = [
        (entry, target)
        for entry in config.entries
        for target in config.targets
        if config.method(entry).refuses(parse_target(target)) is None
    ]
    each = len(config.models) * len(config.seeds) * max(1, len(config.selections))
    assert f"{len(possible) * each} cells" in text
    for entry, target in possible:
        assert any(entry in line and target in line for line in text.splitlines()), (entry, target)
    assert "0 cached" in text


def test_the_mission_methods_stand_side_by_side_in_the_quickstart() -> None:
    config = loading.load("quickstart")
    assert {"swiftprune", "policy_gradient", "ast"} <= set(config.methods)


@pytest.mark.parametrize("method", ["swiftprune", "policy_gradient", "ast"])
def test_a_papers_preset_does_what_the_paper_says(method: str) -> None:
    """An option whose default departs from the paper has the paper's value there."""
    config = loading.load(f"paper-{method.replace('_', '-')}")
    assert config.method(method).departs == ""
