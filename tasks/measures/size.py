"""What a model weighs, as a measure: what its checkpoint holds, however it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import network
from tasks.measures.figures import Figure, Value
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.placement import added, counts_by_name
from tasks.models.saved.compact import cuts_of
from tasks.models.saved.kept import kept_of_json
from tasks.models.saved.pruned import read_metadata
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 2
_GROUP = "size"
_FIGURES = (
    Figure(column="parameters", label="parameters", heading="parameters", group=_GROUP, better="",
           format="count"),
    Figure(column="nonzero_parameters", label="parameters that are not zero", heading="non-zeros",
           group=_GROUP, format="count"),
    Figure(column="bytes_on_disk", label="size of the weights", heading="weights", unit="MiB",
           group=_GROUP, format="bytes", role="cost"),
)  # fmt: skip
"""``bytes_on_disk`` is parameters × bytes of one, and no folder's size: zeros count, heads and
channels that were removed do not, though the sweep's own checkpoint holds them as zeros."""


class SizeSettings(Frozen):
    """Size is measured always, and has no field."""


class Size(Measure):
    """Weights without removed heads and channels, side branches included, tied ones once."""

    name = "size"
    summary = "weights, those that are not zero, and their bytes"
    version = VERSION
    writes = tuple(figure.column for figure in _FIGURES)
    always = True
    Settings = SizeSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        step = Step(
            name="size",
            version=VERSION,
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


def zeros_of(found: Mapping[str, Artifact]) -> float | None:
    """A dense model's share of zeros, over the layers that a pruned one's is counted over.

    Args:
        found: its artifacts of this measure.

    Returns:
        None where it was not counted, or where no blocks are found in the model.
    """
    return next((artifact.facts["sparsity"] for artifact in found.values()), None)


def _produce(work: Work, subject: Subject) -> Facts:
    model = network(work, subject)
    metadata = read_metadata(work.need("weights").path)
    # A spread model is in its full size; otherwise what was removed is cut out of it already.
    full = subject.dense is not None and subject.evaluation.device_map == "auto"
    kept = kept_of_json(metadata["kept"]) if full and "kept" in metadata else None
    counts = counts_by_name(model, cuts_of(describe(model), kept) if kept else {})
    parameters, nonzero = added(counts.values())
    return {
        "parameters": parameters,
        "nonzero_parameters": nonzero,
        "bytes_on_disk": parameters * model.dtype.itemsize,
        "sparsity": _zeros(model, counts) if subject.dense is None else None,
    }


def _zeros(model: PreTrainedModel, counts: Mapping[str, tuple[int, int]]) -> float | None:
    try:
        layers = describe(model).layers()
    except UnsupportedModelError:  # such a model can be measured, and not pruned
        return None
    names = {layer.parameter_of(name) for name, layer in layers.items()}
    total, nonzero = added(counts[name] for name in names)
    return 1.0 - nonzero / total
