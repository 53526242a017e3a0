"""A sweep's ``evaluation``: how it is computed, and the fields of every measure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from configs.frozen import Frozen, Made, matching
from tasks.measures.registry import measures

Device = Annotated[
    str, matching(r"^(cpu|disk|mps|[0-9]{1,3})$", "a device is a GPU's number, cpu, mps or disk")
]
Size = Annotated[
    str,
    matching(r"^[0-9]{1,9}(\.[0-9]{1,6})? ?([KMGT]i?B)$", "a size is a number and a unit: 20GiB"),
]


class Computing(Frozen):
    """How whatever is measured is computed; it changes speed and memory, never the figures."""

    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """Accelerate processes that share windows, documents and a tuning's batches; empty: one a GPU,
    or one on a CPU."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 4
    """Windows of one forward pass; changes speed and memory, never the figures."""
    device_map: Literal["none", "auto"] = "none"
    """auto: spread a model that is too large for one device over all, then memory, then disk."""
    max_memory: dict[Device, Size] = Field(default={})
    """With device_map auto: what each device may hold, such as {"0": 20GiB, cpu: 60GiB}."""

    @model_validator(mode="after")
    def _memory_belongs_to_the_map(self) -> Self:
        if self.max_memory and self.device_map == "none":
            raise ValueError("max_memory belongs to device_map auto")
        if self.device_map == "auto" and (self.processes or 1) > 1:
            raise ValueError("device_map auto uses one process: leave processes empty or 1")
        return self


def _evaluation() -> Any:
    """One model with the fields of every measure's settings, measure by measure."""
    settings = [measure.Settings for measure in measures().values()]
    owners: dict[str, str] = {}
    for kind in (*settings, Computing):
        for name in kind.model_fields:
            former = owners.setdefault(name, kind.__qualname__)
            if former != kind.__qualname__:
                raise ValueError(f"evaluation.{name} belongs to both {former} and {kind}")
    # Python looks bases up from the left, pydantic lists fields from the right.
    return create_model(
        "Evaluation",
        __base__=(*reversed((*settings, Computing)), Made),  # the last one's settings hold
        __doc__="What is measured on the dense and on every pruned model.",
    )


Evaluation: Any = _evaluation()
