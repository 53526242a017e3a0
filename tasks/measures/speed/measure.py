"""Speed as a measure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from configs.frozen import Frozen
from tasks.measures.base import Measure


class Requests(Frozen):
    """How speed is measured."""

    prompt_tokens: Annotated[int, Field(ge=2)] = 512
    """Tokens of the prompt that prefill reads."""
    new_tokens: Annotated[int, Field(ge=1)] = 32
    """Tokens that decoding adds, one at a time with a key-value cache."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Prompts at once."""
    warmup: Annotated[int, Field(ge=0)] = 1
    """Repetitions before any is measured."""
    repetitions: Annotated[int, Field(ge=1)] = 5
    """Measured repetitions; their median and spread are told."""


class SpeedSettings(Frozen):
    """Whether and how speed is measured."""

    speed: bool = False
    """Measure tokens a second, latency and memory of the dense and of every pruned model."""
    speed_options: Requests = Requests()
    """How speed is measured."""


class Speed(Measure):
    """tokens a second, latency and memory on this hardware"""

    name = "speed"
    summary = "tokens a second, latency and memory on this hardware"
    Settings = SpeedSettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
