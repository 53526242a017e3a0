"""Several processes: the same result, clear failures, no orphans. Real processes, gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from support.cards import Cards, card

from tasks.processes.call import CallError
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.targets import SemiStructured
from tasks.training import launcher
from tasks.training.launcher import ALL_MEMORY, MOST_MEMORY
from tasks.training.run import retrain

METHOD = AdaptiveSparseTrainer(
    steps=12, batch=3, micro_batch=2, learning_rate=1e-3, mask_interval=3, slorb=True, slorb_group=8
)
ENDLESS = AdaptiveSparseTrainer(steps=1_000_000, batch=2)
TESTS = Path(__file__).parents[1]
RUN = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from pathlib import Path
from training import test_processes as test
test.train(test.ENDLESS, 2, Path(sys.argv[1]), lambda done, total: print(done, flush=True))
"""


def train(
    method: AdaptiveSparseTrainer,
    processes: int,
    folder: Path,
    progress: object = None,
    counted_NL: torch.Tensor | None = None,
    decoder: Decoder | None = None,
) -> PruneResult:
    decoder = decoder or tiny.decoder("llama")
    return retrain(
        decoder.model,  # type: ignore[arg-type]
        decoder,
        method,
        SemiStructured(2, 4),
        tiny.tokens(8, 24),
        counted_NL=counted_NL,
        seed=0,
        processes=processes,
        scratch=folder,
        progress=progress,  # type: ignore[arg-type]
    )


def test_the_model_leaves_its_gpu_for_the_first_rank(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decoder = tiny.decoder("llama")
    parameters = list(decoder.model.parameters())
    seen: list[set[torch.device]] = []

    def called(*_: object, **__: object) -> list[int]:
        seen.append({parameter.device for parameter in parameters})
        return [1, 2]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(launcher, "call", called)
    monkeypatch.setattr(launcher, "write_start", lambda *_: None)
    monkeypatch.setattr(launcher, "read_result", lambda _: PruneResult(weights={}, figures={}))
    with Cards():
        decoder.model.to(card(0))
        train(METHOD, 2, tmp_path, decoder=decoder)
        seen.append({parameter.device for parameter in parameters})
    assert seen == [{torch.device("cpu")}, {card(0)}]


def workers(folder: Path) -> dict[int, int]:
    """Rank → process id of the workers that live on a scratch folder."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            if b"tasks.training.worker:train_rank" in command and str(folder).encode() in command:
                environment = (path / "environ").read_bytes().split(b"\0")
                rank = next(e for e in environment if e.startswith(b"RANK="))
                found[int(rank[5:])] = int(path.name)
        except (OSError, StopIteration):
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counted", "start"), [(False, "dense"), (True, "dense"), (False, "full_obs")]
)
def test_two_processes_end_where_one_does(counted: bool, start: Any, tmp_path: Path) -> None:
    """Three windows over two ranks: they need not share a batch evenly."""
    steps: list[tuple[int, int]] = []
    # Of each window as many tokens as its number, and one.
    counted_NL = (torch.arange(24) - 1 <= torch.arange(8)[:, None]) if counted else None
    method = replace(METHOD, start=start)
    one = train(method, 1, tmp_path / "one", counted_NL=counted_NL)
    two = train(method, 2, tmp_path / "two", lambda *step: steps.append(step), counted_NL)
    assert one.weights.keys() == two.weights.keys()
    for name, weight in one.weights.items():
        assert (weight - two.weights[name]).norm() <= 1e-4 * weight.norm(), name
        assert torch.equal(weight.eq(0), two.weights[name].eq(0)), name
    for name, branch in one.branches.items():
        assert (branch - two.branches[name]).norm() <= 1e-4 * branch.norm(), name
    losses = [[entry["loss"] for entry in result.history] for result in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert two.weights["lm_head.weight"] is two.weights["model.embed_tokens.weight"]
    assert steps[-1] == (12, 12)
    most, all_ = two.figures[MOST_MEMORY], two.figures[ALL_MEMORY]
    assert 10e6 < most < all_ <= 2 * most
    assert not workers(tmp_path / "two")


@pytest.mark.slow
def test_a_killed_worker_is_named_and_the_others_end(tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        del total
        if done:
            os.kill(workers(tmp_path)[1], signal.SIGKILL)

    with pytest.raises(CallError, match="training process 1 of 2 was ended by SIGKILL"):
        train(ENDLESS, 2, tmp_path, kill)
    assert not workers(tmp_path)


@pytest.mark.slow
def test_a_workers_error_comes_with_its_traceback(tmp_path: Path) -> None:
    broken = AdaptiveSparseTrainer(batch=2, learning_rate=1e38)
    with pytest.raises(CallError) as raised:
        train(broken, 2, tmp_path)
    assert "of 2 failed:\nTraceback" in str(raised.value)
    assert "FloatingPointError: step 2: the gradients are not finite" in str(raised.value)
    assert not workers(tmp_path)


@pytest.mark.slow
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip().isdigit()
    assert len(workers(tmp_path)) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers(tmp_path)
