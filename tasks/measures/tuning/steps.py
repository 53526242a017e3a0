"""The steps of a task that models are tuned for: a tuned network, its score."""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from tasks.measures.base import Subject
from tasks.measures.tuning.settings import SHARED, Tuning
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import best_device, load_tokenizer
from tasks.models.saved.pruned import BRANCHES, load_pruned
from tasks.runtime.memory import measured
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from tasks.measures.tuning.batches import Batch, Encoded
    from tasks.measures.tuning.network import TaskNetwork

_HEAD, _HISTORY = "head.safetensors", "history.json"
_TUNING_VERSION = 3
TEST = "test"
"""The part of the data that figures are of."""


class Task(ABC):
    """A task, to the code that tunes models for it and scores them.

    Attributes:
        kind: begins the names of its steps.
        words: names it where progress is told.
        version: of the score; raise it when results change.
        judged: the parts of the data that a score looks at.
        repeated: facts of what was learned that a score tells too.
        options: how models are tuned for it.
        data: the step of its data.
        columns: of the network.
        tokens: what a tokenizer learns for it, each one token.
        learning, scoring: what determines a tuned model, and a score, beyond what all tasks have.
    """

    kind: ClassVar[str]
    words: ClassVar[str]
    version: ClassVar[int]
    judged: ClassVar[tuple[str, ...]]
    repeated: ClassVar[tuple[str, ...]] = ()
    options: Tuning
    data: Step
    columns: int
    tokens: Sequence[str] = ()
    learning: Mapping[str, Any]
    scoring: Mapping[str, Any]

    @abstractmethod
    def read(self, data: Artifact) -> Mapping[str, Sequence[Any]]:
        """Part → its records; ``train`` is learned from."""

    @abstractmethod
    def encode(self, records: Sequence[Any], tokenizer: Any, longest: int) -> list[Encoded]:
        """The examples of a part.

        Raises:
            ConfigurationError: what must not be cut would be.
        """

    @abstractmethod
    def loss(self, logits_RS: Tensor, batch: Batch) -> Tensor:
        """A batch's mean loss over its readings."""

    @abstractmethod
    def learned(self, encoded: Sequence[Encoded]) -> Facts:
        """What is worth knowing of the examples that were learned from."""

    @abstractmethod
    def score(
        self,
        records: Mapping[str, Sequence[Any]],
        encoded: Mapping[str, Sequence[Encoded]],
        logits: Mapping[str, Tensor],
        out: Path,
    ) -> Facts:
        """Figures, from the logits of every reading of the parts that are ``judged``.

        Args:
            records: of all parts.
            encoded: of the parts that are judged, as the logits.
            out: a folder for tables.
        """


def score_step(subject: Subject, task: Task) -> Step:
    """The step that scores the subject on a task."""
    before = task.options.finetune == "before" and subject.dense is not None
    tuned = _tuning(subject.dense if before and subject.dense else subject, task)
    needs = {"tuned": tuned, "data": task.data}
    if before:
        assert subject.pruned_again is not None
        needs["weights"] = subject.pruned_again(tuned)
    given = {name: getattr(task.options, name) for name in ("pooling", "max_tokens")}
    return Step(
        name=f"{task.kind}_score",
        version=task.version,
        inputs={**given, **task.scoring},
        needs=needs,
        produce=lambda work: _score(work, subject, task),
        label=f"{task.words} {task.options.name}",
        group=subject.label,
    )


def _tuning(subject: Subject, task: Task) -> Step:
    return Step(
        name=f"{task.kind}_finetune",
        version=_TUNING_VERSION,
        inputs={**{name: getattr(task.options, name) for name in SHARED}, **task.learning},
        needs={"weights": subject.weights, "data": task.data},
        produce=lambda work: _finetune(work, subject, task),
        label=f"tune for {task.options.name}",
        group=subject.label,
    )


def _loaded(work: Work, role: str) -> tuple[PreTrainedModel, Any]:
    """A model in float32, full-size, and its tokenizer.

    Raises:
        UnsupportedModelError: its side branches would be tuned and lost.
    """
    folder, trust = work.need(role).path, work.context.trust
    if (folder / BRANCHES).is_file():
        raise UnsupportedModelError(
            "a model with low-rank side branches cannot be tuned for a task: they are no part of "
            "its weights. Prune it without them (options.ast.slorb)"
        )
    model = load_pruned(folder, torch.float32, best_device(), trust, sliced=False)
    return model, load_tokenizer(folder, trust)


