"""AST, the Adaptive Sparse Trainer (arXiv 2407.20584, AAAI 2025).

Retrains a ``keep:group`` model while its mask keeps adapting, with distillation from the dense
model. Every linear layer of the blocks computes y = x(W⊙M)ᵀ + b; the straight-through estimator
gives the dense W the full gradient; M keeps the largest |W| of each group along the inputs and is
chosen anew every ``mask_interval`` optimiser steps, after the step. Pruned weights decay
(``adaptive_optimiser.py``), the loss distils (``distillation.py``), schedules are the paper's
(``schedules.py``), ``slorb`` adds the boosted variant's branch (``slorb.py``).

The paper's variants, with everything else as it is: *naive* is ``mask: fixed, decay: none,
distillation: false``; its ablation leaves out one part each: ``distillation: false``, ``mask:
fixed``, ``decay: static``; *boosted* is ``slorb: true``.

Deviations: no dropout, so that nothing but the order of windows is random; the run's length is
``steps`` of ``batch`` windows, where the authors take 40 000 steps of 128 windows of 1024 tokens.
All parameters are trained, embeddings and norms included. ``criterion: activation`` is not the
paper's: masks compare |W|·‖x‖ as Wanda does, which starts closer to the dense model.

Shapes: ``N`` windows, ``L`` tokens of a window, ``B`` windows of a micro-batch, ``T`` tokens,
``H`` hidden size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tasks.pruning import schedules
from tasks.pruning.adaptive_optimiser import StepSize
from tasks.pruning.adaptive_student import Student
from tasks.pruning.base import Progress, PruneResult, option
from tasks.pruning.blocks import Decoder
from tasks.pruning.distillation import backward_through_head
from tasks.pruning.driver import collect_statistics
from tasks.pruning.registry import register
from tasks.pruning.retraining import (
    Body,
    Engine,
    Head,
    LocalEngine,
    RetrainingMethod,
    Snapshot,
    Split,
)
from tasks.pruning.targets import SemiStructured, Target

_NORM_WINDOWS = 8


@register
@dataclass(frozen=True, kw_only=True)
class AdaptiveSparseTrainer(RetrainingMethod):
    """Trains a masked copy of the model towards the dense one while the mask adapts."""

    name: ClassVar[str] = "ast"
    summary: ClassVar[str] = "Retrains keep:group weights with an adaptive mask and distillation."
    source: ClassVar[str] = "AST, arXiv 2407.20584"

    steps: int = option(500, "Optimiser steps.", ge=1)
    batch: int = option(8, "Windows of one step, over all processes together.", ge=1)
    micro_batch: int = option(
        2, "Windows of one forward pass; gradients accumulate over a step's. Bounds memory.", ge=1
    )
    learning_rate: float = option(
        2e-4, "At its peak: after 5 % of the steps, from where a cosine falls to a tenth.", gt=0
    )
    weight_decay: float = option(0.1, "Of matrices; vectors have none.", ge=0)
    clip: float = option(1.0, "Largest norm of the gradients together.", gt=0)
    mask: Literal["adaptive", "fixed"] = option(
        "adaptive", "adaptive: chosen anew from the weights; fixed: as it was at the start."
    )
    criterion: Literal["magnitude", "activation"] = option(
        "magnitude", "magnitude: |W|, the paper's; activation: |W| times the dense input's norm."
    )
    mask_interval: int = option(10, "Optimiser steps from one mask to the next.", ge=1)
    decay: Literal["annealed", "static", "none"] = option(
        "annealed", "Of pruned weights; annealed: grows to decay_max; static: decay_max at once."
    )
    decay_max: float = option(1e-4, "The highest decay of pruned weights.", ge=0)
    decay_ramp: float = option(
        0.25, "decay annealed: the part of the run over which it grows.", gt=0, le=1
    )
    distillation: bool = option(True, "Learn from the dense model's predictions as well.")
    alpha: float = option(2 / 3, "distillation: its part of the loss.", ge=0, le=1)
    temperature: float = option(2.0, "distillation: softens both models' predictions.", gt=0)
    slorb: bool = option(False, "Add a trained low-rank branch for what is pruned (boosted).")
    slorb_group: int = option(16, "slorb: inputs that share one entry of the branch.", ge=1)

    def retrain(
        self,
        decoder: Decoder,
        target: Target,
        training_NL: Tensor,
        *,
        seed: int,
        engine: Engine | None = None,
        split: Split | None = None,
        progress: Progress | None = None,
    ) -> PruneResult:
        if not isinstance(target, SemiStructured):
            raise ValueError(self.refuses(target))  # noqa: TRY004 (as the driver does)
        if training_NL.ndim != 2 or training_NL.shape[0] < 1 or training_NL.shape[1] < 2:
            raise ValueError(f"no token to learn from in windows of {tuple(training_NL.shape)}")
        engine = engine or LocalEngine(decoder.model)
        student = Student(
            decoder,
            target,
            engine.device,
            weight_decay=self.weight_decay,
            slorb_group=self.slorb_group if self.slorb else None,
            norms=self._norms(decoder, training_NL),
        )
        run = _Run(self, decoder, student, engine, split)
        return run.train(training_NL.cpu(), seed, progress)

    def _norms(self, decoder: Decoder, training_NL: Tensor) -> dict[str, Tensor] | None:
        """Norm of every layer's inputs in the dense model, on the first training windows."""
        if self.criterion == "magnitude":
            return None
        statistics = collect_statistics(decoder, training_NL[:_NORM_WINDOWS])
        return {name: entry.energy_I.sqrt() for name, entry in statistics.items()}


