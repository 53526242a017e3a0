"""A loaded model as the harness's own Hugging Face model, shared over the ranks.

Every rank prepares all requests, which is quick and draws the same few-shot examples everywhere,
makes the batches that one process would make, and computes every ``N``-th of them. The answers
come back to all, so that the harness sees one process with all answers.

What is longer than the model takes loses its beginning there, or is read in several windows where
a whole text is scored; the harness tells its log alone, and ``cut`` keeps which texts it were.

It departs from the harness's command line in two ways:

- Log-likelihoods are float32 whatever the model's dtype. The command line rounds them to it: in
  bfloat16 to half a nat at 100, so that options tie. Beside a batch's logits lie 4 bytes for each
  of them where it keeps 2 (on a CPU twice that for a moment); a smaller batch takes less.
- A text that is scored whole has one BOS before it. The command line puts one before what a
  tokenizer such as Llama's or Gemma's begins with one already, and counts the second as predicted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from tasks.measures.zero_shot.questions import texts_of

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tasks.pruning.core.methods import Progress

_HFLM: Any = HFLM  # its decorator hides its type

Batches = list[list[int]]
"""Indices of requests that are computed together."""


def place() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class SharedModel(_HFLM):
    """
    Args:
        model: of transformers, sliced or with side branches too; it stays where it is.
        tokenizer: is copied, for the harness gives it a padding token.
        progress: called with (sequences computed here, sequences of all ranks).

    Attributes:
        cut: the texts of every request so far that was longer than the model takes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        progress: Progress | None = None,
    ) -> None:
        own: Any = copy.deepcopy(tokenizer)
        super().__init__(
            pretrained=model,
            tokenizer=own,
            backend="causal",
            batch_size=batch_size,
            softmax_dtype=torch.float32,
        )
        self._device = _input_device(model)
        self._progress = progress
        self.cut: set[tuple[str, ...]] = set()
        self._done = self._all = 0

    @property
    def prefix_token_id(self) -> int:
        """The harness's choice: BOS, else EOS; where a text has no context, it comes first."""
        token = super().prefix_token_id
        if token is None:
            raise ValueError(
                "the tokenizer has neither a BOS nor an EOS token, one of which the harness puts "
                "before a text without context: this model cannot do such a task"
            )
        return token

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None
    ) -> Any:
        if override_bs is not None:  # windows of texts, which are shared already
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        self._note((texts_of(pair), len(c) + len(rest) - 1) for pair, c, rest in requests)
        batches, self._all = self._batches(requests)
        answers = self._shared(requests, batches, super()._loglikelihood_tokens)
        if any(math.isnan(loglikelihood) for loglikelihood, _ in answers):
            raise FloatingPointError("a likelihood is NaN: the model's activations overflow")
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        self._all = 0  # how many windows there are is not known here
        alone = [[index] for index in range(len(requests))]
        with self._without_special_tokens():  # the harness puts the prefix before them
            self._note((texts_of(r.args), len(self.tok_encode(r.args[0]))) for r in requests)
            answers = self._shared(requests, alone, super().loglikelihood_rolling)
        if any(map(math.isnan, answers)):
            raise FloatingPointError("a likelihood is NaN: the model's activations overflow")
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        groups: dict[str, list[int]] = {}
        tokens = [len(self.tok_encode(request.arguments[0])) for request in requests]
        for index, request in enumerate(requests):
            _, settings = request.arguments
            groups.setdefault(repr(settings), []).append(index)
            room: Any = normalize_gen_kwargs(settings, self.max_gen_toks)
            self._note([(texts_of(request.arguments), tokens[index] + room["max_gen_toks"])])

        def order(index: int) -> tuple[int, str]:
            return -tokens[index], requests[index].arguments[0]

        batches = [
            batch
            for members in groups.values()
            for batch in _cut(sorted(members, key=order), int(self.batch_size))
        ]
        self._all = len(requests)
        return self._shared(requests, batches, super().generate_until)

    @contextmanager
    def _without_special_tokens(self) -> Iterator[None]:
        self.add_bos_token = False
        try:
            yield
        finally:
            self.add_bos_token = None

    def _note(self, lengths: Iterable[tuple[tuple[str, ...], int]]) -> None:
        """Keep the texts that need more tokens than the model takes."""
        self.cut.update(texts for texts, needed in lengths if needed > self.max_length)

    def _batches(self, requests: Any) -> tuple[Batches, int]:
        """The harness's batches, and how many sequences they are.

        Requests that differ in the last token of the continuation alone are one sequence; the
        longest come first.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (_, context, continuation) in enumerate(requests):
            groups.setdefault((*context, *continuation[:-1]), []).append(index)

        def order(members: list[int]) -> tuple[int, tuple[int, ...]]:
            longest = max(members, key=lambda index: len(requests[index][2]))
            tokens = (*requests[longest][1], *requests[longest][2])
            return -len(tokens), tokens

        cut = _cut(sorted(groups.values(), key=order), int(self.batch_size))
        return [[index for group in batch for index in group] for batch in cut], len(groups)

    def _shared(
        self, requests: Sequence[Any], batches: Batches, compute: Callable[..., list[Any]]
    ) -> list[Any]:
        """Answers to all requests, of which this rank computes its batches."""
        rank, count = place()
        # In their own order, in which the harness's stable sorting makes the same batches again.
        mine = sorted(index for batch in batches[rank::count] for index in batch)
        self._done = 0
        answers = compute([requests[i] for i in mine], disable_tqdm=True) if mine else []
        found = dict(zip(mine, answers, strict=True))
        if count > 1:
            from torch import distributed

            gathered: list[Any] = [None] * count
            distributed.all_gather_object(gathered, found)
            found = {index: answer for part in gathered for index, answer in part.items()}
        return [found[index] for index in range(len(requests))]

    def _require_known(self, ids: torch.Tensor) -> None:
        """Refuse tokens beyond the embedding, which a GPU would meet with an assertion.

        Raises:
            ValueError: with the token.
        """
        largest, rows = int(ids.max()), self.model.get_input_embeddings().weight.shape[0]
        if largest >= rows:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise ValueError(
                f"the tokenizer makes token {largest} ({token!r}) of a question, and the model's "
                f"embedding ends at {rows - 1}: tokenizer and weights do not belong together"
            )

    def _model_call(self, inps: torch.Tensor, **settings: Any) -> torch.Tensor:
        self._require_known(inps)
        logits = super()._model_call(inps, **settings)
        self._tick(len(inps))
        return logits

    def _model_generate(self, context: Any, **settings: Any) -> torch.Tensor:
        self._require_known(context)
        tokens = super()._model_generate(context, **settings)
        self._tick(len(context))
        return tokens

    def _tick(self, sequences: int) -> None:
        self._done += sequences
        if self._progress and self._all:
            self._progress(min(self._done, self._all), self._all)


def _cut(items: list[Any], size: int) -> list[list[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _input_device(model: PreTrainedModel) -> torch.device:
    """Where tokens go: of a model that is spread over devices, its first one that computes."""
    spread = getattr(model, "hf_device_map", None)
    if not spread:
        return model.device
    first = next((d for d in spread.values() if d not in ("cpu", "disk")), "cpu")
    return torch.device("cuda", first) if isinstance(first, int) else torch.device(first)
