"""Text that calibration or training reads and a measure sees again is found by its tokens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.yaml_file import validate
from tasks.plan.shared_text import RUN, run_hashes, shared_text
from tasks.steps.session import session


def prose(seed: int, characters: int) -> str:
    draw = random.Random(seed)
    return "".join(draw.choices("abcdefghij klmnopqrst", k=characters))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / f"{name}.txt").write_text(prose(seed, 2000))
    (tmp_path / "quotes.txt").write_text(prose(4, 700) + prose(1, 80) + prose(5, 1000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))


def files(*names: str) -> dict[str, Any]:
    return {"source": "files", "files": [f"{name}.txt" for name in names]}


def notes(measured: dict[str, Any], method: str = "wanda", **changes: Any) -> list[str]:
    """Of a sweep that calibrates on the first 1024 bytes of ``a``: a token is a byte."""
    config = validate(
        {
            "name": "texts",
            "models": ["tiny-random"],
            "dtype": "float32",
            "calibration": {"corpus": files("a"), "samples": 4, "sequence_length": 256},
            "training": {"corpus": files("c"), "samples": 4, "sequence_length": 256},
            "methods": [method],
            "targets": ["0.5"],
            "evaluation": {
                "perplexity": [{"name": "t", "corpus": measured, "sequence_length": 128,
                                "windows": 12}],
            },
            **changes,
        }
    )  # fmt: skip
    plan = session().checked_plan(config)
    found = shared_text(plan, session().context(plan.config))
    for step in plan.windows(plan.models[0]):
        session().context(plan.config).make(step.step)
    assert shared_text(plan, session().context(plan.config)) == found  # once they are stored
    return [note.partition(", so the figure")[0] for note in found]


def said(windows: int, use: str) -> list[str]:
    return [
        f"perplexity t: {windows} of 12 windows share 50 tokens or more in a row with what {use} "
        "reads"
    ]


def test_windows_that_share_text_are_counted() -> None:
    assert notes(files("a", "b")) == said(8, "calibration")
    assert notes(files("b", "a")) == []  # the windows end before it
    assert notes(files("quotes")) == said(1, "calibration")
    assert notes(files("b")) == []
    assert notes(files("a")) == [], "the plan itself says that"


def test_only_what_a_cell_reads_counts() -> None:
    assert notes(files("c", "b"), "policy_gradient") == said(8, "training")
    assert notes(files("c", "b"), "wanda") == []
    assert notes(files("a", "b"), "magnitude") == []
    assert notes(files("a", "b"), "sketched_obs", options={"sketched_obs": {"tokens": 256}}) == (
        said(2, "calibration")
    )


def test_windows_of_every_seed_count() -> None:
    calibration = {"corpus": files("a", "b"), "samples": 1, "sequence_length": 128,
                   "sampling": "random"}  # fmt: skip
    test = files("a", "c")
    alone = notes(test, calibration=calibration, seeds=[0])
    together = notes(test, calibration=calibration, seeds=[*range(12)])
    assert len(together) == 1
    assert together != alone


def test_hashes_are_equal_where_runs_are() -> None:
    windows_NL = torch.randint(0, 3, (40, RUN + 3), generator=torch.Generator().manual_seed(0))
    windows_NL[20:, 2 : 2 + RUN] = windows_NL[:20, 1 : 1 + RUN]
    runs_NRT = windows_NL.unfold(1, RUN, 1)
    assert runs_NRT.shape[:2] == run_hashes(windows_NL).shape
    of_hash: dict[int, tuple[int, ...]] = {}
    runs = runs_NRT.flatten(0, 1).tolist()
    for number, run in zip(run_hashes(windows_NL.int()).flatten().tolist(), runs, strict=True):
        assert of_hash.setdefault(number, tuple(run)) == tuple(run)
    assert len(of_hash) == len(set(map(tuple, runs))) < len(runs)
    assert run_hashes(windows_NL[:, : RUN - 1]).shape == (40, 0)
