"""The network: a pre-trained body, its states where examples are read, one linear layer.

Shapes: ``B`` examples, ``L`` tokens, ``R`` readings, ``H`` hidden size, ``S`` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from tasks.measures.tuning.batches import Batch
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import is_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["last", "sum4", "concat4"]
_LAYERS = 4
"""Last layers that ``sum4`` and ``concat4`` read."""
_DROPOUT = 0.1
_SPREAD = 0.02
"""Standard deviation of new weights."""


class TaskNetwork(nn.Module):
    """Logits of every column for one reading a row.

    An encoder is read where a reading opens, which sees the whole text; a decoder where it closes,
    which has seen all that is asked about.

    Args:
        model: its body is trained; the head that a decoder predicts tokens with is not used.
        generator: of the head's first weights, on the CPU.

    Raises:
        UnsupportedModelError: fewer layers than the pooling reads.
    """

    def __init__(
        self, model: PreTrainedModel, columns: int, pooling: Pooling, generator: torch.Generator
    ) -> None:
        super().__init__()
        config: Any = model.config.get_text_config(decoder=True)
        if pooling != "last" and config.num_hidden_layers < _LAYERS:
            raise UnsupportedModelError(
                f"pooling {pooling} reads {_LAYERS} layers, and the model has "
                f"{config.num_hidden_layers}: take last"
            )
        self.model, self.pooling = model, pooling
        self.at_opening = is_encoder(model.config)
        width = config.hidden_size * (_LAYERS if pooling == "concat4" else 1)
        self.head = nn.Linear(width, columns)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(columns, width, generator=generator).mul_(_SPREAD))
            self.head.bias.zero_()
        self.head.to(next(model.parameters()).device)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, ``R × S``, float32."""
        return self.answers(self.states(batch))

    def states(self, batch: Batch) -> Tensor:
        """What the body says where the examples are read, ``R × H``, or four times as wide."""
        states = self.model.base_model(
            input_ids=batch.ids_BL,
            attention_mask=batch.attended_BL,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        places_R = batch.opens_R if self.at_opening else batch.closes_R
        found = [state_BLH[batch.rows_R, places_R] for state_BLH in states[-_LAYERS:]]
        if self.pooling == "last":
            return found[-1]
        return torch.stack(found).sum(0) if self.pooling == "sum4" else torch.cat(found, dim=-1)

    def answers(self, states_RH: Tensor) -> Tensor:
        """Logits of what :meth:`states` returned."""
        return self.head(self.dropout(states_RH.float()))


def learn_tokens_(
    model: PreTrainedModel, tokenizer: Any, tokens: Sequence[str], generator: torch.Generator
) -> None:
    """Give tokenizer and model the task's tokens; those that they have stay as they are.

    New embeddings are drawn around the mean of the others, with their spread.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) <= rows:
        return
    mean_H = embedding.weight.detach().float().mean(0)
    spread = float(embedding.weight.detach().float().std())
    # By hand: transformers would draw from torch's global generator.
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    grown: Any = model.get_input_embeddings()
    drawn = torch.randn(len(tokenizer) - rows, mean_H.numel(), generator=generator) * spread
    with torch.no_grad():
        grown.weight[rows:] = mean_H + drawn.to(mean_H)
