"""A saved checkpoint is what stock transformers loads: exactly those weights, in that dtype."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tasks.models.saved import save
from tasks.models.saved.save import METADATA, save_checkpoint

MakeFolder = Callable[..., Path]
METADATA_GIVEN = {"method": "magnitude", "target": "0.5", "seed": 0}
UP = {
    "llama": "model.layers.{}.mlp.up_proj.weight",
    "tied": "model.layers.{}.mlp.up_proj.weight",
    "gpt2": "transformer.h.{}.mlp.c_fc.weight",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight",
    "opt": "model.decoder.layers.{}.fc1.weight",
}


def load(folder: Path, **options: Any) -> Any:
    """As a user would, without a word about dtype."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options).eval()


def halved(model: Any, kind: str) -> dict[str, Tensor]:
    names = [UP[kind].format(index) for index in range(2)]
    state = model.state_dict()
    return {name: state[name] * (torch.arange(state[name].shape[-1]) % 2) for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", UP)
def test_reloads_to_the_same_logits(
    make_folder: MakeFolder, tmp_path: Path, probe: Tensor, kind: str, dtype: torch.dtype
) -> None:
    folder, out = make_folder(kind), tmp_path / "out"
    dense = load(folder, dtype=dtype)
    replaced = halved(dense, kind)
    save_checkpoint(dense, folder, replaced, out, dtype=dtype, metadata=METADATA_GIVEN)
    loaded = load(out)
    assert loaded.dtype == dtype
    expected = dense.state_dict() | replaced
    assert loaded.state_dict().keys() == expected.keys()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    with torch.no_grad():
        before = dense(probe).logits
        dense.load_state_dict(expected)
        wanted = dense(probe).logits
        assert torch.equal(loaded(probe).logits, wanted)
    assert not torch.equal(before, wanted)


def test_the_dense_model_is_left_as_it_was(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    dense = load(folder)
    config, generation = dense.config.to_dict(), dense.generation_config
    state = {name: weight.clone() for name, weight in dense.state_dict().items()}
    save_checkpoint(
        dense,
        folder,
        halved(dense, "llama"),
        tmp_path / "out",
        dtype=torch.bfloat16,
        metadata=METADATA_GIVEN,
    )
    assert dense.config.to_dict() == config
    assert dense.generation_config is generation
    assert all(torch.equal(state[name], weight) for name, weight in dense.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_weights_are_written_once(
    make_folder: MakeFolder, tmp_path: Path, dtype: torch.dtype
) -> None:
    folder, out = make_folder("tied"), tmp_path / "out"
    dense = load(folder)
    save_checkpoint(dense, folder, halved(dense, "tied"), out, dtype=dtype, metadata={})
    written = load_file(out / "model.safetensors")
    assert "lm_head.weight" not in written
    assert {weight.dtype for weight in written.values()} == {dtype}
    loaded = load(out)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.dtype == dtype
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype)[6:]


def test_shards(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "_SHARD_SIZE", "20KB")
    folder, out = make_folder(), tmp_path / "out"
    dense = load(folder)
    replaced = halved(dense, "llama")
    save_checkpoint(dense, folder, replaced, out, dtype=torch.float32, metadata={})
    assert len(list(out.glob("model-*.safetensors"))) > 1
    state = load(out).state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in replaced.items())


def test_files_beside_the_weights(
    make_folder: MakeFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    folder, out = make_folder(), tmp_path / "out"
    # Saving this back is refused by transformers; published models have such files.
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.5}')
    dense = load(folder)
    capfd.readouterr()
    save_checkpoint(dense, folder, {}, out, dtype=torch.float32, metadata=METADATA_GIVEN)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((out / METADATA).read_text()) == METADATA_GIVEN
    again = AutoTokenizer.from_pretrained(out, local_files_only=True)
    assert again("the fox").input_ids == AutoTokenizer.from_pretrained(folder)("the fox").input_ids
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in out.iterdir()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_no_generation_config_stays_none(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder, out = make_folder(), tmp_path / "out"
    (folder / "generation_config.json").unlink()
    save_checkpoint(load(folder), folder, {}, out, dtype=torch.float32, metadata={})
    assert not (out / "generation_config.json").exists()


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("model.layers.9.mlp.up_proj.weight", (48, 32), "has no such weight"),
        ("model.layers.0.mlp.up_proj.weight", (32, 48), r"shape \(48, 32\), its replacement"),
    ],
)
def test_wrong_replacements(
    make_folder: MakeFolder, tmp_path: Path, name: str, shape: tuple[int, ...], reason: str
) -> None:
    folder = make_folder("tied")
    with pytest.raises(ValueError, match=reason):
        save_checkpoint(
            load(folder),
            folder,
            {name: torch.zeros(shape)},
            tmp_path / "out",
            dtype=torch.float32,
            metadata={},
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "names",
    [
        ("lm_head.weight",),
        ("model.embed_tokens.weight",),
        ("model.embed_tokens.weight", "lm_head.weight"),
    ],
)
def test_a_tied_weight_is_replaced_under_all_its_names(
    make_folder: MakeFolder, tmp_path: Path, names: tuple[str, ...], dtype: torch.dtype
) -> None:
    folder, out = make_folder("tied"), tmp_path / "out"
    dense = load(folder)
    new = torch.randn(97, 32)
    replaced = {name: new.clone() for name in names}
    save_checkpoint(dense, folder, replaced, out, dtype=dtype, metadata={})
    assert "lm_head.weight" not in load_file(out / "model.safetensors")
    loaded = load(out)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, new.to(dtype))
    assert not torch.equal(dense.lm_head.weight, new)


