"""A folder with a tiny model, a text and questions, and sweeps that ask how sure answers are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from configs.schema import SweepConfig
from tasks.models.sources import random_model
from tasks.plan.plan import Plan
from tasks.plan.sweep import plan_sweep

WORDS = ("red", "green", "blue", "fox", "dog", "sun", "moon", "tree", "stone", "river")
TASK = """\
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/colours.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Which? {{{{question}}}}"
doc_to_target: answer
doc_to_choice: [red, green, blue]
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
NEXT = """\
task: following
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/colours.jsonl}}}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: " red"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def write_folder(path: Path) -> None:
    """``model``, ``text.txt`` and the tasks ``colours`` and ``following``, which has no options."""
    draw = random.Random(0)
    path.joinpath("text.txt").write_text(" ".join(draw.choices(WORDS, k=3000)))
    rows = [{"question": " ".join(draw.choices(WORDS, k=3)), "answer": draw.randrange(3)}
            for _ in range(12)]  # fmt: skip
    path.joinpath("colours.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path.joinpath("colours.yaml").write_text(TASK.format(folder=path))
    path.joinpath("following.yaml").write_text(NEXT.format(folder=path))
    random_model.write(path / "model")
    tokenizer = random_model.tokenizer()
    tokenizer.add_special_tokens({"bos_token": "Ā", "eos_token": "Ā"})
    tokenizer.save_pretrained(path / "model")


def planned(
    folder: Path, uncertainty: Any, tasks: tuple[str, ...] = ("colours",), **changes: Any
) -> Plan:
    """Three methods at one target, unless ``changes`` say otherwise."""
    corpus = {"source": "files", "files": [str(folder / "text.txt")]}
    calibration = {"corpus": corpus, "samples": 3, "sequence_length": 64}
    config = SweepConfig.model_validate({
        "name": "sure", "models": [str(folder / "model")], "dtype": "float32", "targets": ["0.5"],
        "methods": ["magnitude", "wanda", "swiftprune"], "save_checkpoints": False,
        "calibration": calibration | changes.pop("calibration", {}),
        "training": {"corpus": corpus, "samples": 8, "sequence_length": 64},
        "evaluation": {
            "perplexity": [{"name": "docs", "corpus": corpus, "sequence_length": 64, "windows": 4}],
            "zero_shot": {"tasks": tasks, "include_path": str(folder)} if tasks else {},
            "uncertainty": uncertainty,
        },
        **changes,
    })  # fmt: skip
    return plan_sweep(config, dtype="float32")