def _longest(model: PreTrainedModel, task: Task) -> int:
    from tasks.data.windows import positions_of

    asked = task.options.max_tokens
    return min(asked, positions_of(model.config) or asked)


def _finetune(work: Work, subject: Subject, task: Task) -> Facts:
    from tasks.measures.tuning import training
    from tasks.measures.tuning.network import TaskNetwork, learn_tokens_
    from tasks.training.checkpoints import Checkpoints
    from tasks.training.engine import AccelerateEngine, accelerator_for

    parts = task.read(work.need("data"))
    work.need("weights")
    # What was needed has told its own time.
    start, generator = time.perf_counter(), torch.Generator().manual_seed(task.options.seed)
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, "weights")
        held = training.zeros_of(model) if subject.dense is not None else {}
        learn_tokens_(model, tokenizer, task.tokens, generator)
        network = TaskNetwork(model, task.columns, task.options.pooling, generator)
        longest = _longest(model, task)
        # All parts: what would be cut is told before anything is learned.
        encoded = {
            part: task.encode(records, tokenizer, longest) for part, records in parts.items()
        }
        given = ("epochs", "learning_rate", "batch_size", "warmup", "seed")
        recipe = training.Recipe(**{name: getattr(task.options, name) for name in given})
        with accelerator_for(best_device(), torch.float32) as accelerator:
            history = training.fine_tune_(
                network,
                [example for example in encoded["train"] if example.readings],
                recipe,
                task.loss,
                held,
                padding=tokenizer.pad_token_id or 0,
                engine=AccelerateEngine(accelerator, Checkpoints(_scratch(work, work.step))),
                progress=work.progress,
            )
    _save(network, tokenizer, history, work.out, task)
    return {
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak.bytes,
        "held_weights": sum(int(zero.sum()) for zero in held.values()),
        "loss": history[-1]["loss"],
        **task.learned(encoded["train"]),
    }


def _scratch(work: Work, step: Step) -> Path:
    """Where a killed tuning goes on from."""
    return work.context.store.root / "training" / step.fingerprint


def _extras(folder: Path, task: Task) -> Path:
    """Where what ``from_pretrained`` does not read stands."""
    return folder / f"{task.kind}s"


def _save(
    network: TaskNetwork, tokenizer: Any, history: list[dict[str, float]], out: Path, task: Task
) -> None:
    """The tuned model as a folder that ``from_pretrained`` loads, and beside it the head."""
    from safetensors.torch import save_file

    from tasks.models.quiet import quiet

    model: Any = network.model
    with quiet():
        if getattr(model, "generation_config", None) is not None:
            # It plays no part here, and saving one that only warns would be refused.
            model.generation_config = type(model.generation_config)()
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    extras = _extras(out, task)
    extras.mkdir()
    save_file(
        {name: tensor.cpu() for name, tensor in network.head.state_dict().items()}, extras / _HEAD
    )
    (extras / _HISTORY).write_text(json.dumps(history), encoding="utf-8")


def _score(work: Work, subject: Subject, task: Task) -> Facts:
    from safetensors.torch import load_file

    from tasks.measures.tuning import training
    from tasks.measures.tuning.network import TaskNetwork

    role = "weights" if "weights" in work.step.needs else "tuned"
    parts = task.read(work.need("data"))
    tuned = work.need("tuned")
    work.need(role)
    # What was needed has told its own time.
    start, extras = time.perf_counter(), _extras(tuned.path, task)
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, role)
        network = TaskNetwork(model, task.columns, task.options.pooling, torch.Generator())
        network.head.load_state_dict(load_file(extras / _HEAD))
        longest, padding = _longest(model, task), tokenizer.pad_token_id or 0
        encoded = {part: task.encode(parts[part], tokenizer, longest) for part in task.judged}
        logits = {
            part: training.logits_of(
                network, examples, subject.evaluation.batch_size, padding=padding
            )
            for part, examples in encoded.items()
        }
    figures = task.score(parts, encoded, logits, work.out)
    # Only now: until the tuned model has its name, a kill must not cost the training.
    shutil.rmtree(_scratch(work, work.step.needs["tuned"]), ignore_errors=True)
    history = json.loads((extras / _HISTORY).read_text(encoding="utf-8"))
    return {
        **figures,
        "documents_cut": len({example.record for example in encoded[TEST] if example.cut}),
        # Of this subject's own tuning: that of the dense model stands with the dense model.
        "history": [] if role == "weights" else history,
        **{name: tuned.facts[name] for name in task.repeated},
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak.bytes,
    }
