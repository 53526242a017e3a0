"""Fine-tunes the network; what was pruned stays zero, bit by bit.

AdamW with warm-up, linear decay and clipped gradients. Without the warm-up a learning rate of 5e-4
is unstable: one seed of three fell from .88 to .57. Each epoch draws its order and its dropout from
its own number, so that a run which goes on after one ends with the same weights. Processes share
every batch: its gradient is the one that one process would have, up to the order of sums, and so is
its dropout (``draws.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.measures.tuning.batches import Encoded, batches, count_readings
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.sharing import Lesson, Share
from tasks.models.architecture.decoder import describe
from tasks.pruning.core.retraining import Snapshot
from tasks.training.engine import AccelerateEngine

_CLIP = 1.0
_PRIME = 1_000_003
"""Keeps the epochs of one seed apart from those of the next."""


def zeros_of(model: Any) -> dict[str, Tensor]:
    """Parameter name → where it is zero, for the linear layers of the model's blocks."""
    layers = describe(model).layers()
    found = {layer.parameter_of(name): layer.whole == 0 for name, layer in layers.items()}
    return {name: zero for name, zero in found.items() if zero.any()}


def fine_tune_(
    network: TaskNetwork,
    lesson: Lesson,
    held: Mapping[str, Tensor],
    *,
    engine: AccelerateEngine,
    progress: Callable[[int, int], None],
) -> list[dict[str, float]]:
    """Train all weights of the network, in place.

    Args:
        held: parameter of the model → where it stays zero.
        engine: whose snapshots, one an epoch at most, a killed run goes on from, with as many
            processes as it then has.

    Returns:
        Of each epoch, its number and mean loss.

    Raises:
        FloatingPointError: the loss is not finite.
        UnsupportedModelError: several processes cannot share the model's random numbers.
    """
    encoded, recipe = lesson.encoded, lesson.recipe
    network.requires_grad_(True)
    parameters = dict(network.model.named_parameters())
    masks = [(parameters[name], zero) for name, zero in held.items()]
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, eps=1e-8, weight_decay=0.0
    )
    epoch_steps = -(-len(encoded) // recipe.batch_size)
    steps = epoch_steps * recipe.epochs
    share_of_rate = _rate(steps, recipe.warmup)
    history = _restore_(network, optimiser, engine)
    network.train()
    share = Share(network, lesson, engine)
    for epoch in range(len(history), recipe.epochs):
        number = recipe.seed * _PRIME + epoch
        # On the device, and read once an epoch: every reading of it would wait for the step.
        total = torch.zeros((), dtype=torch.float64, device=engine.device)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(number)
            for step, whole in enumerate(_shuffled(lesson, number), epoch * epoch_steps):
                optimiser.zero_grad(set_to_none=True)
                total += share.gradient_(whole) * count_readings(whole)
                optimiser.param_groups[0]["lr"] = recipe.learning_rate * share_of_rate(step)
                _step_(network, optimiser, masks)
                progress(step + 1, steps)
        loss = float(total) / count_readings(encoded)
        if not math.isfinite(loss):
            raise FloatingPointError(f"epoch {epoch + 1}: the loss is {loss}; lower learning_rate")
        history.append({"step": epoch + 1.0, "loss": loss})
        engine.snapshot(epoch + 1, lambda: _snapshot(network, optimiser, history))
    network.eval().requires_grad_(False)
    return history


def _shuffled(lesson: Lesson, number: int) -> Iterator[list[Encoded]]:
    """The batches of an epoch, which its number alone orders."""
    generator = torch.Generator().manual_seed(number)
    order = torch.randperm(len(lesson.encoded), generator=generator).tolist()
    size = lesson.recipe.batch_size
    for first in range(0, len(order), size):
        yield [lesson.encoded[index] for index in order[first : first + size]]


def _step_(
    network: TaskNetwork, optimiser: torch.optim.Optimizer, masks: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """One step of the optimiser that moves no held weight."""
    for weight, zero in masks:
        if weight.grad is not None:
            weight.grad.masked_fill_(zero, 0.0)
    torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimiser.step()
    with torch.no_grad():
        for weight, zero in masks:
            weight.masked_fill_(zero, 0.0)


def _rate(steps: int, warmup: float) -> Callable[[int], float]:
    """Share of the learning rate at a step: up over ``warmup`` of the steps, then down to 0."""
    first = max(1, round(steps * warmup))

    def share(step: int) -> float:
        up, down = (step + 1) / first, (steps - step) / max(1, steps - first)
        return max(0.0, min(1.0, up, down))

    return share


def _snapshot(network: TaskNetwork, optimiser: Any, history: list[dict[str, float]]) -> Snapshot:
    tensors = {f"network.{name}": tensor for name, tensor in weights_of(network).items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in state.items()}
    return Snapshot(tensors, {"history": list(history)})


def _restore_(
    network: TaskNetwork, optimiser: Any, engine: AccelerateEngine
) -> list[dict[str, float]]:
    """Go on from the last snapshot; the history so far."""
    found = engine.restore()
    if found is None:
        return []
    states: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, weight in weights_of(network).items():
            weight.copy_(found.tensors[f"network.{name}"])
    for name, tensor in found.tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            number, _, part = rest.partition(".")
            states.setdefault(int(number), {})[part] = tensor
    whole = optimiser.state_dict()
    optimiser.load_state_dict({**whole, "state": states})
    return [dict(entry) for entry in found.facts["history"]]


def weights_of(network: TaskNetwork) -> dict[str, Tensor]:
    """All that is learned, each once, tied ones under their first name; no copies."""
    return {name: weight.detach() for name, weight in network.named_parameters()}


@torch.inference_mode()
def logits_of(
    network: TaskNetwork, encoded: Sequence[Encoded], batch_size: int, *, padding: int
) -> Tensor:
    """Of every example's readings in order and every column, ``R × S``, float64 on the CPU.

    Raises:
        FloatingPointError: some are not finite, and no label is the largest of them.
    """
    network.eval()
    device, columns = network.head.weight.device, network.head.out_features
    parts = batches(encoded, batch_size, columns, padding, device)
    made = [network(batch).double().cpu() for batch in parts]
    logits_RS = torch.cat(made) if made else torch.zeros(0, columns, dtype=torch.float64)
    if broken := int((~logits_RS.isfinite()).any(1).sum()):
        raise FloatingPointError(
            f"the model gives no finite scores for {broken} of {len(logits_RS)} texts or words"
        )
    return logits_RS
