"""Wrong input: exit status 2 and one message with field, value and what is allowed."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli

GOOD = """
name: demo
models: [tiny-random]
calibration: {corpus: {source: files, files: [calibration.txt]}, samples: 2, sequence_length: 32}
methods: [magnitude, swiftprune]
targets: ["0.5"]
evaluation:
  perplexity:
    - {name: text, corpus: {source: files, files: [test.txt]}, sequence_length: 32, windows: 2}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "calibration.txt").write_text("the quick brown fox " * 40)
    (tmp_path / "test.txt").write_text("jumps over the lazy dog " * 40)
    (tmp_path / "sweep.yaml").write_text(GOOD)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    # The variable is read when the hub's client is imported, which another test may have done.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["secateur", *arguments])
    return cli.status()


def gguf(path: Path, size: int) -> None:
    """The start of a GGUF file that promises one tensor, cut after ``size`` bytes."""
    name = b"token_embd.weight"
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 64, 64, 0, 0)
    path.write_bytes((header + tensor + b"\0" * 40_000)[:size])


def pickled(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


# what is set → parts of the message
SETTINGS = {
    "unknown field": ("sedes=[1]", ["sedes", "no such field", "Did you mean 'seeds'?"]),
    "unknown nested field": ("calibration.sample=2", ["calibration.sample", "samples"]),
    "unknown method": ("methods=[wandaa]", ["methods[0]", "'wandaa'", "magnitude", "'wanda'?"]),
    "unknown option": ("options.wanda.beta=1", ["options.wanda.beta", "no such field"]),
    "option out of range": (
        "options.swiftprune.alpha=2",
        ["options.swiftprune.alpha", "less than"],
    ),
    "option of another kind": ("options.magnitude.compare=column", ["'layer' or 'row'", "column"]),
    "target 0": ("targets=[0]", ["targets[0]", "0", "from 0.0001 to 0.9999"]),
    "target 1": ("targets=[1]", ["targets[0]", "from 0.0001 to 0.9999"]),
    "target 1.2": ("targets=[1.2]", ["targets[0]", "1.2", "from 0.0001 to 0.9999"]),
    "target -0.1": ("targets=[-0.1]", ["targets[0]", "-0.1", "from 0.0001 to 0.9999"]),
    "target 4:2": ("targets=[4:2]", ["targets[0]", "'4:2'", "0 < keep < group"]),
    "target 0:4": ("targets=[0:4]", ["targets[0]", "'0:4'", "0 < keep < group"]),
    "target 2:4:8": ("targets=[2:4:8]", ["targets[0]", "'2:4:8'", "keep:group"]),
    "no models": ("models=[]", ["models", "[]", "at least one"]),
    "no methods": ("methods=[]", ["methods", "[]", "at least one"]),
    "no targets": ("targets=[]", ["targets", "[]", "at least one"]),
    "no seeds": ("seeds=[]", ["seeds", "[]", "at least one"]),
    "duplicate targets": ("targets=[0.5, 0.50]", ["targets", "repeated: 0.5"]),
    "duplicate methods": ("methods=[wanda, wanda]", ["methods", "repeated: wanda"]),
    "duplicate seeds": ("seeds=[1, 1]", ["seeds", "repeated: 1"]),
    "negative seed": ("seeds=[-1]", ["seeds[0]", "-1", "greater than or equal to 0"]),
    "name with a slash": ("name=a/b", ["name", "'a/b'", "letters, digits"]),
    "name like an option": ("name=-x", ["name", "'-x'", "a letter or digit first"]),
    "name that climbs": ("name=..", ["name", "'..'", "letters, digits"]),
    "no windows": ("evaluation.perplexity[0].windows=0", ["windows", "0", "greater than"]),
    "a list entry that is not there": ("evaluation.perplexity[3].windows=1", ["0 to 0", "3"]),
    "--set without a value": ("seeds", ["--set", "field=value"]),
    "an empty dtype": ("dtype=null", ["dtype: None is not possible"]),
    "unknown dtype": ("dtype=int8", ["dtype", "'int8'", "float32"]),
    "files without files": ("calibration.corpus={source: files}", ["calibration.corpus", "files"]),
    "field of another source": (
        "calibration.corpus={source: python-docs, files: [a.txt]}",
        ["calibration.corpus", "files belongs to source files"],
    ),
    "missing corpus file": ("calibration.corpus.files=[no.txt]", ["calibration.corpus", "no.txt"]),
    "missing model folder": ("models=[./no-such-model]", ["models[0]", "no-such-model"]),
    "missing GGUF": ("models=[no.gguf]", ["models[0]", "no.gguf"]),
    "unknown alias": ("models=[smollm2-135n]", ["models[0]", "smollm2-135m"]),
    "too short a corpus": ("calibration.samples=1000", ["calibration.samples: 1000", "windows"]),
    "too short a test text": (
        "evaluation.perplexity[0].windows=1000",
        ["evaluation.perplexity[0].windows: 1000"],
    ),
    "a link that leads nowhere": ("models=[dangling]", ["models[0]", "no file or folder"]),
    "exclude that names nothing": (
        "exclude=['*.q_porj']",
        ["exclude", "'*.q_porj'", "in tiny-random", "no layer", "close to it: *.q_proj"],
    ),
    "exclude that names another block": (
        "exclude=[lm_head, model.layers.3.*]",
        ["exclude", "'model.layers.3.*'", "close to it: model.layers.*.mlp, model.layers.*.self"],
    ),
    "exclude everything": ("exclude=['*']", ["exclude", "['*']", "nothing is left to prune"]),
    "exclude twice": ("exclude=[lm_head, lm_head]", ["exclude", "repeated: lm_head"]),
    "a window beyond the model": ("calibration.sequence_length=513", ["sequence_length", "512"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_wrong_settings(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting, parts = SETTINGS[case]
    assert run(monkeypatch, "run", "sweep.yaml", "--set", setting) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error:")
    for part in parts:
        assert part in said, said
    assert not list((folder / "home").glob("artifacts/*")), "something was computed"
    assert not (folder / "home" / "sweeps").exists()


FILES = {
    "broken YAML": ("sweep.yaml", b"name: [", ["sweep.yaml", "line 1", "YAML"]),
    "a python tag": ("sweep.yaml", b"name: !!python/object:os.system x", ["python", "YAML"]),
    "a key twice": ("sweep.yaml", b"name: a\nname: b\n", ["'name' stands twice", "line 2"]),
    "not a mapping": ("sweep.yaml", b"- 1\n", ["mapping of fields"]),
    "no name": ("sweep.yaml", b"seeds: [1]\n", ["error: name: this field is required"]),
    "a merge key": (
        "sweep.yaml",
        b"a: &b {c: 1}\nd: {<<: *b}\n",
        ["line 1", "no anchors", "no <<"],
    ),
    "not UTF-8": ("sweep.yaml", "name: \xe4".encode("latin-1"), ["sweep.yaml", "UTF-8"]),
    "empty corpus": ("calibration.txt", b"", ["calibration.corpus", "calibration.txt", "empty"]),
    "blank corpus": ("test.txt", b" \n\n", ["evaluation.perplexity[0].corpus", "test.txt"]),
    "a corpus in another encoding": (
        "calibration.txt",
        "gr\xfcn ".encode("latin-1") * 500,
        ["calibration.corpus", "calibration.txt", "UTF-8"],
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, parts = FILES[case]
    (folder / name).write_bytes(content)
    assert run(monkeypatch, "run", "sweep.yaml") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error:")
    for part in parts:
        assert part in said, said


@pytest.mark.parametrize(("size", "part"), [(3, "GGUF"), (60, "GGUF"), (5000, "GGUF")])
def test_truncated_gguf(
    size: int,
    part: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gguf(folder / "cut.gguf", size)
    assert run(monkeypatch, "run", "sweep.yaml", "--set", "models=[cut.gguf]") == 2
    said = capsys.readouterr().err
    assert "models[0]" in said
    assert "cut.gguf" in said
    assert part in said


def test_pickle_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled(folder / "model")
    assert run(monkeypatch, "run", "sweep.yaml", "--set", "models=[./model]") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "models[0]" in said
    assert "pickle" in said
    assert "trust.pickle_weights" in said


def test_the_same_model_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.models.sources.random_model import write

    for name in ("one", "two"):
        write(folder / name)
    assert run(monkeypatch, "run", "sweep.yaml", "--set", "models=[./one, ./two]") == 2
    assert "same model" in capsys.readouterr().err


def test_methods_that_can_do_no_target(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.pruning.core.targets import SemiStructured
    from tasks.pruning.magnitude import Magnitude

    monkeypatch.setattr(Magnitude, "targets", (SemiStructured,))
    assert run(monkeypatch, "run", "sweep.yaml", "--set", "methods=[magnitude]") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "targets: ['0.5'] is not possible" in said
    assert "magnitude takes keep:group such as 2:4" in said


def test_a_combination_that_a_method_cannot_do_is_skipped_and_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.pruning.core.targets import SemiStructured
    from tasks.pruning.magnitude import Magnitude

    monkeypatch.setattr(Magnitude, "targets", (SemiStructured,))
    assert run(monkeypatch, "plan", "sweep.yaml") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 cells, 1 skipped" in said
    assert "magnitude takes keep:group" in said


def test_options_that_no_cell_takes_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, told in (("sparsegpt.damping=0.1", True), ("swiftprune.alpha=0.1", False)):
        assert run(monkeypatch, "plan", "sweep.yaml", "--set", f"options.{setting}") == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("options.sparsegpt: no method or variant" in said) is told, said


def test_a_home_on_two_disks_is_refused_before_anything_is_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def between_disks(_start: object, _end: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    (folder / "home" / "artifacts").mkdir(parents=True)
    monkeypatch.setattr("os.rename", between_disks)
    assert run(monkeypatch, "run", "sweep.yaml") == 2
    assert "must lie on one disk" in capsys.readouterr().err
    assert not list((folder / "home").glob("*/*")), "something was left"


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "nothere.yaml"], ["walk"], ["run", "smoke", "--fast"]]
)
def test_wrong_command_lines(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, *arguments) == 2


def test_a_misspelt_preset_is_told_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "quikstart") == 2
    assert "Did you mean quickstart?" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "sweep.yaml"], ["report", "demo"]])
def test_an_unwritable_home_and_an_unknown_sweep(
    command: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "file").write_text("not a folder")
    monkeypatch.setenv("SECATEUR_HOME", str(folder / "file" / "home"))
    assert run(monkeypatch, *command) == 2
    said = capsys.readouterr().err
    assert "SECATEUR_HOME" in said or "SWEEP" in said


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    for command in ("run", "plan", "methods", "report", "gc"):
        assert command in said
    assert run(monkeypatch, "run", "--help") == 0
    assert "--set" in capsys.readouterr().out
    assert run(monkeypatch, "methods") == 0
    said = capsys.readouterr().out
    assert "options.swiftprune.alpha" in said
    assert "arXiv 2306.11695" in said


@pytest.mark.parametrize("case", ["another shape", "an unread bias", "a token too many"])
def test_what_headers_tell_of_a_model(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from tasks.models.sources.random_model import tokenizer, write

    model = folder / "model"
    write(model)
    config, weights = model / "config.json", model / "model.safetensors"
    bias = "model.layers.0.self_attn.q_proj.bias"
    if case == "another shape":
        changed = json.loads(config.read_text()) | {"intermediate_size": 96}
        config.write_text(json.dumps(changed))
        parts = ["model.layers.0.mlp.down_proj.weight", "(64, 160)", "(64, 96)"]
    elif case == "an unread bias":
        save_file(load_file(weights) | {bias: torch.ones(64)}, weights)
        parts = [bias, "trust.unread_weights=true"]
    else:
        larger = tokenizer()
        larger.add_tokens(["lazy"])
        larger.save_pretrained(model)
        parts = ["token 256 ('lazy')", "embedding ends at 255"]
    assert run(monkeypatch, "run", "sweep.yaml", "--set", "models=[./model]") == 2
    said = " ".join(capsys.readouterr().err.split())
    for part in ("models[0]", *parts):
        assert part in said, said
    assert not list((folder / "home").glob("artifacts/*")), "something was computed"


_HEAVY = """
import sys
from flows import cli
sys.argv[1:] = ["run", "sweep.yaml", *sys.argv[1:]]
status = cli.status()
loaded = {"torch", "transformers", "prefect", "mlflow"} & sys.modules.keys()
sys.exit(str(loaded) if loaded else status)
"""


@pytest.mark.parametrize("case", ["broken YAML", "nothing there", "pickle", "adapter", "quantised"])
def test_files_and_headers_are_told_before_anything_heavy_is_imported(
    case: str, folder: Path
) -> None:
    model = folder / "model"
    if case == "broken YAML":
        (folder / "sweep.yaml").write_text("name: [")
    elif case == "pickle":
        pickled(model)
    elif case != "nothing there":
        model.mkdir()
        config = {"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}
        (model / "config.json").write_text(json.dumps(config))
        if case == "adapter":
            (model / "adapter_config.json").write_text("{}")
    command = [sys.executable, "-c", _HEAVY, "--set", "models=[./model]"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error:")


def test_texts_are_read_before_models_are_looked_into(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.models.sources.random_model import write

    write(folder / "model")
    monkeypatch.setattr("tasks.plan.sweep.contents_of", None)
    for missing in ("calibration.corpus", "evaluation.perplexity[0].corpus"):
        settings = ["models=[./model]", f"{missing}.files=[no.txt]"]
        arguments = [part for setting in settings for part in ("--set", setting)]
        assert run(monkeypatch, "run", "sweep.yaml", *arguments) == 2
        said = capsys.readouterr().err
        assert missing in said
        assert "no.txt" in said
