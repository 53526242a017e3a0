"""Training in this process, through Accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from configs.schema import SweepConfig
from tasks.compression.statistics import VERSION
from tasks.models.architecture.head import split_head
from tasks.plan.sweep import plan_sweep
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.retraining import LocalEngine
from tasks.pruning.core.targets import SemiStructured
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.training.engine import accelerator_for
from tasks.training.run import retrain

METHOD = AdaptiveSparseTrainer(steps=4, batch=2, learning_rate=1e-3, mask_interval=2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_is_what_the_plain_engine_computes(dtype: torch.dtype, tmp_path: Path) -> None:
    """In both dtypes, one after the other: Accelerate's settings do not outlive a run."""
    decoder = tiny.decoder("llama")
    decoder.model.to(dtype)
    steps: list[tuple[int, int]] = []
    result = retrain(
        decoder.model,  # type: ignore[arg-type]
        decoder,
        METHOD,
        SemiStructured(2, 4),
        tiny.tokens(6, 24),
        seed=0,
        processes=1,
        scratch=tmp_path,
        progress=lambda *step: steps.append(step),
    )
    plain = METHOD.retrain(
        decoder,
        SemiStructured(2, 4),
        tiny.tokens(6, 24),
        seed=0,
        engine=LocalEngine(decoder.model),
        split=split_head,
    )
    assert all(torch.equal(weight, plain.weights[name]) for name, weight in result.weights.items())
    assert steps == [(step, 4) for step in range(1, 5)]


def test_an_artifact_is_of_its_starts_method_options_and_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    asked = {"name": "s", "models": ["tiny-random"], "methods": ["ast"], "targets": ["2:4"]}

    def inputs(start: str) -> Mapping[str, Any]:
        config = SweepConfig(**asked, options={"ast": {"start": start}})
        return plan_sweep(config, dtype="float32").cells[0].checkpoint.inputs

    assert "start" not in inputs("dense")
    sketched, full = inputs("sketched_obs")["start"], inputs("full_obs")["start"]
    assert sketched.items() >= asdict(SketchedOBS()).items()
    assert full.items() >= {"method": "full_obs", "version": FullOBS.version}.items()
    assert (sketched["statistics_version"], "statistics_version" in full) == (VERSION, False)
    monkeypatch.setattr(FullOBS, "version", FullOBS.version + 1)
    assert inputs("full_obs")["start"] != full


def test_precision_follows_the_model() -> None:
    matrix = torch.ones(2, 2)
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        with accelerator_for(torch.device("cpu"), dtype) as accelerator, accelerator.autocast():
            wanted = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
            assert (matrix @ matrix).dtype == wanted
