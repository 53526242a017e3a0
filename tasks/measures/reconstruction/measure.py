"""The error of each pruned layer's output as a measure."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from configs.frozen import Frozen
from tasks.data.texts import load_tokens
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import as_json
from tasks.measures.figures import Figure, Value
from tasks.measures.perplexity.measure import windows_of
from tasks.measures.reconstruction.layer_errors import CheckpointWeights, reconstruction_errors
from tasks.models.architecture.decoder import describe
from tasks.models.load import best_device, load_model
from tasks.models.resident import dense_model
from tasks.models.saved.source_side import file_names
from tasks.pruning.core.blocks import Decoder
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

COLUMN = "reconstruction_error"
_UNREACHED = f"{COLUMN}/unreached"
_WINDOWS = 2
"""Windows of the first evaluation corpus on which outputs are compared."""

_GROUP = "agreement with the dense model"
_FIGURES = (
    Figure(column=COLUMN, label="mean reconstruction error of a layer", heading="layer error",
           group=_GROUP, role="quality", dense=0.0),
    Figure(column=_UNREACHED, label="layers of experts that none of its tokens reaches",
           heading="layers left out", group=_GROUP, unit="layers", format="count", better=""),
)  # fmt: skip


class ReconstructionSettings(Frozen):
    """Whether layers are compared with the dense ones."""

    reconstruction: bool = True
    """Compare each pruned layer's output with the dense one's, on windows of the first corpus."""


class Reconstruction(Measure):
    """Of pruned models, mean over their layers."""

    name = "reconstruction"
    version = 3
    summary = "mean relative error of a pruned layer's output, on the dense model's inputs"
    writes = (COLUMN, _UNREACHED)
    Settings = ReconstructionSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        evaluation = subject.evaluation
        if not (evaluation.reconstruction and evaluation.perplexity) or subject.dense is None:
            return {}
        step = Step(
            name="reconstruction",
            version=self.version,
            inputs={"windows": _WINDOWS, "dtype": subject.dtype},
            needs={
                "weights": subject.weights,
                "dense": subject.dense.weights,
                "tokens": windows_of(subject, 0).step,
            },
            produce=lambda work: _produce(work, subject),
            label="reconstruction error",
            group=subject.label,
        )
        return {"layers": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        facts = found["layers"].facts
        unreached = facts["unreached"]
        return {COLUMN: float(facts["mean"]), **({_UNREACHED: unreached} if unreached else {})}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        return [figure for figure in _FIGURES if figure.column in columns]

    def layers(self, found: Mapping[str, Artifact]) -> Mapping[str, Mapping[str, float]]:
        errors = found["layers"].facts["layer_errors"]
        return {COLUMN: {name: float(error) for name, error in errors.items()}}

    def notes(self, rows: Sequence[Mapping[str, Value]]) -> Sequence[str]:
        if all(row.get(COLUMN) is None for row in rows):
            return ()
        most = max(row.get(_UNREACHED) or 0 for row in rows)
        left_out = f" and at most {most} of experts that none of its tokens reaches" if most else ""
        return (
            "Reconstruction error: ‖X(W−Ŵ)ᵀ‖ / ‖XWᵀ‖ of a layer on the dense model's inputs, "
            f"mean over layers but excluded ones{left_out}; 0 is unpruned, 1 is as bad as a layer "
            "of zeros.",
        )


def _pruned_weights(work: Work, decoder: Decoder, dtype: torch.dtype) -> Mapping[str, Tensor]:
    """The checkpoint's tensors by the model's own names.

    Files may name tensors otherwise, as those of most mixtures of experts do: then transformers
    loads them.
    """
    folder = work.need("weights").path
    stored = CheckpointWeights(folder, file_names(decoder.model))  # type: ignore[arg-type]
    if all(layer.parameter_of(name) in stored for name, layer in decoder.layers().items()):
        return stored
    model = load_model(folder, dtype, torch.device("cpu"), work.context.trust)
    return ChainMap(dict(model.state_dict()), stored)  # type: ignore[arg-type]


def _produce(work: Work, subject: Subject) -> Facts:
    dense = dense_model(work.context, work.need("dense").path, subject.dtype, by_block=True)
    decoder = describe(dense, subject.exclude)
    errors = reconstruction_errors(
        dense,
        decoder,
        _pruned_weights(work, decoder, dense.dtype),
        load_tokens(work.need("tokens"))[:_WINDOWS],
        batch_size=subject.evaluation.batch_size,
        device=best_device(),
        progress=work.progress,
    )
    meant = [error for name, error in errors.items() if not decoder.excludes(name)]
    return {
        "layer_errors": {name: as_json(error) for name, error in errors.items()},
        "mean": as_json(sum(meant) / len(meant)),
        "unreached": len(decoder.pruned_layers().keys() - errors.keys()),
    }
