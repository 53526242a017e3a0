"""A folder whose tokenizer splits text in the way that transformers calls wrong is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from configs.trust import Trust
from tasks.models.examine import contents_of
from tasks.models.sources.sources import Contents, ResolvedModel
from tasks.plan.plan import ModelPlan
from tasks.plan.rows import left_notes

_MERGES = [("B", "a"), ("Ba", "y"), ("e", "Bay")]
_SIZE = 100_100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mistral of transformers 4 with a byte-level vocabulary of Tekken's size."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    out = tmp_path_factory.mktemp("mistral")
    words = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(merge) for merge in _MERGES]
    words += [f"filler {index}" for index in range(_SIZE - len(words))]
    core = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, _MERGES))
    letters = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}{1,3}|[^\p{L}\p{N}]+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([letters, level])
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(out)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    MistralForCausalLM(MistralConfig(vocab_size=_SIZE, **sizes, **heads)).save_pretrained(out)
    configure(out, transformers_version="4.57.1")
    return out


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def contents(folder: Path) -> Contents:
    return contents_of(folder, Trust(), (), field="models[0]", given="./model")


def test_other_tokens_are_told_in_the_plan_and_the_report(folder: Path) -> None:
    found = contents(folder)
    assert "splits eBay otherwise" in found.doubt
    assert "fix_mistral_regex=True).save_pretrained" in found.doubt
    model = ResolvedModel("./model", "folder", str(folder), "", "digest", contents=found)
    subject: Any = SimpleNamespace(weights=SimpleNamespace(words={}))
    plan = ModelPlan(model, subject, {})
    note = f"./model: {found.doubt}"
    assert note in plan.notes
    whole = cast("Any", SimpleNamespace(models=[plan], cells=[]))
    assert left_notes(whole, cast("Any", None)) == [note]


def test_what_the_note_tells_to_do_ends_it(folder: Path) -> None:
    from transformers import AutoTokenizer

    names = ("tokenizer.json", "tokenizer_config.json")
    before = {name: (folder / name).read_bytes() for name in names}
    AutoTokenizer.from_pretrained(folder, fix_mistral_regex=True).save_pretrained(folder)
    try:
        assert contents(folder).doubt == ""
    finally:
        for name, content in before.items():
            (folder / name).write_bytes(content)


def test_what_transformers_does_not_doubt_is_not_told(folder: Path) -> None:
    configure(folder, transformers_version="5.0.0")
    try:
        assert contents(folder).doubt == ""
    finally:
        configure(folder, transformers_version="4.57.1")
