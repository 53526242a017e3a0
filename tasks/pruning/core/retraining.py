"""Methods that train the weights, and what they ask of whoever trains them.

A method owns the mathematics of a step; the :class:`Engine` it is handed owns devices, processes,
precision and checkpoints. ``LocalEngine`` is the plain one: this process, the model's own device.
``tasks/training`` supplies the one that runs on Accelerate.

Shapes: ``N`` windows, ``L`` tokens of a window, ``B`` windows of a micro-batch, ``T`` tokens,
``H`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Method, Progress, PruneResult
from tasks.pruning.core.targets import SemiStructured, Target

Body = Callable[[Tensor], Tensor]
"""``ids_BL`` → last hidden states, ``B × L × H``."""
Head = Callable[[Tensor], Tensor]
"""``hidden_TH`` → logits, ``T × V``."""
Split = Callable[[Any], tuple[Body, Head] | None]
"""Splits a model into body and head, which share its weights; None where it does not split."""


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on from where it was.

    Attributes:
        tensors: by name; they are read at once and not kept.
        facts: plain JSON values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Engine(Protocol):
    """What runs the steps of a training method."""

    @property
    def device(self) -> torch.device:
        """Where this process computes; the decoder's model is there."""
        ...

    @property
    def rank(self) -> int:
        """Which of the processes this is, from 0."""
        ...

    @property
    def processes(self) -> int:
        """How many share every batch."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the student's forward passes; its weights are float32."""
        ...

    def backward(self, outputs: Tensor, gradient: Tensor) -> None:
        """Add the gradients of ``outputs``, given theirs, to the leaves'."""
        ...

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        ...

    def restore(self) -> Snapshot | None:
        """The last snapshot of this run, the same one on every process; None to begin anew."""
        ...

    def snapshot(self, step: int, take: Callable[[], Snapshot]) -> None:
        """Called after every step but the last; keeps what ``take`` returns when it is time to."""
        ...


class LocalEngine:
    """One process, no checkpoints; autocasts to bfloat16 where the model is in bfloat16."""

    rank = 0
    processes = 1

    def __init__(self, model: nn.Module) -> None:
        first = next(model.parameters())
        self.device = first.device
        self._autocasts = first.dtype == torch.bfloat16

    def autocast(self) -> AbstractContextManager[Any]:
        if not self._autocasts:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def backward(self, outputs: Tensor, gradient: Tensor) -> None:
        outputs.backward(gradient)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        del tensors

    def restore(self) -> Snapshot | None:
        return None

    def snapshot(self, step: int, take: Callable[[], Snapshot]) -> None:
        del step, take


@dataclass(frozen=True, kw_only=True)
class RetrainingMethod(Method):
    """Trains the weights of a copy of the model until they hold the target."""

    targets: ClassVar[tuple[type[Target], ...]] = (SemiStructured,)
    uses_seed: ClassVar[bool] = True
    uses_training: ClassVar[bool] = True
    learns: ClassVar[Literal["nothing", "mask", "weights"]] = "weights"

    @property
    def starts_from(self) -> Method | None:
        """The method whose result training starts from; None: from the dense model.

        ``retrain`` itself runs it. Here it is asked for what identifies the result.
        """
        return None

    @abstractmethod
    def retrain(
        self,
        decoder: Decoder,
        target: Target,
        training_NL: Tensor,
        *,
        counted_NL: Tensor | None = None,
        seed: int,
        engine: Engine | None = None,
        split: Split | None = None,
        progress: Progress | None = None,
    ) -> PruneResult:
        """The retrained weights: every parameter, by name; ``decoder.model`` is not changed.

        Args:
            training_NL: token ids of the windows to learn from.
            counted_NL: which of them the loss is taken over; None: all. Given to methods with
                ``counts_tokens`` alone.
            seed: of the windows' order.
            engine: by default, this process and nothing else.
            split: splits a model into body and head, so that logits need not exist for all tokens
                at once. Without it they do, for the windows of one micro-batch.
            progress: called with (steps done, steps in all).

        Raises:
            ValueError: when a layer cannot take the target.
            FloatingPointError: when training diverges.
        """


def counting(method: RetrainingMethod, counted_NL: Tensor | None) -> dict[str, Any]:
    """The argument of ``retrain`` that says which tokens count; nothing where all do.

    Raises:
        ValueError: for a method that cannot tell tokens apart.
    """
    if counted_NL is None:
        return {}
    if not method.counts_tokens:
        raise ValueError(f"{method.name} learns from all tokens; some alone are to count")
    return {"counted_NL": counted_NL}