class _Run:
    """One training run."""

    def __init__(
        self,
        method: AdaptiveSparseTrainer,
        decoder: Decoder,
        student: Student,
        engine: Engine,
        split: Split | None,
    ) -> None:
        self._method, self._student, self._engine = method, student, engine
        self._dtype = next(decoder.model.parameters()).dtype
        self._body, self._head = _halves(student.model, split)
        self._teacher = _halves(decoder.model, split) if method.distillation else None

    def train(self, training_NL: Tensor, seed: int, progress: Progress | None) -> PruneResult:
        method, student, engine = self._method, self._student, self._engine
        order = schedules.WindowOrder(len(training_NL), seed)
        identity = _identity(method, student, training_NL, seed)
        done, history, spent, flip_rate = 0, [], 0.0, 0.0
        if (found := engine.restore()) and found.facts.get("identity") == identity:
            student.load_state_(found.tensors)
            done, history = found.facts["step"], list(found.facts["history"])
            spent, flip_rate = found.facts["seconds"], history[-1]["flip_rate"]
        start = time.perf_counter() - spent
        for step in range(done + 1, method.steps + 1):
            batch_NL = training_NL[order.batch(step, method.batch)]
            figures = self._accumulate(batch_NL)
            rate = schedules.learning_rate(step, method.steps, method.learning_rate)
            decay = schedules.decay(
                step, method.steps, method.decay_max, method.decay, method.decay_ramp
            )
            norm = student.step_(StepSize(step, rate, decay), method.clip)
            if method.mask == "adaptive" and step % method.mask_interval == 0:
                flip_rate = student.remask_()
            history.append(
                {"step": step, **figures, "gradient_norm": norm, "flip_rate": flip_rate,
                 "learning_rate": rate, "decay": decay}
            )  # fmt: skip
            if step < method.steps:
                facts = {
                    "identity": identity,
                    "step": step,
                    "history": history,
                    "seconds": time.perf_counter() - start,
                }
                engine.snapshot(step, lambda facts=facts: Snapshot(student.state(), facts))
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
            },
            history=tuple(history),
            branches=student.exported_branches(self._dtype),
        )

    def _accumulate(self, batch_NL: Tensor) -> dict[str, float]:
        """Gradients of a whole batch, summed over the processes; its losses."""
        method, engine = self._method, self._engine
        predicted = batch_NL.shape[0] * (batch_NL.shape[1] - 1)
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        mine_NL = batch_NL[engine.rank :: engine.processes]
        for ids_BL in mine_NL.split(method.micro_batch) if len(mine_NL) else ():
            sums += self._backward(ids_BL.long().to(engine.device), 1 / predicted)
        engine.sum_([*self._student.gradients(), sums])
        ce, kl = (float(value) / predicted for value in sums)
        alpha = method.alpha if method.distillation else 0.0
        loss = (1 - alpha) * ce + alpha * method.temperature**2 * kl
        return {"loss": loss, "ce": ce, "kl": kl}

    def _backward(self, ids_BL: Tensor, scale: float) -> Tensor:
        method, engine = self._method, self._engine
        teacher = None
        if self._teacher is not None:
            body, head = self._teacher
            with torch.inference_mode():
                teacher = body(ids_BL)[:, :-1].flatten(0, 1), head
        with engine.autocast():
            hidden_TH = self._body(ids_BL)[:, :-1].flatten(0, 1)
            gradient_TH, sums = backward_through_head(
                hidden_TH.detach(),
                self._head,
                teacher,
                ids_BL[:, 1:].flatten(),
                engine.backward,
                alpha=method.alpha,
                temperature=method.temperature,
                scale=scale,
            )
        engine.backward(hidden_TH, gradient_TH)
        return torch.stack([sums.ce, sums.kl])


def _halves(model: Any, split: Split | None) -> tuple[Body, Head]:
    """Body and head of a model; where it does not split, all of it and nothing."""
    if split is not None and (halves := split(model)):
        return halves
    return lambda ids_BL: model(input_ids=ids_BL, use_cache=False).logits, lambda logits: logits


def _identity(
    method: AdaptiveSparseTrainer, student: Student, training_NL: Tensor, seed: int
) -> Mapping[str, Any]:
    """What a snapshot must agree with: everything that determines the run but the dense weights."""
    text = hashlib.sha256(training_NL.long().contiguous().numpy().tobytes()).hexdigest()
    shapes = {v.name: list(v.value.shape) for v in student.all_variables()}
    options = dataclasses.asdict(method)
    facts = {"method": method.name, "version": method.version, "options": options,
             "target": str(student.target), "seed": seed, "training": text,
             "shapes": hashlib.sha256(json.dumps(shapes).encode()).hexdigest()}  # fmt: skip
    # As it reads after a journey through JSON.
    return json.loads(json.dumps(facts))
