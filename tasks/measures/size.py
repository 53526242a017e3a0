"""What a model weighs, as a measure: counted where perplexity is measured, else by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import network
from tasks.measures.figures import Figure, Value
from tasks.measures.perplexity.measure import steps_of
from tasks.models.placement import count_weights
from tasks.store.steps import Facts, Step, Work
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
    always = True
    Settings = SizeSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        if subject.evaluation.perplexity:
            return dict(islice(steps_of(subject).items(), 1))
        step = Step(
            name="size",
            inputs={"dtype": subject.dtype},
            needs={"weights": subject.weights},
            produce=lambda work: _produce(work, subject),
            label="size",
            group=subject.label,
        )
        return {"size": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        (artifact,) = found.values()
        return {figure.column: artifact.facts[figure.column] for figure in _FIGURES}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        return [figure for figure in _FIGURES if figure.column in columns]


def _produce(work: Work, subject: Subject) -> Facts:
    model = network(work, subject)
    parameters, nonzero = count_weights(model)
    return {
        "parameters": parameters,
        "nonzero_parameters": nonzero,
        "bytes_on_disk": parameters * model.dtype.itemsize,
    }
