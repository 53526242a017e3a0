"""The steps of a task that models are tuned for: a tuned network, its score."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.measures.base import Subject
from tasks.measures.computing import processes_of
from tasks.measures.tuning.settings import SHARED
from tasks.measures.tuning.task import Task
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import best_device, load_tokenizer
from tasks.models.resident import leave_gpus
from tasks.models.saved.pruned import BRANCHES, load_pruned
from tasks.runtime.memory import measured
from tasks.store.code import code_input
from tasks.store.needs import training_folder
from tasks.store.steps import Facts, Step, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tasks.measures.tuning.network import TaskNetwork
    from tasks.measures.tuning.sharing import Lesson

_HISTORY = "history.json"
_TUNING_VERSION = 4
TEST = "test"
"""The part of the data that figures are of."""


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
        inputs={**given, **task.scoring, **code_input(type(task))},
        needs=needs,
        produce=lambda work: _score(work, subject, task),
        label=f"{task.words} {task.options.name}",
        group=subject.label,
    )


def _tuning(subject: Subject, task: Task) -> Step:
    return Step(
        name=f"{task.kind}_finetune",
        version=_TUNING_VERSION,
        inputs={
            **{name: getattr(task.options, name) for name in SHARED},
            **task.learning,
            **code_input(type(task)),
        },
        needs={"weights": subject.weights, "data": task.data},
        produce=lambda work: _finetune(work, subject, task),
        label=f"tune for {task.options.name}",
        group=subject.label,
    )


def _loaded(work: Work, role: str, device: torch.device) -> tuple[PreTrainedModel, Any]:
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
    model = load_pruned(folder, torch.float32, device, trust, sliced=False)
    return model, load_tokenizer(folder, trust)


def _longest(model: PreTrainedModel, task: Task) -> int:
    from tasks.data.windows import positions_of

    asked = task.options.max_tokens
    return min(asked, positions_of(model.config) or asked)


def _finetune(work: Work, subject: Subject, task: Task) -> Facts:
    from tasks.measures.tuning.network import TaskNetwork, learn_tokens_
    from tasks.measures.tuning.sharing import Lesson, Recipe

    parts = task.read(work.need("data"))
    work.need("weights")
    # What was needed has told its own time.
    start, generator = time.perf_counter(), torch.Generator().manual_seed(task.options.seed)
    asked, size = subject.evaluation.processes, task.options.batch_size
    # More than a batch has examples would have nothing to do.
    processes = min(processes_of(subject.evaluation, size), size)
    # Several each load it to a device of their own.
    device = best_device() if processes == 1 else torch.device("cpu")
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, "weights", device)
        learn_tokens_(model, tokenizer, task.tokens, generator)
        network = TaskNetwork(model, task.columns, task.options.pooling, generator)
        longest = _longest(model, task)
        # All parts: what would be cut is told before anything is learned.
        encoded = {
            part: task.encode(records, tokenizer, longest) for part, records in parts.items()
        }
        given = ("epochs", "learning_rate", "batch_size", "warmup", "seed")
        lesson = Lesson(
            encoded=[example for example in encoded["train"] if example.readings],
            objective=task.objective,
            recipe=Recipe(**{name: getattr(task.options, name) for name in given}),
            padding=tokenizer.pad_token_id or 0,
        )
        if processes > 1 and not _shareable(network, lesson, asked=asked is not None):
            processes = 1
            network.to(best_device())
        history, held, most = _learn_(work, network, lesson, subject.dense is not None, processes)
    _save(network, tokenizer, history, work.out, task)
    return {
        "seconds": time.perf_counter() - start,
        # Of the process that took most: this one, or one that it started.
        "peak_memory_bytes": max(peak.bytes, most),
        "processes": processes,
        "held_weights": held,
        "loss": history[-1]["loss"],
        **task.learned(encoded["train"]),
    }


def _shareable(network: TaskNetwork, lesson: Lesson, *, asked: bool) -> bool:
    """Whether several processes can share the batches.

    Raises:
        UnsupportedModelError: they cannot, and the sweep asks for several.
    """
    from tasks.measures.tuning.sharing import require_shareable

    try:
        require_shareable(network, lesson)
    except UnsupportedModelError:
        if asked:
            raise
        return False
    return True


def _learn_(
    work: Work, network: TaskNetwork, lesson: Lesson, holds: bool, processes: int
) -> tuple[list[dict[str, float]], int, int]:
    """Tune the network here or in several processes.

    Args:
        holds: whether the model's zeros stay zero.

    Returns:
        The history, how many zeros were held, and the most memory that another process took.
    """
    from tasks.measures.tuning import training
    from tasks.measures.tuning.ranks import tune_in_processes_
    from tasks.training.checkpoints import Checkpoints
    from tasks.training.engine import AccelerateEngine, accelerator_for

    scratch = training_folder(work.context.store.root, work.step)
    held = training.zeros_of(network.model) if holds else {}
    count = sum(int(zero.sum()) for zero in held.values())
    if processes > 1:
        leave_gpus(work.context)
        history, most = tune_in_processes_(
            network,
            lesson,
            holds=holds,
            processes=processes,
            device=best_device(),
            trust=work.context.trust,
            scratch=scratch,
            progress=work.progress,
        )
        return history, count, most
    with accelerator_for(best_device(), torch.float32) as accelerator:
        engine = AccelerateEngine(accelerator, Checkpoints(scratch))
        history = training.fine_tune_(network, lesson, held, engine=engine, progress=work.progress)
    return history, count, 0


def _extras(folder: Path, task: Task) -> Path:
    """Where what ``from_pretrained`` does not read stands."""
    return folder / f"{task.kind}s"


def _save(
    network: TaskNetwork, tokenizer: Any, history: list[dict[str, float]], out: Path, task: Task
) -> None:
    """The tuned model as a folder that ``from_pretrained`` loads, and beside it the head."""
    from tasks.measures.tuning.files import save_body, save_head
    from tasks.models.quiet import quiet

    save_body(network, out)
    with quiet():
        tokenizer.save_pretrained(out)
    extras = _extras(out, task)
    extras.mkdir()
    save_head(network, extras)
    (extras / _HISTORY).write_text(json.dumps(history), encoding="utf-8")


def _score(work: Work, subject: Subject, task: Task) -> Facts:
    from tasks.measures.tuning import training
    from tasks.measures.tuning.files import load_head_
    from tasks.measures.tuning.network import TaskNetwork

    role = "weights" if "weights" in work.step.needs else "tuned"
    parts = task.read(work.need("data"))
    tuned = work.need("tuned")
    work.need(role)
    # What was needed has told its own time.
    start, extras = time.perf_counter(), _extras(tuned.path, task)
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, role, best_device())
        network = TaskNetwork(model, task.columns, task.options.pooling, torch.Generator())
        load_head_(network, extras)
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
    root = work.context.store.root
    shutil.rmtree(training_folder(root, work.step.needs["tuned"]), ignore_errors=True)
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
