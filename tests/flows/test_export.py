"""``secateur export``: the right cell, whole, in the form that was asked for, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structured
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows import cli
from flows.commands import export
from tasks.models.architecture.decoder import describe
from tasks.models.saved.branches import save_branches
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import save_checkpoint
from tasks.models.sources.random_model import tokenizer
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.structure import masked_weights
from tasks.pruning.core.targets import SemiStructured
from tasks.reporting.rows import write_results
from tasks.store.manifest import MANIFEST
from tasks.store.steps import Step
from tasks.store.store import Store

METHODS = {"wanda": "2:4", "ast": "2:4", "wanda_sp": "0.5"}


def write_checkpoint(method: str, folder: Path) -> None:
    """What the step of this method leaves: masked, with side branches, or with parts removed."""
    model = structured.model_of("tied")
    source = folder.parent / f"{folder.name}.source"
    model.save_pretrained(source)
    tokenizer().save_pretrained(source)
    metadata: dict[str, Any] = {"method": method}
    layers = describe(model).layers()
    if method == "wanda_sp":
        kept = structured.random_kept(model, seed=4)
        replaced = dict(masked_weights(describe(model), kept))
        metadata["kept"] = kept_to_json(kept)
    else:
        replaced = {
            f"{name}.weight": layer.weight_OI.masked_fill(
                lowest(layer.weight_OI.abs(), SemiStructured(2, 4)), 0.0
            )
            for name, layer in layers.items()
        }
    save_checkpoint(model, source, replaced, folder, dtype=torch.bfloat16, metadata=metadata)
    if method == "ast":
        name, layer = next(iter(layers.items()))
        rows, columns = layer.weight_OI.shape
        parts = {"slorb_x": torch.ones(2, columns), "slorb_s": torch.ones(rows, 2)}
        save_branches(folder, {f"{name}.{part}": values for part, values in parts.items()})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which three cells are complete, one failed, and one's checkpoint was not kept."""
    root = tmp_path / "home"
    monkeypatch.setenv("SECATEUR_HOME", str(root))
    store, rows = Store(root), []

    def row(method: str, target: str, seed: int, **more: Any) -> dict[str, Any]:
        cell = {"model": "tied", "method": method, "target": target, "seed": seed}
        return cell | {"status": "completed", "error": "", "checkpoint": ""} | more

    for method, target in METHODS.items():
        step = Step(name="checkpoint", inputs={"method": method})

        def produce(folder: Path, method: str = method) -> dict[str, Any]:
            write_checkpoint(method, folder)
            return {}

        store.get_or_create(step, produce)
        rows.append(row(method, target, 0, checkpoint=str(store.path(step.place))))
    rows.append(row("wanda", "0.5", 0, status="failed", error="out of luck"))
    rows.append(row("wanda", "0.5", 1))
    rows.append(row("ast", "0.5", 0, status="skipped", error="AST takes 2:4"))
    dense = row("dense", "", 0) | {"seed": None}
    write_results([dense, *rows], root / "sweeps" / "demo")
    return root


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["secateur", "export", *arguments])
        status = cli.status()
        printed = capsys.readouterr()
        return status, " ".join((printed.out + printed.err).split())

    return run


def checkpoint(home: Path, method: str) -> Path:
    return Store(home).path(Step(name="checkpoint", inputs={"method": method}).place)


def test_safetensors(home: Path, tmp_path: Path, command: Any) -> None:
    to = tmp_path / "deep" / "out"
    status, said = command("demo", "--method", "wanda", "--target", "2:4", "--to", str(to))
    assert status == 0, said
    assert "stock from_pretrained" in said
    assert "branches" not in said
    original = load_file(checkpoint(home, "wanda") / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(to)
    assert model.dtype == torch.bfloat16
    state = model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in original.items())
    assert AutoTokenizer.from_pretrained(to)("abc").input_ids
    assert not (to / MANIFEST).exists()
    assert not list(to.parent.glob(".*"))


def test_side_branches_come_along_and_are_told_of(home: Path, tmp_path: Path, command: Any) -> None:
    status, said = command("demo", "--method", "ast", "--to", str(tmp_path / "out"))
    assert status == 0
    assert "any other loader computes without them" in said
    wanted = load_pruned(checkpoint(home, "ast"))(structured.ids()).logits
    assert torch.equal(load_pruned(tmp_path / "out")(structured.ids()).logits, wanted)
    status, said = command(
        "demo", "--method", "ast", "--to", str(tmp_path / "o"), "--format=compact"
    )
    assert status == 2
    assert "no heads or channels" in said


def test_compact(home: Path, tmp_path: Path, command: Any) -> None:
    full, small = tmp_path / "full", tmp_path / "small"
    status, said = command("demo", "--method=wanda_sp", "--to", str(full))
    assert status == 0
    assert "--format compact is smaller" in said
    status, said = command("demo", "--method=wanda_sp", "--to", str(small), "--format=compact")
    assert status == 0, said
    assert "load_pruned" in said
    sizes = [sum(p.stat().st_size for p in f.glob("*.safetensors")) for f in (full, small)]
    assert sizes[1] < 0.8 * sizes[0]
    expected = load_pruned(full)
    model = load_pruned(small)
    assert model.dtype == expected.dtype == torch.bfloat16
    assert model.num_parameters() == expected.num_parameters()
    assert torch.equal(model(structured.ids()).logits, expected(structured.ids()).logits)
    with pytest.raises(ValueError, match="secateur_sliced"):
        AutoModelForCausalLM.from_pretrained(small)
    # What was exported once can be again: a sliced checkpoint stays one.
    from tasks.models.saved.export import write_export

    again = tmp_path / "again"
    again.mkdir()
    write_export(small, again, "compact")
    assert load_pruned(again).num_parameters() == model.num_parameters()


