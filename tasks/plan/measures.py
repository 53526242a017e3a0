"""What is measured of one set of weights, as steps: fingerprinted, nothing computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from configs.schema import Evaluation
from tasks.plan.corpora import Windows
from tasks.store.store import Step

if TYPE_CHECKING:
    from tasks.measures.zero_shot.tasks import ResolvedTask

VERSIONS = {"perplexity": 2, "zero_shot": 1, "speed": 1, "reconstruction": 1}
"""Raise one when its step's results change: artifacts of the former version are not reused."""
RECONSTRUCTION_WINDOWS = 2
"""Evaluation windows on which the layers' outputs are compared with the dense ones."""


@dataclass(frozen=True)
class Measures:
    """The steps that measure one set of weights.

    Attributes:
        perplexity: evaluation name → step; with agreement, the dense model's keeps the hidden
            states that the others are compared with.
        zero_shot: task name → step.
        reconstruction: of a cell: the error of each layer's output.
    """

    perplexity: Mapping[str, Step]
    zero_shot: Mapping[str, Step] = field(default_factory=dict)
    speed: Step | None = None
    reconstruction: Step | None = None

    def steps(self) -> Iterator[Step]:
        """Every step, in the order in which they are computed."""
        yield from (step for _, step in self.labelled())

    def labelled(self) -> Iterator[tuple[str, Step]]:
        """Every step, and what it is called."""
        yield from ((f"perplexity {name}", step) for name, step in self.perplexity.items())
        yield from ((f"zero-shot {name}", step) for name, step in self.zero_shot.items())
        if self.speed:
            yield "speed", self.speed
        if self.reconstruction:
            yield "reconstruction error", self.reconstruction

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What identifies the figures."""
        found: dict[str, Any] = {
            "perplexity": {name: step.fingerprint for name, step in self.perplexity.items()}
        }
        if self.zero_shot:
            found["zero_shot"] = {name: step.fingerprint for name, step in self.zero_shot.items()}
        for name in ("speed", "reconstruction"):
            if step := getattr(self, name):
                found[name] = step.fingerprint
        return found


def measures_of(
    evaluation: Evaluation,
    weights: str,
    dtype: str,
    windows: Mapping[str, Windows],
    tasks: Sequence[ResolvedTask],
    *,
    dense: Measures | None = None,
) -> Measures:
    """The steps that measure ``weights``.

    Args:
        weights: digest of a dense model, or fingerprint of a pruned one.
        dense: measures of the dense model that a pruned one came from.
    """
    common = {"weights": weights, "dtype": dtype}
    perplexity: dict[str, Step] = {}
    for name, entry in windows.items():
        inputs: dict[str, Any] = {
            "version": VERSIONS["perplexity"],
            **common,
            "tokens": entry.step.fingerprint,
        }
        if evaluation.agreement:
            inputs["reference"] = dense.perplexity[name].fingerprint if dense else "itself"
        perplexity[name] = Step("perplexity", inputs)
    zero_shot = {
        task.name: Step(
            "zero_shot",
            {
                "version": VERSIONS["zero_shot"],
                **common,
                "task": dict(task.identity),
                "limit": evaluation.zero_shot.limit,
                "num_fewshot": evaluation.zero_shot.num_fewshot,
            },
        )
        for task in tasks
    }
    speed = None
    if evaluation.speed:
        options: dict[str, Any] = evaluation.speed_options.model_dump()
        if evaluation.device_map != "none":
            options |= {"device_map": evaluation.device_map, "max_memory": evaluation.max_memory}
        speed = Step("speed", {"version": VERSIONS["speed"], **common, **options})
    reconstruction = None
    if dense and evaluation.reconstruction:
        first = next(iter(windows.values()))
        reconstruction = Step(
            "reconstruction",
            {
                "version": VERSIONS["reconstruction"],
                **common,
                "tokens": first.step.fingerprint,
                "windows": RECONSTRUCTION_WINDOWS,
            },
        )
    return Measures(perplexity, zero_shot, speed, reconstruction)
