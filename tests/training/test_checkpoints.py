"""Checkpoints: a killed run ends as if it had not been, and a damaged file costs a few steps."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from tasks.models.architecture.head import split_head
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.retraining import LocalEngine, Snapshot
from tasks.pruning.core.targets import SemiStructured
from tasks.training.checkpoints import Checkpoints
from tasks.training.files import read_result
from tasks.training.run import CHECKPOINTS, retrain_here

METHOD = AdaptiveSparseTrainer(
    steps=30, batch=2, learning_rate=2e-3, mask_interval=4, slorb=True, slorb_group=8
)
TESTS = Path(__file__).parents[1]
RUN = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from pathlib import Path
from tasks.training.files import write_result
from training import test_checkpoints as test
def tell(done, total):
    print(done, flush=True)
folder = Path(sys.argv[1])
write_result(folder, test.train(folder, tell))
"""


def train(folder: Path, progress: object = None, method: object = METHOD) -> PruneResult:
    torch.set_num_threads(1)
    decoder = tiny.decoder("llama")
    return retrain_here(
        decoder.model,  # type: ignore[arg-type]
        decoder,
        method,  # type: ignore[arg-type]
        SemiStructured(2, 4),
        tiny.tokens(8, 24),
        seed=0,
        scratch=folder,
        progress=progress,  # type: ignore[arg-type]
        checkpoint_seconds=0,
    )


def same(first: PruneResult, second: PruneResult) -> bool:
    def equal(ones: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
        return ones.keys() == others.keys() and all(
            torch.equal(tensor, others[name]) for name, tensor in ones.items()
        )

    return (
        equal(first.weights, second.weights)
        and equal(first.branches, second.branches)
        and list(map(dict, first.history)) == list(map(dict, second.history))
    )


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> PruneResult:
    """The run that nothing interrupts."""
    threads = torch.get_num_threads()
    try:
        return train(tmp_path_factory.mktemp("calm"))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    calm: PruneResult, tmp_path: Path
) -> None:
    moments = random.Random(0)
    reached = 0
    for last in (moments.randrange(3, 9), moments.randrange(12, 20), None):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        steps = []
        for line in process.stdout:
            steps.append(int(line))
            if last is not None and steps[-1] >= last:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == (0 if last is None else -signal.SIGKILL)
        assert steps[0] > max(reached - 2, 0), "it began anew"
        reached = steps[-1]
    assert reached == METHOD.steps
    assert same(read_result(tmp_path), calm)


def partial(folder: Path, steps: int) -> None:
    """A run that stops after some steps, its checkpoints kept."""

    def stop(done: int, total: int) -> None:
        del total
        if done == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, stop)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no facts", "both truncated"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: str, calm: PruneResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partial(tmp_path, 9)
    folders = sorted((tmp_path / CHECKPOINTS).glob("step-*"))
    assert [folder.name for folder in folders] == ["step-000000008", "step-000000009"]
    for folder in folders if damage == "both truncated" else folders[1:]:
        path = folder / "state.safetensors"
        content = path.read_bytes()
        if damage == "no facts":
            (folder / "facts.json").write_text("{")
        elif damage == "flipped":
            middle = len(content) // 2
            flipped = bytes([content[middle] ^ 1])
            path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        else:
            path.write_bytes(content[: len(content) // 2])
    steps: list[int] = []
    with caplog.at_level(logging.WARNING):
        result = train(tmp_path, lambda done, _: steps.append(done))
    assert "step-000000009 is passed over" in caplog.text
    assert steps[0] == (1 if damage == "both truncated" else 9)
    assert same(result, calm)


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path: Path) -> None:
    partial(tmp_path, 5)
    steps: list[int] = []
    other = AdaptiveSparseTrainer(**(vars(METHOD) | {"learning_rate": 1e-3}))
    train(tmp_path, lambda done, _: steps.append(done), other)
    assert steps[0] == 1


def test_two_are_kept_and_no_half_written_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 0)
    (tmp_path / "writing-1").mkdir()
    for step in range(1, 5):
        assert checkpoints.due()
        checkpoints.write(step, Snapshot({"x": torch.full((3,), float(step))}, {"step": step}))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000000003", "step-000000004"]
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.facts == {"step": 4}
    assert latest.tensors["x"].tolist() == [4.0] * 3
    assert not Checkpoints(tmp_path, 60).due()


def test_checkpoints_change_nothing(calm: PruneResult) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        decoder = tiny.decoder("llama")
        plain = METHOD.retrain(
            decoder,
            SemiStructured(2, 4),
            tiny.tokens(8, 24),
            seed=0,
            engine=LocalEngine(decoder.model),
            split=split_head,
        )
    finally:
        torch.set_num_threads(threads)
    assert same(plain, calm)
