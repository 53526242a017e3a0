"""Flip gradient: which heads and channels stay, each judged by flipping it.

This project's own method, from the policy gradient of arXiv 2406.10576. With every group and
channel a Bernoulli variable of probability s, the gradient of the expected loss is, for each
variable v,

    ∂E[L]/∂s_v = E[L(m | m_v = 1) − L(m | m_v = 0)].

The paper estimates it from random masks, where each variable drowns in the others' noise. Here the
difference is measured: v is flipped, the rest stays, and both losses are of the same tokens (the
expectation over m_v is taken exactly, as Rao and Blackwell do, with common random numbers). It is
taken at the current choice, not averaged over draws around it, and the choice follows at once:

- the loss is the divergence from the dense model, which tells less noisily what a flip breaks than
  the loss on the text itself;
- from one pass of the dense model a prior orders groups over all blocks and channels inside each
  (``prior.py``): only the blocks' budgets of channels are learned (``budget.py``);
- rounds go to the target in steps, each with other text, for single flips do not add up;
- then a few groups are swapped where text that no round saw says so, and the result is taken only
  where that text prefers it to the prior alone;
- then the remaining columns are compensated (``compensation.py``); flips, swaps and the divergences
  that are recorded are judged without that.

Shapes: ``L`` blocks, ``G`` groups, ``C`` channels.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import (
    COMPENSATION,
    Chosen,
    LearningInputs,
    StructuredMethod,
    option,
)
from tasks.pruning.core.registry import register
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.targets import Fraction
from tasks.pruning.flip_gradient.choice import Choice
from tasks.pruning.flip_gradient.judge import Judge
from tasks.pruning.flip_gradient.prior import prior
from tasks.pruning.flip_gradient.rounds import Rounds


@register
@dataclass(frozen=True, kw_only=True)
class FlipGradient(StructuredMethod):
    """Judges each head and each block's channels by what flipping them changes."""

    name: ClassVar[str] = "flip_gradient"
    summary: ClassVar[str] = (
        "Heads and channels by what flipping each one changes, then least squares; no gradients."
    )
    source: ClassVar[str] = "this project, from the policy gradient of arXiv 2406.10576"
    version: ClassVar[int] = 4
    uses_seed: ClassVar[bool] = True
    uses_calibration: ClassVar[bool] = True
    uses_training: ClassVar[bool] = True
    cuts_training: ClassVar[bool] = True
    counts_tokens: ClassVar[bool] = True
    learns: ClassVar[Literal["nothing", "mask", "weights"]] = "mask"

    compensation: Literal["none", "least_squares"] = option("least_squares", COMPENSATION)
    tokens: int = option(
        120_000, "Judged in all rounds together; 0: the prior alone, nothing is learned.", ge=0
    )
    sequence_length: int = option(128, "Tokens of a sequence that flips are judged on.", ge=2)
    round: float = option(0.1, "Sparsity by which one round goes on.", gt=0, le=1)
    most: float = option(
        0.6, "The largest share of its channels that a block may lose.", gt=0, le=1
    )
    swaps: int = option(3, "Groups exchanged in the end, at the most.", ge=0)
    validation_tokens: int = option(
        4096, "Held back from the rounds, to judge swaps and the result; a quarter at most.", ge=0
    )

    @property
    def departs(self) -> str:
        own = "estimator, prior and rounds are this project's own"
        return ", ".join(filter(None, [own, super().departs]))

    @property
    def refuses_encoders(self) -> str:
        return "it judges a choice by the predictions of next tokens, and encoders make none"

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
        start = time.perf_counter()
        quiet = LearningInputs(tokens_NL=inputs.tokens_NL, loss=inputs.loss, device=inputs.device)
        known = prior(decoder, quiet)
        figures = {"calibration_seconds": time.perf_counter() - start}
        alone = Choice.by_prior(known, target.value)
        if not self.tokens:
            return Chosen(kept=alone.kept(), figures=figures)
        start = time.perf_counter()
        learned, judged = self._split(inputs.training(), generator)
        rounds = Rounds(decoder, known, most=self.most)
        history: list[Mapping[str, float]] = []
        count = max(1, math.ceil(target.value / self.round - 1e-9))
        batches = self._batches(learned, rounds.flips, count)
        for at in range(count):
            share = target.value * (at + 1) / count

            def told(done: int, of: int, at: int = at) -> None:
                if inputs.progress:
                    inputs.progress(at * of + done, count * of)

            history.append({"step": at + 1.0, **rounds.go_to_(share, next(batches), told)})
        choice, read = rounds.choice, 0
        if len(judged):
            choice, read, told_of = self._judged(decoder, judged, rounds, alone)
            figures |= told_of
        figures |= {
            "training_tokens": float(rounds.tokens + read),
            "training_seconds": time.perf_counter() - start,
        }
        return Chosen(kept=choice.kept(), figures=figures, history=tuple(history))

    def _judged(
        self, decoder: Decoder, judged: Sequences, rounds: Rounds, alone: Choice
    ) -> tuple[Choice, int, dict[str, float]]:
        """The better of the prior's choice and the rounds' with its swaps, on text of its own.

        Returns:
            The choice, how many tokens were judged, and figures.
        """
        with Judge(decoder, judged) as judge:
            initial = judge(alone)
            choice, value = rounds.swapped(judge, self.swaps)
        if not value <= initial:
            choice, value = alone, initial
        return choice, judge.tokens, {"initial_divergence": initial, "divergence": value}

    def _split(
        self, training: Sequences, generator: torch.Generator
    ) -> tuple[Sequences, Sequences]:
        """Sequences to learn from in random order, and those held back."""
        sequences = training.cut(self.sequence_length)
        sequences = sequences[torch.randperm(len(sequences), generator=generator)]
        held = min(self.validation_tokens // self.sequence_length, len(sequences) // 4)
        return sequences[held:], sequences[:held]

    def _batches(self, sequences: Sequences, flips: int, rounds: int) -> Iterator[Sequences]:
        """A batch a round, so large that all flips together judge ``tokens``; text comes round.

        Where sequences are left over, the later rounds have one more: they decide the choice.

        Args:
            flips: of each round.
        """
        total = self.tokens // (flips * self.sequence_length)
        if total < rounds:
            warnings.warn(
                f"flip_gradient judges {flips * rounds} flips on at least {self.sequence_length} "
                f"tokens each, more than the {self.tokens} tokens that it is given",
                RuntimeWarning,
                stacklevel=2,
            )
            total = rounds
        ends = [total * (at + 1) // rounds for at in range(rounds)]
        for start, end in itertools.pairwise([0, *ends]):
            yield sequences[torch.arange(start, end) % len(sequences)]
