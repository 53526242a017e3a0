"""The fields that every task has which models are tuned for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from configs.frozen import Frozen

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Tuning(Frozen):
    """How a model is tuned for a task."""

    name: TaskName
    """Names the results' columns."""
    finetune: Literal["before", "after"] = "after"
    """after: each pruned model is tuned, its zeros held; before: the tuned dense one is pruned."""
    epochs: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Passes over the training data."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    """AdamW's; 5e-4 for MiniLM, 2e-5 for BERT-base and larger."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 16
    """Candidates, texts or sentences of one optimiser step."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps in which the learning rate rises; it falls to 0 in the others."""
    pooling: Literal["last", "sum4", "concat4"] = "last"
    """Last layer, sum of the last four, or those side by side."""
    max_tokens: Annotated[int, Field(ge=8, le=65_536)] = 256
    """The end of longer texts is cut, never a candidate."""
    seed: Annotated[int, Field(ge=0, lt=2**40)] = 0
    """Of the new weights, the order of examples, and dropout."""


class LabelledFiles(Frozen):
    """Where labelled texts come from: files of JSON lines."""

    train: str
    """File to learn from; without test, a quarter of its texts is held back for that."""
    test: str | None = None
    """File that is scored."""


SHARED = ("epochs", "learning_rate", "batch_size", "warmup", "pooling", "max_tokens", "seed")
"""What determines a tuned model, whatever the task."""
