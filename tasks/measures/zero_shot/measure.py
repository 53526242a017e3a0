"""Zero-shot tasks as a measure."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from configs.frozen import Frozen, unique
from tasks.measures.base import Measure


class Tasks(Frozen):
    """Tasks of lm-evaluation-harness."""

    tasks: Annotated[tuple[str, ...], AfterValidator(unique)] = ()
    """Names of tasks or groups that the harness knows, or paper-seven for the papers' seven."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many documents of each task; empty: all."""
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples before each question; empty: as the task itself says."""
    include_path: str | None = None
    """A folder with task files of your own, beside the harness's tasks."""

    @model_validator(mode="after")
    def _nothing_without_tasks(self) -> Self:
        if not self.tasks:
            for name in ("limit", "num_fewshot", "include_path"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} needs tasks: name at least one")
        return self


class ZeroShotSettings(Frozen):
    """Which zero-shot tasks are asked."""

    zero_shot: Tasks = Tasks()
    """Zero-shot tasks."""


class ZeroShot(Measure):
    """accuracy on tasks of lm-evaluation-harness, with standard errors"""

    name = "zero_shot"
    summary = "accuracy on tasks of lm-evaluation-harness, with standard errors"
    Settings = ZeroShotSettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
