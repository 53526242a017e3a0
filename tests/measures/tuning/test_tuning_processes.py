"""Several processes tune as one does: the same losses, zeros and weights. Real processes, gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import encoders
from support.tuning import COLUMNS, examples

from configs.trust import Trust
from tasks.measures.slot_filling.steps import SlotLoss
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.objectives import Objective, OneLabel
from tasks.measures.tuning.ranks import tune_in_processes_
from tasks.measures.tuning.sharing import Lesson, Recipe
from tasks.measures.tuning.training import fine_tune_, logits_of, zeros_of
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model
from tasks.processes.call import CallError
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import parse_target
from tasks.training.checkpoints import Checkpoints
from tasks.training.engine import AccelerateEngine, accelerator_for

CPU = torch.device("cpu")
DATA = examples(17)
"""In batches of eight: of the last, two processes share one example."""
RECIPE = Recipe(epochs=3, learning_rate=1e-3, batch_size=8, warmup=0.1, seed=0)
STEPS = 9
Progress = Callable[[int, int], None]


def pruned(folder: Path, kind: str = "Bert") -> TaskNetwork:
    """With dropout as its family has it."""
    if not folder.exists():
        encoders.write(folder, kind)
    model = load_model(folder, torch.float32, CPU, Trust())
    for layer in describe(model).layers().values():
        layer.whole.masked_fill_(lowest(layer.whole.abs(), parse_target("2:4")), 0.0)
    return TaskNetwork(model, COLUMNS, "last", torch.Generator().manual_seed(0))


def tuned(
    network: TaskNetwork,
    processes: int,
    scratch: Path,
    *,
    objective: Objective | None = None,
    progress: Progress = lambda done, total: None,
) -> list[dict[str, float]]:
    lesson = Lesson(encoded=DATA, objective=objective or OneLabel(), recipe=RECIPE, padding=0)
    if processes > 1:
        history, memory = tune_in_processes_(
            network, lesson, holds=True, processes=processes, device=CPU, trust=Trust(),
            scratch=scratch, progress=progress, checkpoint_seconds=0,
        )  # fmt: skip
        assert memory > 10e6
        return history
    with accelerator_for(CPU, torch.float32) as accelerator:
        engine = AccelerateEngine(accelerator, Checkpoints(scratch, 0))
        held = zeros_of(network.model)
        return fine_tune_(network, lesson, held, engine=engine, progress=progress)


def require_same(several: TaskNetwork, one: TaskNetwork, folder: Path) -> None:
    """Weights and logits; and of the weights that were zero none has moved."""
    named = dict(one.named_parameters())
    for name, weight in several.named_parameters():
        torch.testing.assert_close(weight, named[name], rtol=1e-3, atol=1e-5, msg=name)
    zeros = zeros_of(pruned(folder).model)
    weights = dict(several.model.named_parameters())
    assert zeros
    for name, zero in zeros.items():
        assert torch.equal(weights[name] == 0, zero), name
    logits = [logits_of(network, DATA, 4, padding=0) for network in (several, one)]
    assert torch.equal(logits[0].argmax(1), logits[1].argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "processes", "objective"),
    [
        ("Bert", 2, OneLabel()),
        ("DebertaV2", 2, SlotLoss(negative_weight=0.1, mask_other_events=False)),
        ("DistilBert", 3, SlotLoss(negative_weight=0.1, mask_other_events=True)),
    ],
)
def test_several_processes_end_where_one_does(
    kind: str, processes: int, objective: Objective, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    one, several = pruned(tmp_path / "model", kind), pruned(tmp_path / "model")
    alone = tuned(one, 1, tmp_path / "one", objective=objective)
    together = tuned(
        several, processes, tmp_path / "several", objective=objective,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert [entry["step"] for entry in together] == [1, 2, 3]
    losses = [[entry["loss"] for entry in history] for history in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    require_same(several, one, tmp_path / "model")
    assert steps[-1] == (STEPS, STEPS)


class Killed(Exception):  # noqa: N818 (a signal, not an error)
    pass


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2), (2, 2)])
def test_a_killed_tuning_goes_on_with_as_many_as_there_are(
    first: int, then: int, tmp_path: Path
) -> None:
    def kill(done: int, total: int) -> None:
        if done > total / 3:
            raise Killed

    def listen(done: int, total: int) -> None:
        del total
        steps.append(done)

    steps: list[int] = []
    one = pruned(tmp_path / "model")
    whole = tuned(one, 1, tmp_path / "one")
    with pytest.raises(Killed):
        tuned(pruned(tmp_path / "model"), first, tmp_path / "killed", progress=kill)
    # How far a killed process came is no matter, but that it came to no end.
    left = {path.name for path in (tmp_path / "killed").glob("step-*")}
    assert left and "step-000000003" not in left
    again = pruned(tmp_path / "model")
    history = tuned(again, then, tmp_path / "killed", progress=listen)
    assert steps[0] > STEPS / 3, "it begins behind the first epoch"
    assert steps[-1] == STEPS
    assert [e["loss"] for e in history] == pytest.approx([e["loss"] for e in whole], rel=1e-5)
    require_same(again, one, tmp_path / "model")


@pytest.mark.slow
def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    network = pruned(tmp_path / "model")
    objective: Any = SlotLoss(negative_weight=float("nan"), mask_other_events=True)
    with pytest.raises(CallError, match=r"tuning process \d of 2 failed") as raised:
        tuned(network, 2, tmp_path / "scratch", objective=objective)
    assert "FloatingPointError: epoch 1: the loss is nan" in str(raised.value)
