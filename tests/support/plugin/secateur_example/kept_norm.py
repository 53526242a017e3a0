"""How much of the dense layers' norm is left: ‖Ŵ‖_F / ‖W‖_F over all layers together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Value
from tasks.measures.reconstruction.layer_errors import CheckpointWeights
from tasks.models.architecture.decoder import describe
from tasks.models.resident import dense_model
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact


class KeptNormSettings(Frozen):
    """Whether norms are compared."""

    kept_norm: bool = True
    """Compare the norm of the layers' weights with the dense model's."""


class KeptNorm(Measure):
    """Of pruned models."""

    name = "kept_norm"
    summary = "share of the layers' Frobenius norm that pruning left"
    writes = ("kept_norm",)
    Settings = KeptNormSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        if not subject.evaluation.kept_norm or subject.dense is None:
            return {}
        step = Step(
            name="kept_norm",
            version=self.version,
            inputs={"dtype": subject.dtype},
            needs={"weights": subject.weights, "dense": subject.dense.weights},
            produce=lambda work: _produce(work, subject.dtype),
            label="kept norm",
            group=subject.label,
        )
        return {"layers": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        return {"kept_norm": found["layers"].facts["share"]}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        figure = Figure(
            column="kept_norm",
            label="norm of the weights (share of the dense model's)",
            heading="kept norm",
            group="norms",
            better="higher",
            axis="linear",
            role="quality",
            dense=1.0,
        )
        return [figure] if "kept_norm" in columns else []


def _produce(work: Work, dtype: str) -> Facts:
    dense = dense_model(work.context, work.need("dense").path, dtype)
    pruned = CheckpointWeights(work.need("weights").path)
    whole = left = 0.0
    for name, layer in describe(dense).layers().items():
        whole += float(layer.stored.double().square().sum())
        left += float(pruned[f"{name}.weight"].double().square().sum())
    return {"share": math.sqrt(left / whole)}
