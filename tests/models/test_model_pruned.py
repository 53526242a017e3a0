"""A pruned checkpoint loads both ways, and sliced weights by one call, to equal logits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from structured import ids, masked, model_of, parameters_without, random_kept

from configs.trust import Trust
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_tokenizer
from tasks.models.saved import save
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import METADATA, save_checkpoint
from tasks.models.saved.sliced import save_compact
from tasks.models.sources.checkpoints import check_folder
from tasks.models.sources.random_model import tokenizer
from tasks.pruning.core.structure import masked_weights

KINDS = ["tied", "mistral", "qwen2", "qwen3", "gemma2", "opt"]
CPU = torch.device("cpu")


class Saved:
    """One model, saved in every form."""

    def __init__(self, folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> None:
        self.model = model_of(kind).to(dtype)
        self.kept = random_kept(self.model, seed=4)
        self.dense, self.full, self.small = (folder / name for name in ("dense", "full", "small"))
        self.model.save_pretrained(self.dense)
        tokenizer().save_pretrained(self.dense)
        replaced = dict(masked_weights(describe(self.model), self.kept))
        metadata = {"kept": kept_to_json(self.kept)}
        common = {"dtype": dtype}
        save_checkpoint(self.model, self.dense, replaced, self.full, metadata=metadata, **common)
        save_compact(self.model, self.kept, self.dense, self.small, metadata={"seed": 3}, **common)
        self.wanted = masked(self.model, self.kept)(ids()).logits

    def edit(self, folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads((folder / METADATA).read_text())
        change(content)
        (folder / METADATA).write_text(json.dumps(content))


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return Saved(tmp_path, "tied")


def stock(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_has_the_same_logits(tmp_path: Path, kind: str) -> None:
    saved = Saved(tmp_path, kind)
    everything = sum(parameter.numel() for parameter in saved.model.parameters())
    left = parameters_without(saved.model, saved.kept)
    assert left < everything
    greedy = {"max_new_tokens": 6, "do_sample": False}
    tokens = masked(saved.model, saved.kept).generate(ids(), **greedy)
    for loaded, parameters in (
        (stock(saved.full), everything),
        (load_pruned(saved.full, sliced=False), everything),
        (load_pruned(saved.full), left),
        (load_pruned(saved.small), left),
    ):
        assert type(loaded) is type(saved.model)
        assert close(loaded(ids()).logits, saved.wanted)
        assert sum(parameter.numel() for parameter in loaded.parameters()) == parameters
        assert torch.equal(loaded.generate(ids(), **greedy), tokens)


def test_loaded_for_inference_and_tied(saved: Saved, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    for folder in (saved.full, saved.small):
        model: Any = load_pruned(folder)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(part.is_meta for part in (*model.parameters(), *model.buffers()))
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.generation_config.bos_token_id == 0
        assert load_tokenizer(folder, Trust())("the fox").input_ids
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = Saved(tmp_path, "qwen2", dtype)
    for folder in (saved.full, saved.small):
        loaded = load_pruned(str(folder))
        assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
        difference = (loaded(ids()).logits - saved.wanted).abs().max()
        assert difference <= 0.02 * saved.wanted.abs().max()
        wider = load_pruned(folder, torch.float32, CPU, Trust())
        assert {parameter.dtype for parameter in wider.parameters()} == {torch.float32}
    assert {
        part.dtype for part in load_file(saved.small / "model.sliced.safetensors").values()
    } == {dtype}


def test_what_lies_in_the_folder(saved: Saved) -> None:
    weights = saved.small / "model.sliced.safetensors"
    left = parameters_without(saved.model, saved.kept)
    assert sum(part.numel() for part in load_file(weights).values()) == left
    header = 8 * 1024
    assert 4 * left < weights.stat().st_size < 4 * left + header
    assert weights.stat().st_size < (saved.full / "model.safetensors").stat().st_size
    metadata = json.loads((saved.small / METADATA).read_text())
    assert metadata == {"seed": 3, "form": "sliced", "kept": kept_to_json(saved.kept)}
    assert (saved.small / "tokenizer.json").read_bytes() == (
        saved.dense / "tokenizer.json"
    ).read_bytes()


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = model_of("tied")
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = model.config.to_dict()
    tokenizer().save_pretrained(tmp_path)
    save_compact(
        model, random_kept(model, 0), tmp_path, tmp_path / "out", dtype=torch.bfloat16, metadata={}
    )
    assert model.config.to_dict() == config
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())


def test_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "_SHARD_SIZE", "40KB")
    saved = Saved(tmp_path, "llama")
    assert len(list(saved.small.glob("model.sliced-*.safetensors"))) > 1
    assert (saved.small / "model.safetensors.index.sliced.json").is_file()
    assert close(load_pruned(saved.small)(ids()).logits, saved.wanted)
    assert close(load_pruned(saved.full)(ids()).logits, saved.wanted)


def test_stock_refuses_the_sliced_weights(saved: Saved) -> None:
    from transformers import LlamaForCausalLM

    with pytest.raises(ValueError, match="secateur_sliced"):
        stock(saved.small)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        LlamaForCausalLM.from_pretrained(saved.small)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        LlamaForCausalLM.from_pretrained(saved.small, variant="sliced")
    with pytest.raises(ValueError, match=r"model\.sliced\.safetensors"):
        check_folder(saved.small, field="models", given="small", trust=Trust())


def test_a_sliced_model_saved_by_transformers_is_refused(saved: Saved, tmp_path: Path) -> None:
    load_pruned(saved.full).save_pretrained(tmp_path / "own")
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        stock(tmp_path / "own")


def test_nothing_removed_is_a_plain_folder(saved: Saved) -> None:
    saved.edit(saved.full, lambda content: content.pop("kept"))
    for folder in (saved.dense, saved.full):
        loaded = load_pruned(folder)
        assert torch.equal(loaded(ids()).logits, stock(folder)(ids()).logits)
        count = sum(parameter.numel() for parameter in loaded.parameters())
        assert count == sum(parameter.numel() for parameter in saved.model.parameters())


def test_side_branches_are_attached(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    attached = []
    branches = ModuleType("tasks.models.saved.branches")
    branches.attach_branches = lambda *given: attached.append(given)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tasks.models.saved.branches", branches)
    load_pruned(saved.dense)
    assert attached == []
    save_file({"branch": torch.ones(1)}, saved.dense / "slorb.safetensors")
    model = load_pruned(saved.dense)
    assert attached == [(model, saved.dense)]


def test_the_full_size_is_gone(saved: Saved) -> None:
    with pytest.raises(UnsupportedModelError, match=r"small: it holds the sliced weights only"):
        load_pruned(saved.small, sliced=False)


@pytest.mark.parametrize("form", ["full", "small"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["kept"]["blocks"].pop(), "2 blocks are said to keep something"),
        (lambda content: content["kept"]["blocks"][0].update(groups="0-3"), "indices rise from 0"),
        (lambda content: content["kept"].update(channels=41), "channels, and LlamaFor.* 3 and 40"),
        (lambda content: content.update(kept=[]), "kept needs groups, channels and blocks"),
        (lambda content: content.update(form="melted"), "has form 'melted'"),
    ],
)
def test_what_is_kept_is_damaged(saved: Saved, form: str, change: Any, reason: str) -> None:
    folder = getattr(saved, form)
    saved.edit(folder, change)
    with pytest.raises(UnsupportedModelError, match=rf"{form}: .*{reason}"):
        load_pruned(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_metadata_is_damaged(saved: Saved, text: str) -> None:
    (saved.full / METADATA).write_bytes(text.encode("latin-1"))
    with pytest.raises(UnsupportedModelError, match=r"full: secateur\.json (cannot|must)"):
        load_pruned(saved.full)


def test_metadata_of_another_pruning(saved: Saved) -> None:
    """Weights that are not zero would silently be lost."""
    other = kept_to_json(random_kept(saved.model, seed=9))
    for folder in (saved.full, saved.small):
        saved.edit(folder, lambda content: content.update(kept=other))
    with pytest.raises(
        UnsupportedModelError, match=r"of block \d has weights where secateur\.json"
    ):
        load_pruned(saved.full)
    with pytest.raises(UnsupportedModelError, match="does not hold the sliced LlamaForCausalLM"):
        load_pruned(saved.small)


def test_sliced_folder_is_damaged(saved: Saved) -> None:
    weights, config = saved.small / "model.sliced.safetensors", saved.small / "config.json"
    whole, settings = weights.read_bytes(), json.loads(config.read_text())
    parts = load_file(weights)
    del parts["model.layers.1.mlp.up_proj.weight"]
    save_file(parts, weights, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match="small lacks 1 weights"):
        load_pruned(saved.small)
    weights.write_bytes(whole[:-100])
    with pytest.raises(UnsupportedModelError, match="does not hold the sliced"):
        load_pruned(saved.small)
    weights.unlink()
    with pytest.raises(UnsupportedModelError, match=r"model\.sliced\.safetensors"):
        load_pruned(saved.small)
    config.write_text(json.dumps(settings | {"stock_architecture": "os"}))
    with pytest.raises(UnsupportedModelError, match="os is not a model of transformers"):
        load_pruned(saved.small)
    config.write_text((saved.dense / "config.json").read_text())
    with pytest.raises(UnsupportedModelError, match=r"config\.json is not that of a sliced model"):
        load_pruned(saved.small)
    saved.edit(saved.small, lambda content: content.pop("kept"))
    with pytest.raises(UnsupportedModelError, match="does not say what the blocks keep"):
        load_pruned(saved.small)


def test_models_that_are_not_sliced(tmp_path: Path, make_model: Callable[..., Any]) -> None:
    kept = random_kept(model_of("llama"), 0)
    for kind in ("gpt2", "gpt_neox"):
        with pytest.raises(UnsupportedModelError, match="heads and channels are not understood"):
            save_compact(
                make_model(kind), kept, tmp_path, tmp_path / "x", dtype=torch.float32, metadata={}
            )
    from transformers import LlamaForCausalLM

    class TheirOwn(LlamaForCausalLM):
        pass

    model = model_of("llama")
    model.__class__ = TheirOwn
    with pytest.raises(UnsupportedModelError, match="TheirOwn is not a model of transformers"):
        save_compact(model, kept, tmp_path, tmp_path / "x", dtype=torch.float32, metadata={})
    assert not (tmp_path / "x").exists()