WRONG = {
    "no such sweep": (["dem"], ["SWEEP", "'dem'", "demo"]),
    "a name that climbs": (["../demo"], ["'../demo'", "letters, digits"]),
    "no such method": (
        ["demo", "--method=wandaa"],
        ["--method", "'wandaa'", "Did you mean 'wanda'"],
    ),
    "the dense model": (
        ["demo", "--method=dense"],
        ["--method", "'dense'", "wanda, ast, wanda_sp"],
    ),
    "a target it has not": (["demo", "--method=ast", "--target=0.5"], ["--target", "can be 2:4"]),
    "no target at all": (["demo", "--target=4:2"], ["--target", "'4:2'", "0 < keep < group"]),
    "another model": (["demo", "--model=tiny"], ["--model", "'tiny'", "tied"]),
    "several methods": (["demo"], ["--method", "5 cells fit", "wanda, ast, wanda_sp"]),
    "several targets": (["demo", "--method=wanda"], ["--target", "3 cells fit", "2:4, 0.5"]),
    "several seeds": (
        ["demo", "--method=wanda", "--target=0.5"],
        ["--seed", "2 cells fit", "0, 1"],
    ),
    "a failed cell": (
        ["demo", "--method=wanda", "--target=.50", "--seed=0"],
        ["wanda 0.5 seed 0", "it failed: out of luck"],
    ),
    "not kept": (
        ["demo", "--method=wanda", "--target=0.5", "--seed=1"],
        ["must have been kept", "save_checkpoints: true"],
    ),
    "no such format": (
        ["demo", "--method=ast", "--format=gguf"],
        ["--format", "safetensors, compact or stock"],
    ),
    "compressed-tensors": (
        ["demo", "--method=ast", "--format=compressed-tensors"],
        ["--format", "0.15", "vLLM removed its 2:4 kernels", "vLLM reads safetensors"],
    ),
    "nothing to cut out": (
        ["demo", "--method=wanda", "--target=2:4", "--format=compact"],
        ["--format", "'compact'", "single weights"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case: str, home: Path, tmp_path: Path, command: Any) -> None:
    arguments, parts = WRONG[case]
    status, said = command(*arguments, "--to", str(tmp_path / "out"))
    assert status == 2
    for part in parts:
        assert part in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["home"], "something was written"


def test_refuses_a_place_in_the_home(home: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "link").symlink_to(home)
    for place in (home / "sweeps" / "out", tmp_path / "link" / "out"):
        status, said = command("demo", "--method=ast", "--to", str(place))
        assert status == 2
        assert "must lie outside of" in said
        assert not place.exists()


def test_refuses_what_is_there(home: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name, part in (
        ("full", "new or an empty"),
        ("file", "new or an empty"),
        ("file/x", "file"),
    ):
        status, said = command("demo", "--method=ast", "--to", str(tmp_path / name))
        assert status == 2
        assert "--to" in said
        assert part in said
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    status, _ = command("demo", "--method=ast", "--to", str(tmp_path / "empty"))
    assert status == 0
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_damaged_or_missing_checkpoint(home: Path, tmp_path: Path, command: Any) -> None:
    arguments = ("demo", "--method=wanda_sp", "--to", str(tmp_path / "out"))
    weights = checkpoint(home, "wanda_sp") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    status, said = command(*arguments)
    assert status == 2
    assert "gone or damaged" in said
    manifest = checkpoint(home, "wanda_sp") / MANIFEST
    manifest.write_text(json.dumps({"step": "checkpoint", "inputs": {"method": "other"}}))
    assert command(*arguments)[0] == 2
    manifest.unlink()
    assert command(*arguments)[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_failure_half_way_leaves_nothing(
    home: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.models.saved import export as forms

    def fails(source: Path, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forms.shutil, "copyfile", fails)
    status, said = command("demo", "--method=ast", "--to", str(tmp_path / "out"))
    assert status == 1
    assert "no room" in said
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_home_that_moved(
    home: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "elsewhere"))
    assert command("demo", "--method=ast", "--to", str(tmp_path / "out"))[0] == 0


def test_pick_needs_no_options_for_one_cell() -> None:
    row = {"model": "m", "method": "wanda", "target": "2:4", "seed": 3}
    assert export.pick([row], {}) is row


@pytest.mark.parametrize("name", ["/big/one", "one", "./one", "big/one"])
def test_a_model_is_picked_by_the_end_of_its_path(name: str) -> None:
    cells = [
        {"model": model, "method": "wanda", "target": "2:4", "seed": 3}
        for model in ("/big/one", "/big/two", "/big/twoone")
    ]
    assert export.pick(cells, {"model": name}) is cells[0]
