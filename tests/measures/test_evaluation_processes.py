"""Several processes: the same figures, clear failures, no orphans. Real processes, gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structured
import tiny
import torch
from safetensors.torch import load_file

from configs.errors import ConfigurationError
from tasks.measures.perplexity import measure as perplexity_measure
from tasks.measures.perplexity import run
from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.run import evaluate_windows
from tasks.measures.tuning import steps as tuning_steps
from tasks.measures.zero_shot import measure as zero_shot_measure
from tasks.measures.zero_shot import rank
from tasks.models import resident
from tasks.models.sources.random_model import write
from tasks.processes.call import CallError
from tasks.store.context import Context
from tasks.store.store import Store

CPU = torch.device("cpu")
TESTS = Path(__file__).parents[1]
LONG = 100_000
"""Windows that take minutes."""
RUN = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from pathlib import Path
from measures import test_evaluation_processes as test
folder = Path(sys.argv[1])
test.evaluated(folder, test.LONG, 2, progress=lambda done, total: print(done, flush=True))
"""


def evaluated(tmp_path: Path, windows: int, processes: int, **options: Any) -> Any:
    return evaluate_windows(
        tmp_path / "model",
        tiny.tokens(windows, 16),
        scratch=tmp_path / "scratch",
        device=CPU,
        processes=processes,
        **options,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a model lies in ``model``."""
    write(tmp_path / "model")
    return tmp_path


def workers(folder: Path) -> dict[int, int]:
    """Rank → process id of the workers that live on a folder."""
    found, scratch = {}, str(folder / "scratch").encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            if b"tasks.measures.perplexity.ranks:measure_rank" in command and scratch in command:
                environment = (path / "environ").read_bytes().split(b"\0")
                rank = next(e for e in environment if e.startswith(b"RANK="))
                found[int(rank[5:])] = int(path.name)
        except (OSError, StopIteration):
            continue
    return found


def no_worker_left(folder: Path, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while workers(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not workers(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("windows", "processes", "batch_size"), [(7, 2, 3), (8, 3, 1), (3, 3, 8)])
def test_same_figures_as_one_process(
    folder: Path, windows: int, processes: int, batch_size: int
) -> None:
    """Also the reference that they write and the one that they read."""
    pruned = folder / "model"
    steps: list[tuple[int, int]] = []
    one = evaluated(folder, windows, 1, write_reference=folder / "one")
    several = evaluated(
        folder,
        windows,
        processes,
        batch_size=batch_size,
        write_reference=folder / "several",
        reference=Reference(folder / "one", pruned),
        progress=lambda *step: steps.append(step),
    )
    assert several.perplexity == pytest.approx(one.perplexity, rel=1e-6)
    assert several.tokens == one.tokens
    assert several.kl == pytest.approx(0, abs=1e-7)
    assert several.top1_agreement == 1.0
    assert len(several.peak_memory_bytes) == processes
    assert min(several.peak_memory_bytes) > 10e6
    assert steps[-1] == (windows, windows)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    hidden = [
        load_file(folder / name / "hidden.safetensors")["hidden"] for name in ("one", "several")
    ]
    assert torch.allclose(*hidden, atol=1e-5)
    again = evaluated(folder, windows, 1, reference=Reference(folder / "several", pruned))
    assert again.kl == pytest.approx(0, abs=1e-7)
    assert not workers(folder)


@pytest.mark.slow
def test_agreement_of_another_model_is_that_of_one_process(tmp_path: Path) -> None:
    """A model with untied embeddings, in bfloat16."""
    dense = structured.model_of("llama").bfloat16()
    other = structured.masked(dense, structured.random_kept(dense, 0))
    for model, name in ((dense, "dense"), (other, "model")):
        model.generation_config = type(model.generation_config)()
        model.save_pretrained(tmp_path / name)
    ids_NL = tiny.tokens(5, 16)
    evaluate_windows(
        tmp_path / "dense", ids_NL, scratch=tmp_path, device=CPU, write_reference=tmp_path / "kept"
    )
    reference = Reference(tmp_path / "kept", tmp_path / "dense")
    one, two = (evaluated(tmp_path, 5, n, batch_size=1, reference=reference) for n in (1, 2))
    assert one.kl > 0.01
    assert two.kl == pytest.approx(one.kl, rel=1e-5)
    assert two.top1_agreement == one.top1_agreement < 1
    assert two.perplexity == pytest.approx(one.perplexity, rel=1e-5)


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_others_end(folder: Path) -> None:
    def kill(done: int, total: int) -> None:
        del done, total
        if pid := workers(folder).get(1):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(CallError, match="evaluation process 1 of 2 was ended by SIGKILL"):
        evaluated(folder, LONG, 2, progress=kill)
    assert not workers(folder)


@pytest.mark.slow
def test_a_ranks_error_comes_with_its_traceback(folder: Path) -> None:
    (folder / "model" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CallError) as raised:
        evaluated(folder, 4, 2)
    message = str(raised.value)
    assert message.startswith("evaluation process ")
    assert " of 2 failed:\nTraceback" in message
    assert "load_pruned" in message
    assert not workers(folder)


@pytest.mark.slow
def test_ranks_die_with_a_parent_that_is_killed(folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().strip().isdigit()
    assert len(workers(folder)) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert no_worker_left(folder)


@pytest.mark.slow
def test_nan_is_the_same_error_as_in_one_process(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder / "model")
    for processes in (1, 2):
        with pytest.raises(FloatingPointError, match="NaN"):
            evaluated(folder, 4, processes)


def test_more_processes_than_windows(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        evaluated(folder, 2, 3)
    assert str(raised.value) == (
        "evaluation.processes: 3 is not possible; "
        "at most one process a window is, and there are 2 windows"
    )


def test_more_processes_than_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigurationError, match="there are 2 GPUs"):
        evaluate_windows(
            folder / "model",
            tiny.tokens(),
            scratch=folder,
            device=torch.device("cuda", 0),
            processes=3,
        )


def test_what_one_process_alone_can_do(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="device_map auto uses one process"):
        evaluated(folder, 4, 2, device_map="auto")
    with pytest.raises(TypeError, match="from its folder"):
        evaluate_windows(tiny.llama(), tiny.tokens(), scratch=folder, device=CPU, processes=2)


class ReachedError(Exception):
    """What is called instead of other processes."""


@pytest.mark.parametrize("measure", ["perplexity", "zero_shot", "tuning"])
@pytest.mark.parametrize("processes", [1, 2])
def test_models_leave_the_gpu_before_other_processes_take_it(
    measure: str, processes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released: list[str] = []
    context = Context(Store(tmp_path))
    for role in ("dense model", "pruned model", "placed model", "windows"):
        context.loaded.get(role, None, object, lambda role=role: released.append(role))
    monkeypatch.setattr(resident, "best_device", lambda: torch.device("cuda"))

    def reached(*_: Any, **__: Any) -> None:
        raise ReachedError

    for module, name in (
        (run, "evaluate_windows"),
        (rank, "zero_shot_in_processes"),
        (zero_shot_measure, "network"),
        (tuning_steps, "best_device"),
    ):
        monkeypatch.setattr(module, name, reached)
    monkeypatch.setattr(perplexity_measure, "network", lambda *_: None)
    monkeypatch.setattr(perplexity_measure, "load_tokens", lambda _: tiny.tokens(4, 16))
    monkeypatch.setattr(tuning_steps, "training_folder", lambda *_: tmp_path)
    evaluation = SimpleNamespace(
        processes=processes,
        device_map="none",
        max_memory={},
        batch_size=1,
        zero_shot=SimpleNamespace(limit=4, num_fewshot=0),
    )
    subject: Any = SimpleNamespace(evaluation=evaluation, dtype="float32", dense=None)
    artifact = SimpleNamespace(path=tmp_path, facts={})
    step = SimpleNamespace(needs={}, inputs={"keeps_states": False})
    work: Any = SimpleNamespace(
        context=context, need=lambda _: artifact, step=step, out=tmp_path / "out", progress=None
    )
    anything: Any = None
    with pytest.raises(ReachedError):
        if measure == "perplexity":
            perplexity_measure._produce(work, subject)
        elif measure == "zero_shot":
            zero_shot_measure._produce(work, subject, anything)
        else:
            tuning_steps._learn_(work, anything, anything, False, processes)
    assert sorted(released) == (
        ["dense model", "placed model", "pruned model"] if processes > 1 else []
    )
