"""How far from the dense model a choice is.

A flip leaves the blocks before it as they were: its pass begins at its own block, with what the
block before gave for the current choice. That is six tenths of a pass on average.

Shapes: ``N`` windows, ``L`` tokens of one, ``T`` tokens, ``V`` words.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.gates import gated_loss
from tasks.pruning.core.sequences import Sequences, predicting
from tasks.pruning.flip_gradient.choice import Choice
from tasks.pruning.flip_gradient.passes import passes_of

_LOGIT_BYTES = 64 << 20
"""The most that one pass's float32 logits may take."""


class Judge:
    """Mean KL(dense ‖ choice) over the tokens of fixed windows, or what predicts those that count.

    It is a context.

    Attributes:
        tokens: that have been judged.
    """

    def __init__(self, decoder: Decoder, windows: Sequences) -> None:
        self._decoder, self._windows = decoder, windows
        self._stack = ExitStack()
        self._resumes = False
        self.tokens = 0

    @torch.no_grad()
    def __enter__(self) -> Self:
        vocabulary = self._log_probabilities(self._windows[:1]).shape[-1]
        size = max(1, _LOGIT_BYTES // (4 * vocabulary * self._windows.ids_NL.shape[1]))
        self._parts = list(self._windows.split(size))
        self._dense = [self._log_probabilities(part) for part in self._parts]
        self._passes = self._stack.enter_context(passes_of(self._decoder.blocks))
        self._evaluate = self._stack.enter_context(gated_loss(self._decoder, self._divergence))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()
        self._dense.clear()

    def begin(self, choice: Choice) -> float:
        """Judge the choice whose flips come next; see :meth:`__call__`.

        That passes may begin at a block is proven on this choice, halfway and at the last block:
        where a model's blocks pass each other more than hidden states, all of them are passed. The
        two proofs judge nothing new and are not counted in ``tokens``.
        """
        with self._passes.recorded(len(self._parts)):
            value = self(choice)
        blocks = len(self._decoder.blocks)
        self._resumes = all(
            math.isclose(self._value(choice, since), value, rel_tol=1e-4, abs_tol=1e-6)
            for since in {blocks // 2, blocks - 1}
        )
        return value

    def __call__(self, choice: Choice, since: int = 0) -> float:
        """Nats; infinite where the choice's logits are not finite.

        Args:
            since: the first block in which the choice differs from what :meth:`begin` judged.
        """
        self.tokens += self._windows.ids_NL.numel()
        return self._value(choice, since if self._resumes else 0)

    def _value(self, choice: Choice, since: int) -> float:
        self._passes.since = since
        try:
            value = self._evaluate(
                choice.groups_LG.float(),
                choice.channels_LC().float(),
                self._windows.ids_NL,
                self._windows.counted_NL,
            )
        finally:
            self._passes.since = 0
        return math.inf if math.isnan(value) else value

    def _log_probabilities(self, part: Sequences) -> Tensor:
        home = next(self._decoder.model.parameters()).device
        ids_NL, counted_NL = part.ids_NL.long().to(home), part.counted_NL
        logits_NLV = self._decoder.model(input_ids=ids_NL, use_cache=False).logits
        every = counted_NL is None
        logits_TV = logits_NLV.flatten(0, 1) if every else predicting(logits_NLV, counted_NL)
        return functional.log_softmax(logits_TV.float(), dim=-1)

    def _divergence(self, ids_NL: Tensor, counted_NL: Tensor | None = None) -> Tensor:
        del ids_NL, counted_NL  # the parts are theirs
        total = torch.zeros(())
        for place, (part, dense_TV) in enumerate(zip(self._parts, self._dense, strict=True)):
            self._passes.part = place
            mine_TV = self._log_probabilities(part)
            one = functional.kl_div(mine_TV, dense_TV, reduction="batchmean", log_target=True)
            total += part.weight() * one.cpu()
        return total / self._windows.weight()
