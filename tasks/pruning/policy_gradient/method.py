"""Policy-gradient structural pruning without back-propagation (arXiv 2406.10576, ACL 2025).

Every key/value group and MLP channel has a Bernoulli parameter s, the probability that it stays.
A step draws K masks over all blocks, measures the loss of each on one batch by forward passes only,
and moves s against the policy-gradient estimate; the sums of s over groups and over channels are
projected onto their budgets. In the end the highest scores stay, globally, so blocks differ in
width. Nothing is ever differentiated, so memory is that of inference.

The authors' run is ``initialisation: wanda_sp, channel_group: 1, grouping: contiguous, baseline:
moving-average, estimator: normalised, masks: 2, floor: 0, antithetic: false, sharpness: 1,
learning_rate: 2e-3, steps: 15000, batch_size: 8, sequence_length: 128, validation_windows: 0``.
What goes beyond them has options of its own, with defaults from measurements
(``tests/benchmarks/policy_gradient.md``): small budgets need fewer variables, larger steps, less
noise, and draws that lie near the choice which they shall improve.

An encoder predicts no next token: what is measured there is how far its last hidden states are from
the dense model's (``gates.hidden_distance``), which is not the paper's.

Deviations from their code, each a defect there: a score of 0 is absorbing (``floor``); ties
overshoot the budget (a deterministic choice); a block may lose all its heads (it keeps one group
and one channel); K = 1 divides by zero.

Shapes: ``L`` blocks, ``G`` groups, ``C`` channels, ``V`` variables of a block, ``K`` masks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.gates import GatedLoss, gated_loss
from tasks.pruning.core.methods import (
    Chosen,
    LearningInputs,
    SampledMethod,
    option,
)
from tasks.pruning.core.registry import register
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.structure import Kept
from tasks.pruning.core.targets import Fraction
from tasks.pruning.policy_gradient import bernoulli
from tasks.pruning.policy_gradient.choice import Best
from tasks.pruning.policy_gradient.policy import Policy, initial_policy


@register
@dataclass(frozen=True, kw_only=True)
class PolicyGradient(SampledMethod):
    """Learns which heads and channels stay, from losses of randomly masked models."""

    name: ClassVar[str] = "policy_gradient"
    summary: ClassVar[str] = "Learns which heads and channels stay, by forward passes only."
    source: ClassVar[str] = "Gao et al., arXiv 2406.10576, ACL 2025"
    uses_seed: ClassVar[bool] = True
    uses_calibration: ClassVar[bool] = True
    uses_training: ClassVar[bool] = True
    cuts_training: ClassVar[bool] = True
    counts_tokens: ClassVar[bool] = True
    learns: ClassVar[Literal["nothing", "mask", "weights"]] = "mask"
    version: ClassVar[int] = 5
    published: ClassVar[Mapping[str, Any]] = {
        "initialisation": "wanda_sp",
        "sharpness": 1.0,
        "channel_group": 1,
        "grouping": "contiguous",
        "baseline": "moving-average",
        "estimator": "normalised",
        "antithetic": False,
        "floor": 0.0,
        "final": "global",
        "validation_windows": 0,
    }

    steps: int = option(40, "Steps; the authors take 15 000. 0 keeps the initial scores.", ge=0)
    masks: int = option(8, "Masks a step, K; the authors draw 2.", ge=1)
    batch_size: int = option(4, "Sequences a mask is judged on.", ge=1)
    sequence_length: int = option(128, "Tokens of such a sequence.", ge=2)
    learning_rate: float = option(
        0.3, "At the first step; cosine to 0. The authors' is 2e-3 over 15 000 steps.", gt=0
    )
    initialisation: Literal["wanda_sp", "around-choice", "random", "constant"] = option(
        "around-choice",
        "Where scores start: Wanda-SP's metric as the authors map it, or so that drawn masks lie "
        "around the choice by it; uniform noise; or all alike.",
    )
    sharpness: float = option(
        1.0,
        "Of the first two: multiplies what enters the sigmoid; the paper's is 1.",
        gt=0,
    )
    channel_group: int = option(64, "Channels that share one variable; the paper's is 1.", ge=1)
    grouping: Literal["contiguous", "by-metric"] = option(
        "by-metric", "Which channels share one: neighbours, or those alike in Wanda-SP's metric."
    )
    baseline: Literal["moving-average", "leave-one-out"] = option(
        "leave-one-out",
        "The paper's moving average (always where masks is 1), or the others' mean.",
    )
    estimator: Literal["normalised", "score"] = option(
        "normalised", "normalised: the authors'; score: the true score function."
    )
    antithetic: bool = option(False, "Draw masks in opposite pairs; the paper does not.")
    floor: float = option(
        1e-3, "Scores stay within [floor, 1 − floor]; the authors' is 0.", ge=0, lt=0.5
    )
    final: Literal["global", "per-layer"] = option(
        "global", "Highest scores stay over all blocks, or the same share of each block."
    )

    validation_windows: int = option(
        8,
        "Training windows held back (a quarter at most) on which the choice is judged now and "
        "then: the best one counts, the initial one among them. 0: the last, as in the paper.",
        ge=0,
    )
    validation_interval: int = option(10, "Steps between two such judgements.", ge=1)

    @property
    def training_length(self) -> int:
        return self.sequence_length

    def choose(
        self,
        decoder: Decoder,
        target: Fraction,
        generator: torch.Generator,
        inputs: LearningInputs,
    ) -> Chosen:
        assert inputs.tokens_NL is not None
        training = inputs.training()
        training.cut(self.sequence_length)  # refused before the pass below
        start = time.perf_counter()
        policy = initial_policy(
            decoder,
            1.0 - target.value,
            generator,
            inputs,
            kind=self.initialisation,
            sharpness=self.sharpness,
            channel_group=self.channel_group,
            by_metric=self.grouping == "by-metric",
            floor=self.floor,
        )
        initialised = time.perf_counter()
        held_back = min(self.validation_windows, len(training) // 4) if self.steps else 0
        first = len(training) - held_back
        learned, judged = training[:first], training[first:]
        history: list[Mapping[str, float]] = []
        with gated_loss(decoder, inputs.loss) as loss:
            best = Best(policy, loss, judged, across_layers=self.final == "global")
            initial = best.judge_(policy)
            for figures in self._learn(policy, loss, learned, generator):
                step = len(history) + 1
                due = step % self.validation_interval == 0 or step == self.steps
                history.append({**figures, **(best.judge_(policy) if due else {})})
                if inputs.progress:
                    inputs.progress(step, self.steps)
        tokens = self.steps * self.masks * self.batch_size * self.sequence_length
        figures = {
            "calibration_seconds": initialised - start,
            "training_tokens": float(tokens + best.tokens),
            "training_seconds": time.perf_counter() - initialised,
            **{f"initial_{name}": value for name, value in initial.items()},
        }
        return Chosen(
            kept=best.kept,
            figures=figures,
            history=tuple(history),
            distribution=best.distribution,
        )

    def sample(
        self, distribution: Mapping[str, Tensor], target: Fraction, generator: torch.Generator
    ) -> tuple[Kept, ...]:
        policy = Policy.of_tensors(distribution, 1.0 - target.value, self.floor)
        return policy.sample(generator, across_layers=self.final == "global")

    def _learn(
        self, policy: Policy, loss: GatedLoss, training: Sequences, generator: torch.Generator
    ) -> Iterator[Mapping[str, float]]:
        """Move the policy step by step, yielding each step's figures."""
        averaged = self.baseline == "moving-average" or self.masks == 1
        baseline = bernoulli.MovingAverage() if averaged else bernoulli.LeaveOneOut()
        batches = _batches(training, self.batch_size, self.sequence_length, generator)
        for step in range(self.steps):
            rate = bernoulli.decayed(self.learning_rate, step, self.steps)
            batch = next(batches)
            masks_KV = bernoulli.draw(
                policy.scores_V, self.masks, generator, antithetic=self.antithetic
            )
            losses_K = torch.tensor(
                [loss(*policy.gates(m_V), batch.ids_NL, batch.counted_NL) for m_V in masks_KV]
            )
            usable = torch.isfinite(losses_K)
            figures = {"step": float(step + 1), "learning_rate": rate}
            if usable.any():
                losses_K, masks_KV = losses_K[usable], masks_KV[usable]
                gradient_V = bernoulli.gradient(
                    losses_K, baseline.update(losses_K), masks_KV, policy.scores_V, self.estimator
                )
                policy.move_(-rate * gradient_V)
                figures["loss"] = float(losses_K.mean())
            yield figures | policy.figures() | {"unusable_masks": float((~usable).sum())}


def _batches(
    windows: Sequences, batch_size: int, length: int, generator: torch.Generator
) -> Iterator[Sequences]:
    """Endless batches of sequences cut from the windows, in a new random order each time round."""
    sequences = windows.cut(length)
    order: list[int] = []
    while True:
        while len(order) < batch_size:
            order += torch.randperm(len(sequences), generator=generator).tolist()
        chosen, order = order[:batch_size], order[batch_size:]
        yield sequences[torch.tensor(chosen)]
