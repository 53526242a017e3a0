"""AST's training loop: batches in, losses and gradients, one optimiser step after another.

Shapes: ``N`` windows, ``L`` tokens of a window, ``B`` windows of a micro-batch, ``T`` tokens,
``H`` hidden size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.pruning.ast import schedules
from tasks.pruning.ast.distillation import backward_through_head, hidden_gradient
from tasks.pruning.ast.optimiser import StepSize
from tasks.pruning.ast.start import begin_
from tasks.pruning.ast.student import Student
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Progress, PruneResult
from tasks.pruning.core.retraining import Body, Engine, Head, Snapshot, Split
from tasks.pruning.core.sequences import predicted, predicting

if TYPE_CHECKING:
    from tasks.pruning.ast.method import AdaptiveSparseTrainer


_COUNTED = "counted_tokens"
"""Figure: tokens that the loss was taken over."""


class Run:
    """Trains a student until its last step, from the start or from the engine's snapshot."""

    def __init__(
        self,
        method: AdaptiveSparseTrainer,
        decoder: Decoder,
        student: Student,
        engine: Engine,
        split: Split | None,
    ) -> None:
        self._method, self._student, self._engine = method, student, engine
        self._decoder = decoder
        self._dtype = next(decoder.model.parameters()).dtype
        self._encoder = decoder.encoder
        halves = _encoder_halves if decoder.encoder else partial(_halves, split=split)
        self._body, self._head = halves(student.model)
        self._teacher = halves(decoder.model) if method.distillation else None

    def train(
        self,
        training_NL: Tensor,
        counted_NL: Tensor | None,
        seed: int,
        progress: Progress | None,
    ) -> PruneResult:
        """All steps; see :meth:`RetrainingMethod.retrain`."""
        method, student = self._method, self._student
        order = schedules.WindowOrder(len(training_NL), seed)
        identity = _identity(method, student, training_NL, counted_NL, seed)
        history, spent, begun = self._restored(identity)
        if not history and (first := method.starts_from):
            begun = begin_(student, first, self._decoder, training_NL, self._engine, progress)
        start = time.perf_counter() - spent
        for step in range(len(history) + 1, method.steps + 1):
            drawn = order.batch(step, method.batch)
            counts_NL = None if counted_NL is None else counted_NL[drawn]
            flip_rate = history[-1]["flip_rate"] if history else 0.0
            figures = self._step(step, training_NL[drawn], counts_NL, flip_rate)
            history.append({"step": step, **figures})
            if step < method.steps:
                seconds = time.perf_counter() - start
                facts = {"identity": identity, "history": history, "seconds": seconds,
                         "begun": begun}  # fmt: skip
                self._engine.snapshot(step, lambda facts=facts: Snapshot(student.state(), facts))
            if progress:
                progress(step, method.steps)
        seconds = time.perf_counter() - start
        tokens = method.steps * method.batch * training_NL.shape[1]
        return PruneResult(
            weights=student.weights(),
            figures={
                "training_tokens": float(tokens),
                "training_seconds": seconds,
                "tokens_per_second": tokens / seconds,
                **_counted(history),
                **begun,
            },
            history=tuple(history),
            branches=student.exported_branches(self._dtype),
        )

    def _restored(
        self, identity: Mapping[str, Any]
    ) -> tuple[list[dict[str, float]], float, dict[str, float]]:
        """The steps that a snapshot of this very run holds, the seconds they took, and what was
        told of the start."""
        found = self._engine.restore()
        if found is None or found.facts.get("identity") != identity:
            return [], 0.0, {}
        self._student.load_state_(found.tensors)
        return list(found.facts["history"]), found.facts["seconds"], found.facts["begun"]

    def _step(
        self, step: int, batch_NL: Tensor, counted_NL: Tensor | None, flip_rate: float
    ) -> dict[str, float]:
        """One optimiser step; its figures.

        Args:
            counted_NL: which tokens of the batch the loss is taken over; None: all.
            flip_rate: of the latest choice of masks, to be told until the next one.
        """
        method, student = self._method, self._student
        losses = self._accumulate(batch_NL, counted_NL)
        rate = schedules.learning_rate(step, method.steps, method.learning_rate)
        decay = schedules.decay(
            step, method.steps, method.decay_max, method.decay, method.decay_ramp
        )
        corrected = method.momentum == "corrected"
        norm = student.step_(StepSize(step, rate, decay, corrected=corrected), method.clip)
        chooses = method.mask == "adaptive" and step <= method.mask_until * method.steps
        if chooses and step % method.mask_interval == 0:
            flip_rate = student.remask_()
        return {
            **losses,
            "gradient_norm": norm,
            "flip_rate": flip_rate,
            "learning_rate": rate,
            "decay": decay,
        }

    def _accumulate(self, batch_NL: Tensor, counted_NL: Tensor | None) -> dict[str, float]:
        """Gradients of a whole batch, summed over the processes; its losses."""
        method, engine = self._method, self._engine
        predicted = batch_NL.shape[0] * (batch_NL.shape[1] - (not self._encoder))
        if counted_NL is not None:
            predicted = int(counted_NL[:, 1:].sum())
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        mine = torch.arange(engine.rank, len(batch_NL), engine.processes)
        for rows in mine.split(method.micro_batch) if len(mine) else ():
            ids_BL = batch_NL[rows].long().to(engine.device)
            if self._encoder:
                sums += self._backward_hidden(ids_BL, 1 / predicted)
            else:
                counted_BL = None if counted_NL is None else counted_NL[rows].to(engine.device)
                sums += self._backward(ids_BL, counted_BL, 1 / predicted)
        engine.sum_([*self._student.gradients(), sums])
        if self._encoder:
            return {"loss": float(sums[0]) / predicted}
        ce, kl = (float(value) / predicted for value in sums)
        alpha = method.alpha if method.distillation else 0.0
        loss = (1 - alpha) * ce + alpha * method.temperature**2 * kl
        losses = {"loss": loss, "ce": ce, "kl": kl}
        return losses if counted_NL is None else {**losses, _COUNTED: float(predicted)}

    def _backward(self, ids_BL: Tensor, counted_BL: Tensor | None, scale: float) -> Tensor:
        method, engine = self._method, self._engine
        teacher = None
        if self._teacher is not None:
            body, head = self._teacher
            with torch.inference_mode():
                teacher = predicting(body(ids_BL), counted_BL), head
        with engine.autocast():
            hidden_TH = predicting(self._body(ids_BL), counted_BL)
            gradient_TH, sums = backward_through_head(
                hidden_TH.detach(),
                self._head,
                teacher,
                predicted(ids_BL, counted_BL),
                engine.backward,
                alpha=method.alpha,
                temperature=method.temperature,
                scale=scale,
            )
        engine.backward(hidden_TH, gradient_TH)
        return torch.stack([sums.ce, sums.kl])

    def _backward_hidden(self, ids_BL: Tensor, scale: float) -> Tensor:
        """As :meth:`_backward`, of an encoder: the distance of hidden states, and 0."""
        assert self._teacher is not None, "refused without distillation"
        with torch.inference_mode():
            wanted_TH = self._teacher[0](ids_BL).flatten(0, 1)
        with self._engine.autocast():
            hidden_TH = self._body(ids_BL).flatten(0, 1)
        gradient_TH, total = hidden_gradient(hidden_TH.detach(), wanted_TH, scale=scale)
        self._engine.backward(hidden_TH, gradient_TH)
        return torch.stack([total, torch.zeros_like(total)])


