"""The steps of slot filling: tweets, a tuned network, its score."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.measures.base import Subject
from tasks.measures.slot_filling.data import TaskData, load_tweets
from tasks.measures.slot_filling.settings import SlotTask
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import best_device, load_tokenizer
from tasks.models.saved.pruned import BRANCHES, load_pruned
from tasks.runtime.memory import measured
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VERSION = 4
"""Of the score."""
_TUNING_VERSION = 1
_SLOTS, _HEAD, _HISTORY = "slots", "head.safetensors", "history.json"
_TUNING = ("epochs", "learning_rate", "batch_size", "warmup", "negative_weight",
           "mask_other_events", "pooling", "max_tokens", "seed")  # fmt: skip


def steps_of(subject: Subject, task: SlotTask, data: TaskData) -> dict[str, Step]:
    """Task → the step that scores the subject on it."""
    before = task.finetune == "before" and subject.dense is not None
    tuned = _tuning(subject.dense if before and subject.dense else subject, task, data)
    needs = {"tuned": tuned, "data": data.step}
    if before:
        assert subject.pruned_again is not None
        needs["weights"] = subject.pruned_again(tuned)
    step = Step(
        name="slot_score",
        version=VERSION,
        inputs={
            "thresholds": task.thresholds,
            "typed": task.typed,
            "pooling": task.pooling,
            "max_tokens": task.max_tokens,
        },
        needs=needs,
        produce=lambda work: _score(work, subject, task, data),
        label=f"slot filling {task.name}",
        group=subject.label,
    )
    return {task.name: step}


def _tuning(subject: Subject, task: SlotTask, data: TaskData) -> Step:
    return Step(
        name="slot_finetune",
        version=_TUNING_VERSION,
        inputs={name: getattr(task, name) for name in _TUNING},
        needs={"weights": subject.weights, "data": data.step},
        produce=lambda work: _finetune(work, subject, task, data),
        label=f"tune for {task.name}",
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
            "a model with low-rank side branches cannot be tuned for slots: they are no part of "
            "its weights. Prune it without them (options.ast.slorb)"
        )
    model = load_pruned(folder, torch.float32, best_device(), trust, sliced=False)
    return model, load_tokenizer(folder, trust)


def _longest(model: PreTrainedModel, task: SlotTask) -> int:
    from tasks.data.windows import positions_of

    return min(task.max_tokens, positions_of(model.config) or task.max_tokens)


def _finetune(work: Work, subject: Subject, task: SlotTask, data: TaskData) -> Facts:
    from tasks.measures.slot_filling import training
    from tasks.measures.slot_filling.inputs import encode
    from tasks.measures.slot_filling.labels import instances_of
    from tasks.measures.slot_filling.network import SlotNetwork, learn_tokens_
    from tasks.training.checkpoints import Checkpoints
    from tasks.training.engine import AccelerateEngine, accelerator_for

    parts = load_tweets(work.need("data"), data.scheme)
    work.need("weights")
    # What was needed has told its own time.
    start, generator = time.perf_counter(), torch.Generator().manual_seed(task.seed)
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, "weights")
        held = training.zeros_of(model) if subject.dense is not None else {}
        learn_tokens_(model, tokenizer, generator)
        network = SlotNetwork(model, len(data.scheme.columns), task.pooling, generator)
        longest = _longest(model, task)
        scheme = data.scheme
        # All parts: a marker that would be cut is told before anything is learned.
        encoded = {
            part: encode(
                tweets, instances_of(tweets, scheme), scheme, tokenizer, longest, data.field
            )
            for part, tweets in parts.items()
        }["train"]
        options = (name for name in _TUNING if name not in ("pooling", "max_tokens"))
        recipe = training.Recipe(**{name: getattr(task, name) for name in options})
        with accelerator_for(best_device(), torch.float32) as accelerator:
            engine = AccelerateEngine(accelerator, Checkpoints(_scratch(work, work.step)))
            history = training.fine_tune_(
                network,
                encoded,
                recipe,
                held,
                padding=tokenizer.pad_token_id or 0,
                engine=engine,
                progress=work.progress,
            )
    _save(network, tokenizer, history, work.out)
    filled = Counter(column for entry in encoded for column in entry.labels)
    return {
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak.bytes,
        "instances": len(encoded),
        "positives": filled.total(),
        "never_filled": [
            f"{event}/{slot.name}"
            for column, (event, slot) in enumerate(data.scheme.columns)
            if not filled[column]
        ],
        "held_weights": sum(int(zero.sum()) for zero in held.values()),
        "loss": history[-1]["loss"],
    }


def _scratch(work: Work, step: Step) -> Path:
    """Where a killed tuning goes on from."""
    return work.context.store.root / "training" / step.fingerprint


def _save(network: Any, tokenizer: Any, history: list[dict[str, float]], out: Path) -> None:
    """The tuned model as a folder that ``from_pretrained`` loads, and beside it the head."""
    from safetensors.torch import save_file

    from tasks.models.quiet import quiet

    model = network.model
    with quiet():
        if getattr(model, "generation_config", None) is not None:
            # It plays no part here, and saving one that only warns would be refused.
            model.generation_config = type(model.generation_config)()
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    (out / _SLOTS).mkdir()
    save_file(
        {name: tensor.cpu() for name, tensor in network.head.state_dict().items()},
        out / _SLOTS / _HEAD,
    )
    (out / _SLOTS / _HISTORY).write_text(json.dumps(history), encoding="utf-8")


def _history_of(tuned: Artifact) -> list[dict[str, float]]:
    return json.loads((tuned.path / _SLOTS / _HISTORY).read_text(encoding="utf-8"))


def _score(work: Work, subject: Subject, task: SlotTask, data: TaskData) -> Facts:
    from safetensors.torch import load_file

    from tasks.measures.slot_filling import answers, training
    from tasks.measures.slot_filling.inputs import encode
    from tasks.measures.slot_filling.labels import instances_of
    from tasks.measures.slot_filling.network import SlotNetwork

    scheme, weights = data.scheme, "weights" if "weights" in work.step.needs else "tuned"
    parts = load_tweets(work.need("data"), scheme)
    tuned = work.need("tuned")
    work.need(weights)
    # What was needed has told its own time.
    start = time.perf_counter()
    with measured(best_device().type) as peak:
        model, tokenizer = _loaded(work, weights)
        network = SlotNetwork(model, len(scheme.columns), task.pooling, torch.Generator())
        network.head.load_state_dict(load_file(tuned.path / _SLOTS / _HEAD))
        found: dict[str, answers.Judged] = {}
        cut: dict[str, int] = {}
        for part in ("dev", "test"):
            instances = instances_of(parts[part], scheme)
            encoded = encode(
                parts[part], instances, scheme, tokenizer, _longest(model, task), data.field
            )
            judged_NS = training.probabilities(
                network,
                encoded,
                subject.evaluation.batch_size,
                padding=tokenizer.pad_token_id or 0,
            )
            found[part] = answers.Judged(parts[part], instances, judged_NS)
            pairs = zip(instances, encoded, strict=True)
            cut[part] = len({instance.tweet for instance, entry in pairs if entry.cut})
    thresholds = answers.thresholds_of(found["dev"], scheme, task.thresholds)
    typed = task.typed == "rules"
    score = answers.score(found["test"], scheme, thresholds, typed=typed)
    (work.out / "slots.csv").write_text(answers.as_csv(score, scheme, thresholds))
    # Only now: until the tuned model has its name, a kill must not cost the training.
    shutil.rmtree(_scratch(work, work.step.needs["tuned"]), ignore_errors=True)
    return {
        **score.figures(scheme),
        "precision_recall": answers.precision_recall(found["test"], scheme, typed=typed),
        # Of this subject's own tuning: that of the dense model stands with the dense model.
        "history": [] if weights == "weights" else _history_of(tuned),
        "tweets": {part: len(parts[part]) for part in parts},
        "documents_cut": cut["test"],
        "never_filled": tuned.facts["never_filled"],
        "seconds": time.perf_counter() - start,
        "peak_memory_bytes": peak.bytes,
    }


def columns_of(name: str, facts: Mapping[str, Any]) -> dict[str, float]:
    """A task's columns, from the facts of its score."""
    prefix = f"slot_f1/{name}"
    whole = ("stderr", "precision", "recall", "macro_f1")
    row = {prefix: facts["f1"], **{f"{prefix}/{part}": facts[part] for part in whole}}
    return row | {f"{prefix}/{event}": f1 for event, f1 in facts["events"].items()}
