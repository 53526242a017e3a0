"""What a network learns from, and one process's part of every batch of it.

Shapes: ``R`` readings, ``H`` width of a state, ``S`` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from tasks.measures.tuning.batches import Batch, Encoded, batch_of, longest
from tasks.measures.tuning.draws import SharedDraws, draws_by_row, plain_attention
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.objectives import Objective
from tasks.training.engine import AccelerateEngine


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the network learns; see :class:`tasks.measures.tuning.settings.Tuning`."""

    epochs: int
    learning_rate: float
    batch_size: int
    warmup: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a network learns.

    Attributes:
        encoded: each with a reading; the same in every process.
        padding: the token that fills short examples.
    """

    encoded: Sequence[Encoded]
    objective: Objective
    recipe: Recipe
    padding: int


def require_shareable(network: TaskNetwork, lesson: Lesson) -> None:
    """Check that several processes can draw a batch's random numbers as one does.

    Raises:
        UnsupportedModelError: they cannot.
    """
    device = network.head.weight.device
    network.train()
    with plain_attention(device):
        _draws_of(network, lesson, device)
    network.eval()


def _draws_of(network: TaskNetwork, lesson: Lesson, device: torch.device) -> list[bool]:
    """:func:`draws_by_row` of a pass over the first example."""
    first = lesson.encoded[0]

    def run(rows: int) -> Tensor:
        part = [first] * rows
        columns = network.head.out_features
        return network.states(batch_of(part, longest(part), columns, lesson.padding, device))

    return draws_by_row(run)


class Share:
    """This process's part of every batch: each ``processes``-th of its examples."""

    def __init__(self, network: TaskNetwork, lesson: Lesson, engine: AccelerateEngine) -> None:
        self._network, self._lesson, self._engine = network, lesson, engine
        self._columns = network.head.out_features
        self._by_row: list[bool] = []
        if engine.processes > 1:
            with plain_attention(engine.device):
                self._by_row = _draws_of(network, lesson, engine.device)

    def gradient_(self, whole: Sequence[Encoded]) -> Tensor:
        """Add a batch's gradient to the weights'; the batch's mean loss, float64."""
        objective = self._lesson.objective
        readings = [reading for entry in whole for reading in entry.readings]
        terms = sum(objective.terms(reading, self._columns) for reading in readings)
        total = torch.zeros((), dtype=torch.float64, device=self._engine.device)
        # The last batch of an epoch may have fewer examples than there are processes.
        mine = range(self._engine.rank, len(whole), self._engine.processes)
        if mine:
            batch = self._batch([whole[row] for row in mine], longest(whole))
            with plain_attention(self._engine.device):
                logits_RS = self._logits(batch, whole, mine)
            loss = objective.loss(logits_RS, batch)
            self._engine.backward(loss, torch.full_like(loss, 1 / terms))
            total += loss.detach()
        self._exchange_(total)
        return total / terms

    def _batch(self, part: Sequence[Encoded], length: int | None = None) -> Batch:
        padding, device = self._lesson.padding, self._engine.device
        return batch_of(part, length or longest(part), self._columns, padding, device)

    def _logits(self, batch: Batch, whole: Sequence[Encoded], mine: range) -> Tensor:
        if self._engine.processes == 1:
            return self._network(batch)
        ends = list(accumulate(len(entry.readings) for entry in whole))
        read = [
            place
            for row in mine
            for place in range(ends[row] - len(whole[row].readings), ends[row])
        ]
        with SharedDraws(len(whole), mine, self._by_row):
            states_RH = self._network.states(batch)
        with SharedDraws(ends[-1], read, [True]):
            return self._network.answers(states_RH)

    def _exchange_(self, total: Tensor) -> None:
        """Sum loss and gradients over the processes; some may have no gradient of a weight."""
        if self._engine.processes == 1:
            return
        weights = [weight for weight in self._network.parameters() if weight.requires_grad]
        had = torch.tensor([weight.grad is not None for weight in weights]).to(total)
        self._engine.sum_([total, had])
        learned = [w for w, count in zip(weights, had.tolist(), strict=True) if count]
        for weight in learned:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self._engine.sum_([weight.grad for weight in learned if weight.grad is not None])