def _encoder_halves(model: Any) -> tuple[Body, Head]:
    """The states that an encoder ends in, and nothing behind them."""
    return (
        lambda ids_BL: model(input_ids=ids_BL, use_cache=False).last_hidden_state,
        lambda hidden_TH: hidden_TH,
    )


def _halves(model: Any, split: Split | None) -> tuple[Body, Head]:
    """Body and head of a model; where it does not split, all of it and nothing."""
    if split is not None and (halves := split(model)):
        return halves
    return lambda ids_BL: model(input_ids=ids_BL, use_cache=False).logits, lambda logits: logits


def _counted(history: list[dict[str, float]]) -> dict[str, float]:
    """How many tokens the loss was taken over, where not all count."""
    counts = [entry[_COUNTED] for entry in history if _COUNTED in entry]
    return {_COUNTED: sum(counts)} if counts else {}


def _identity(
    method: AdaptiveSparseTrainer,
    student: Student,
    training_NL: Tensor,
    counted_NL: Tensor | None,
    seed: int,
) -> Mapping[str, Any]:
    """What a snapshot must agree with: everything that determines the run but the dense weights."""
    text = hashlib.sha256(training_NL.long().contiguous().numpy().tobytes()).hexdigest()
    if counted_NL is not None:
        text += hashlib.sha256(counted_NL.contiguous().numpy().tobytes()).hexdigest()
    shapes = {v.name: list(v.value.shape) for v in student.all_variables()}
    options = dataclasses.asdict(method)
    facts = {"method": method.name, "version": method.version, "options": options,
             "target": str(student.target), "seed": seed, "training": text,
             "shapes": hashlib.sha256(json.dumps(shapes).encode()).hexdigest()}  # fmt: skip
    # As it reads after a journey through JSON.
    return json.loads(json.dumps(facts))
