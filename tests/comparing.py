"""A small sweep's row as a tree of steps, built by hand, and the result that it flattens to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.provenance.inputs import Record, flattened
from tasks.provenance.result import Result

ENVIRONMENT = {"torch": "2.13.0", "threads": "2", "secateur": "0.1.0+abc"}
WRITTEN = "2026-01-01"


def tokens(**changes: Any) -> dict[str, Any]:
    """A text's windows: changes are made to inputs, words or facts by their names."""
    inputs = {"corpus": "c" * 64, "length": 64, "count": 2, "seed": None, "skip": 0}
    words = {"corpus": "Docs", "split": "heldout"}
    facts = {"bos": "none", "vocabulary": "v" * 64, "content": "t1"}
    return _record("tokens", inputs, words, facts, {"model": "model/m"}, changes)


def _record(
    step: str,
    inputs: dict[str, Any],
    words: dict[str, str],
    facts: dict[str, Any],
    needs: dict[str, str],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    parts = {"inputs": inputs, "words": words, "facts": facts}
    facts |= {"environment": dict(ENVIRONMENT), "written": WRITTEN}
    for name, value in changes.items():
        part, _, rest = name.partition("__")
        parts[part][rest] = value
    return {"step": step, "version": 1, "needs": needs, **parts}


@dataclass
class Row:
    """A cell of wanda at 0.5, to be changed before it is flattened.

    Attributes:
        steps: place → record.
    """

    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = {"model": "model/m"}
        self.steps |= {
            "model/m": _record("model", {"model": "1" * 64}, {"model": "tiny", "source": "hub"},
                               {}, {}, {}),
            "tokens/e": tokens(),
            "tokens/c": tokens(words__corpus="More docs", inputs__corpus="d" * 64,
                               facts__content="t2"),
            "statistics/s": _record("statistics", {"windows": 2, "dtype": "float32"}, {}, {},
                                    {**model, "tokens": "tokens/c"}, {}),
            "checkpoint/k": _record(
                "checkpoint",
                {"method": "wanda", "options": {"a": 1, "b": "x"}, "target": "0.5", "seed": None,
                 "dtype": "float32"},
                {}, {}, {**model, "statistics": "statistics/s"}, {}),
            "pruned/k": _record("pruned", {}, {}, {"layers": "7 (q_proj)", "counted_weights": 100},
                                {"checkpoint": "checkpoint/k"}, {}),
            "perplexity/p": _record("perplexity", {"dtype": "float32"}, {}, {"tokens": 126},
                                    {"weights": "checkpoint/k", "dense": "model/m",
                                     "tokens": "tokens/e"}, {}),
        }  # fmt: skip

    def change(self, place: str, **changes: Any) -> Row:
        """Set entries of a step's record: ``inputs__length=32``, ``facts__tokens=62``."""
        record = self.steps[place]
        for name, value in changes.items():
            part, _, rest = name.partition("__")
            if value is None and part == "facts":
                del record[part][rest]
            else:
                record[part][rest] = value
        return self

    def result(
        self,
        perplexity: float = 20.0,
        dense: float = 10.0,
        sparsity: float = 0.5,
        corpus: str = "docs",
        goals: Mapping[str, str] | None = None,
        columns: Mapping[str, str] | None = None,
        **metrics: float,
    ) -> Result:
        """The row with its figures."""
        role = f"perplexity/{corpus}"
        goals = goals or {"weights": "checkpoint/k", role: "perplexity/p", "pruned": "pruned/k"}
        columns = columns or {role: role, f"kl/{corpus}": role}
        steps: Mapping[str, Record] = self.steps
        return Result(
            reference="x",
            title="wanda 0.5 of tiny, seed 0",
            origin="/sweeps/x",
            metrics={"sparsity": sparsity, role: perplexity, f"dense_{role}": dense, **metrics},
            inputs=flattened(goals, columns, steps),
        )


def without_calibration(row: Row, method: str) -> Row:
    """The same cell by a method that looks at no text."""
    row.change("checkpoint/k", inputs__method=method, inputs__options={})
    del row.steps["checkpoint/k"]["needs"]["statistics"]
    return row
