"""Perplexity as a measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from configs.corpora import Corpus
from configs.frozen import Frozen, unique
from tasks.data.texts import Windows, load_tokens
from tasks.measures.base import Measure, Subject
from tasks.measures.computing import as_json, network, processes_of, scratch_of
from tasks.measures.figures import Figure, Row, Value, instances
from tasks.models.load import best_device, resolve_dtype
from tasks.models.resident import leave_gpus
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

PREFIX = "perplexity/"
VERSION = 2


class Corpora(Frozen):
    """One corpus to measure perplexity on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "python-docs"
    """Names the result's column: perplexity/<name>."""
    corpus: Corpus = Corpus()
    """Where the text comes from."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a window; windows follow each other without overlap, from the start."""
    windows: Annotated[int, Field(ge=1)] | None = None
    """How many windows; empty: all that the corpus holds, of several texts as many as keep their
    shares."""


def _unique_names(entries: tuple[Corpora, ...]) -> tuple[Corpora, ...]:
    unique(tuple(entry.name for entry in entries))
    return entries


class PerplexitySettings(Frozen):
    """Which corpora perplexity is measured on."""

    perplexity: Annotated[tuple[Corpora, ...], AfterValidator(_unique_names)] = (
        Corpora(windows=32),
    )
    """The corpora to measure perplexity on; [] for none, as with encoders."""


def windows_of(subject: Subject, index: int) -> Windows:
    """The windows of the sweep's corpus number ``index``."""
    entry: Corpora = subject.evaluation.perplexity[index]
    return subject.windows(
        field=f"evaluation.perplexity[{index}]",
        name=entry.name,
        corpus=entry.corpus,
        length=entry.sequence_length,
        count=entry.windows,
    )


def steps_of(subject: Subject) -> dict[str, Step]:
    """Corpus name → the step that measures perplexity on it.

    With agreement, the dense model's own keeps the hidden states that the others are compared with.
    """
    compared = subject.evaluation.agreement and subject.dense
    references = steps_of(compared) if compared else {}
    found: dict[str, Step] = {}
    for index, entry in enumerate(subject.evaluation.perplexity):
        needs = {"weights": subject.weights, "tokens": windows_of(subject, index).step}
        if compared:
            needs |= {"reference": references[entry.name], "dense": compared.weights}
        found[entry.name] = Step(
            name="perplexity",
            version=VERSION,
            inputs={
                "dtype": subject.dtype,
                "keeps_states": subject.evaluation.agreement and subject.dense is None,
            },
            needs=needs,
            produce=lambda work: _produce(work, subject),
            label=f"perplexity {entry.name}",
            group=subject.label,
        )
    return found


def _produce(work: Work, subject: Subject) -> Facts:
    from tasks.measures.perplexity.reference import Reference
    from tasks.measures.perplexity.run import evaluate_windows

    evaluation, device = subject.evaluation, best_device()
    dtype = resolve_dtype(subject.dtype, device)
    cut = work.need("tokens")
    tokens_NL = load_tokens(cut)
    processes = processes_of(evaluation, len(tokens_NL))
    reference = None
    if "reference" in work.step.needs:
        reference = Reference(work.need("reference").path, work.need("dense").path)
    if processes > 1:
        leave_gpus(work.context)
    with scratch_of(work) as scratch:
        result = evaluate_windows(
            network(work, subject) if processes == 1 else work.need("weights").path,
            tokens_NL,
            dtype=dtype,
            device=device,
            trust=work.context.trust,
            batch_size=evaluation.batch_size,
            processes=processes,
            device_map=evaluation.device_map,
            max_memory=evaluation.max_memory,
            reference=reference,
            write_reference=work.out if work.step.inputs["keeps_states"] else None,
            scratch=scratch,
            progress=work.progress,
        )
    facts: dict[str, Any] = {
        "perplexity": as_json(result.perplexity),
        "nll": as_json(result.nll),
        "tokens": result.tokens,
        "windows": len(tokens_NL),
        "prefix": cut.facts["prefix"],
        **{name: value for name, value in cut.facts.items() if name.startswith("documents")},
        "seconds": result.seconds,
        "peak_memory_bytes": max(result.peak_memory_bytes),
        "processes": processes,
        "batch_size": evaluation.batch_size,
        "device_map": evaluation.device_map,
    }
    if result.kl is not None:
        facts |= {"kl": as_json(result.kl), "top1_agreement": result.top1_agreement}
    return facts


class Perplexity(Measure):
    """Perplexity of token windows; its steps also hold what agreement tells."""

    name = "perplexity"
    summary = "how well the model predicts a text: exp of the mean loss of a token"
    version = VERSION
    writes = (f"{PREFIX}<name>",)
    suggested_for = "decoders"
    on_form = ("perplexity",)
    Settings = PerplexitySettings

    def asks_of_encoders(self, evaluation: Any) -> str:
        return "evaluation.perplexity=[]" if evaluation.perplexity else ""

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        return steps_of(subject)

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        return {PREFIX + name: float(a.facts["perplexity"]) for name, a in found.items()}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        names = instances(columns, PREFIX)
        return [
            Figure(
                column=PREFIX + name,
                label=f"perplexity on {name}",
                heading="perplexity" if len(names) == 1 else f"perplexity {name}",
                group="perplexity",
                format="precise",
                axis="log",
                role="quality",
                headline=True,
                relative=True,
            )
            for name in names
        ]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if len({row.get("model") for row in rows}) < 2:
            return ()
        return (
            "Each model counts tokens of its own tokenizer: compare perplexities within a model.",
        )

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        told: dict[str, str] = {}
        for index, entry in enumerate(subject.evaluation.perplexity):
            if entry.name in found:
                text, facts = windows_of(subject, index).facts, found[entry.name].facts
                prefix = ", ".join(map(str, facts["prefix"]))
                start = f"each window starts with token {prefix}" if prefix else "no BOS"
                if len(facts["prefix"]) > 1:
                    start += ", all but the first of which are predicted and counted"
                if "documents_cut" in facts:
                    start += f"; documents: {facts['documents']}, cut by windows: "
                    start += str(facts["documents_cut"])
                told[f"perplexity on {entry.name}"] = (
                    f"{text.description}; {facts['windows']} windows of {entry.sequence_length} "
                    f"tokens, {facts['tokens']} predicted tokens, {start}; SHA-256 {text.digest}"
                )
        return told
