"""What a model weighs, as a measure: counted in the pass that measures perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Value
from tasks.measures.perplexity.measure import steps_of
from tasks.store.steps import Step
from tasks.store.store import Artifact

_GROUP = "size"
_FIGURES = (
    Figure(column="parameters", label="parameters", heading="parameters", group=_GROUP, better="",
           format="count"),
    Figure(column="nonzero_parameters", label="parameters that are not zero", heading="non-zeros",
           group=_GROUP, format="count"),
    Figure(column="bytes_on_disk", label="size on disk", heading="on disk", unit="MiB",
           group=_GROUP, format="bytes", role="cost"),
)  # fmt: skip


class SizeSettings(Frozen):
    """Size is measured always, and has no field."""


class Size(Measure):
    """Weights as they were measured, side branches included, tied ones once."""

    name = "size"
    summary = "weights, those that are not zero, and bytes on disk"
    writes = tuple(figure.column for figure in _FIGURES)
    Settings = SizeSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        return dict(islice(steps_of(subject).items(), 1))

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        (artifact,) = found.values()
        return {figure.column: artifact.facts[figure.column] for figure in _FIGURES}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        return [figure for figure in _FIGURES if figure.column in columns]
