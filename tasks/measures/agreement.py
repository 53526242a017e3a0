"""Agreement with the dense model as a measure: told in the pass that measures perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Value, instances, present
from tasks.measures.perplexity.measure import steps_of
from tasks.store.steps import Step
from tasks.store.store import Artifact

KL, TOP1 = "kl/", "top1_agreement/"


class AgreementSettings(Frozen):
    """Whether pruned models are compared with the dense one."""

    agreement: bool = True
    """Compare with the dense model on the same windows: KL divergence and top-1 agreement."""


class Agreement(Measure):
    """Of pruned models; the steps are those of perplexity."""

    name = "agreement"
    summary = "KL divergence from the dense model and how often both predict the same token"
    writes = (f"{KL}<name>", f"{TOP1}<name>")
    Settings = AgreementSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        return steps_of(subject) if subject.evaluation.agreement and subject.dense else {}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for name, artifact in found.items():
            row[KL + name] = float(artifact.facts["kl"])
            row[TOP1 + name] = artifact.facts["top1_agreement"]
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        group = "agreement with the dense model"
        names = instances(columns, KL)
        several = len(names) > 1
        divergences = [
            Figure(
                column=KL + name,
                label=f"KL from the dense model on {name}",
                heading=f"KL {name}" if several else "KL",
                group=group,
                unit="nats/token",
                role="quality",
                dense=0.0,
            )
            for name in names
        ]
        agreements = [
            Figure(
                column=TOP1 + name,
                label=f"same first choice as the dense model on {name}",
                heading=f"top-1 {name}" if several else "top-1",
                group=group,
                unit="%",
                better="higher",
                format="percent",
                axis="linear",
                role="quality",
                dense=1.0,
            )
            for name in instances(columns, TOP1)
        ]
        return [*divergences, *agreements]

    def notes(self, rows: Sequence[Mapping[str, Value]]) -> Sequence[str]:
        if not present(self.figures([column for row in rows for column in row]), rows):
            return ()
        return (
            "KL: mean divergence of the pruned model's predictions from the dense model's.",
            "Top-1: how often both predict the same token.",
        )