def test_a_tied_weight_has_one_value(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("tied")
    replaced = {
        "lm_head.weight": torch.zeros(97, 32),
        "model.embed_tokens.weight": torch.ones(97, 32),
    }
    with pytest.raises(ValueError, match=r"lm_head\.weight are one tied weight"):
        save_checkpoint(
            load(folder), folder, replaced, tmp_path / "out", dtype=torch.float32, metadata={}
        )
    assert not (tmp_path / "out").exists()


def test_other_views_of_one_weight_cannot_be_replaced(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder()
    dense = load(folder)
    name = "model.layers.0.self_attn.q_proj.weight"
    projection = dense.model.layers[0].self_attn.q_proj
    projection.weight = torch.nn.Parameter(dense.model.layers[1].self_attn.q_proj.weight.data.T)
    with pytest.raises(ValueError, match="different views of one weight"):
        save_checkpoint(
            dense,
            folder,
            {name: torch.zeros(32, 32)},
            tmp_path / "out",
            dtype=torch.float32,
            metadata={},
        )


@pytest.mark.parametrize("kind", ["opt", "tied", "gpt2"])
def test_everything_is_replaced(
    make_folder: MakeFolder, tmp_path: Path, probe: Tensor, kind: str
) -> None:
    """As retraining does: matrices, biases, norms and embeddings."""
    folder, out = make_folder(kind), tmp_path / "out"
    dense = load(folder)
    generator = torch.Generator().manual_seed(0)
    replaced = {
        name: parameter.detach() + 0.1 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in dense.named_parameters()
    }
    save_checkpoint(dense, folder, replaced, out, dtype=torch.float32, metadata={})
    loaded = load(out)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, replaced[name]), name
    dense.load_state_dict(replaced, strict=False)
    with torch.no_grad():
        assert torch.equal(loaded(probe).logits, dense(probe).logits)


def test_weights_of_another_dtype_stay_in_it(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder, out = make_folder(), tmp_path / "out"
    dense = load(folder, dtype=torch.bfloat16)
    norm = dense.model.norm
    norm.weight = torch.nn.Parameter(norm.weight.float())
    replaced = {"model.norm.weight": torch.rand(32)}
    save_checkpoint(dense, folder, replaced, out, dtype=torch.bfloat16, metadata={})
    written = load_file(out / "model.safetensors")
    assert torch.equal(written["model.norm.weight"], replaced["model.norm.weight"])
    assert written["lm_head.weight"].dtype == torch.bfloat16


def test_metadata_must_be_plain_json(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(
            load(folder),
            folder,
            {},
            tmp_path / "out",
            dtype=torch.float32,
            metadata={"perplexity": float("nan")},
        )
