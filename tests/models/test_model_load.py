"""Loading folders, and which dtype ``auto`` is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models import load
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import (
    best_device,
    load_config,
    load_model,
    load_tokenizer,
    resolve_dtype,
)

CPU = torch.device("cpu")
MakeFolder = Callable[..., Path]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_for_inference(
    make_folder: MakeFolder, dtype: torch.dtype, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder("tied")
    capfd.readouterr()
    model = load_model(folder, dtype, CPU, Trust())
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert model.dtype == dtype
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert load_config(folder, Trust()).num_hidden_layers == 2
    assert load_tokenizer(folder, Trust())("the fox").input_ids


def test_missing_weights_are_refused(make_folder: MakeFolder) -> None:
    path = make_folder() / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        load_model(path.parent, torch.float32, CPU, Trust())


def test_unknown_model_type(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "config.json").write_text('{"model_type": "of-tomorrow"}')
    with pytest.raises(UnsupportedModelError, match="of-tomorrow"):
        load_model(folder, torch.float32, CPU, Trust())
    with pytest.raises(UnsupportedModelError, match="of-tomorrow"):
        load_config(folder, Trust())


def test_broken_tokenizer(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(folder / "config.json", empty)
    with pytest.raises(UnsupportedModelError, match="tokenizer of empty"):
        load_tokenizer(empty, Trust())


def test_pickle_weights_load_only_with_trust(make_folder: MakeFolder) -> None:
    folder = make_folder()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_model(folder, torch.float32, CPU, Trust())
    model = load_model(folder, torch.float32, CPU, Trust(pickle_weights=True))
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_named_dtypes(name: str, dtype: torch.dtype) -> None:
    assert resolve_dtype(name, CPU) == dtype


def test_unknown_dtype() -> None:
    with pytest.raises(ConfigurationError, match="a dtype is auto, float32, bfloat16, float16"):
        resolve_dtype("int4", CPU)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx512_f": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_auto_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert resolve_dtype("auto", CPU) == expected


def test_auto_with_an_older_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert resolve_dtype("auto", CPU) == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert resolve_dtype("auto", CPU) == torch.float32


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)]
)
def test_auto_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolve_dtype("auto", torch.device("cuda", 0)) == expected
    assert resolve_dtype("auto", torch.device("mps")) == torch.float32


def test_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load.best_device().type in {"cuda", "cpu"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    # Apple's GPUs have no float64, in which losses are summed.
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device() == torch.device("cuda", 0)
