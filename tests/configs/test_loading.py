"""Reading sweep files: YAML that means what it says, --set, paths, presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs import yaml_file as loading
from configs.errors import ConfigurationError
from configs.schema import SweepConfig


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\ntargets: [0.5, 2:4]\nmodels: [tiny-random]\n")
    return path


def test_keep_group_needs_no_quotes(sweep: Path) -> None:
    """YAML 1.1 would read 2:4 as the number 124."""
    assert loading.load(str(sweep)).targets == ("0.5", "2:4")


def test_writing_and_reading_again_is_the_identity(sweep: Path) -> None:
    config = loading.load(
        str(sweep), ["seeds=[3, 4]", "options.swiftprune.alpha=0.125", "evaluation.batch_size=2"]
    )
    again = sweep.with_name("again.yaml")
    again.write_text(loading.dump(config))
    assert loading.load(str(again)) == config


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("methods=[wanda]", lambda c: c.methods, ("wanda",)),
        ("dtype=float32", lambda c: c.dtype, "float32"),
        ("calibration.samples=7", lambda c: c.calibration.samples, 7),
        ("options.swiftprune.selection=exact", lambda c: c.options.swiftprune.selection, "exact"),
        ("evaluation.perplexity[0].windows=3", lambda c: c.evaluation.perplexity[0].windows, 3),
        ("evaluation.perplexity.0.windows=3", lambda c: c.evaluation.perplexity[0].windows, 3),
        (
            "evaluation.perplexity[0].windows=null",
            lambda c: c.evaluation.perplexity[0].windows,
            None,
        ),
        ("tracking.experiment=other", lambda c: c.tracking.experiment, "other"),
        ("targets=[1:4]", lambda c: c.targets, ("1:4",)),
        ("trust.remote_code=true", lambda c: c.trust.remote_code, True),
        ("name=other=name", lambda c: c.name, None),
    ],
)
def test_set_reaches_fields(sweep: Path, setting: str, read: object, expected: object) -> None:
    if expected is None and setting.startswith("name"):
        with pytest.raises(ConfigurationError, match="name"):
            loading.load(str(sweep), [setting])
        return
    assert read(loading.load(str(sweep), [setting])) == expected  # type: ignore[operator]


def test_set_reaches_every_field_of_the_schema(sweep: Path) -> None:
    """Setting each leaf to its own default changes nothing."""
    config = loading.load(str(sweep))

    def leaves(node: object, path: str) -> list[tuple[str, object]]:
        if isinstance(node, dict):
            return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}")]
        if isinstance(node, list) and node and isinstance(node[0], dict):
            return [leaf for i, value in enumerate(node) for leaf in leaves(value, f"{path}[{i}]")]
        return [(path.lstrip("."), node)]

    found = leaves(config.model_dump(mode="json"), "")
    assert len(found) > 40
    import json

    for field, value in found:
        assert loading.load(str(sweep), [f"{field}={json.dumps(value)}"]) == config, field


def test_paths_are_relative_to_the_file_or_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "sweeps" / "s.yaml"
    path.write_text(
        "name: x\nmodels: [./model, file.gguf, org/name, tiny-random]\n"
        "calibration: {corpus: {source: files, files: [a.txt, /b.txt]}}\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = loading.load(str(path))
    folder = tmp_path / "sweeps"
    assert config.models == (
        str(folder / "model"), str(folder / "file.gguf"), "org/name", "tiny-random",
    )  # fmt: skip
    assert config.calibration.corpus.files == (str(folder / "a.txt"), "/b.txt")
    config = loading.load(str(path), ["calibration.corpus.files=[c.txt]", "models=[./m]"])
    assert config.calibration.corpus.files == (str(tmp_path / "elsewhere" / "c.txt"),)
    assert config.models == (str(tmp_path / "elsewhere" / "m"),)


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("models[1]=./m", lambda c: c["models"][1]),
        ("models.1=./m", lambda c: c["models"][1]),
        ("models[1]=m.gguf", lambda c: c["models"][1]),
        ("calibration.corpus.files[0]=m", lambda c: c["calibration"]["corpus"]["files"][0]),
        ("evaluation.x[0].data.train=m", lambda c: c["evaluation"]["x"][0]["data"]["train"]),
        ("evaluation.x[0].data={train: m}", lambda c: c["evaluation"]["x"][0]["data"]["train"]),
    ],
)
def test_paths_in_entries_of_lists_are_relative_to_the_working_folder(
    setting: str, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "models: [./a, ./b]\ncalibration: {corpus: {files: [a.txt]}}\n"
        "evaluation: {x: [{data: {train: a, dev: b}}]}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = read(loading.read(str(path), [setting], base=Path.cwd()))
    assert found in (str(Path.cwd() / name) for name in ("m", "m.gguf"))


def test_an_entry_of_an_empty_list_is_refused_in_words(sweep: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        loading.load(str(sweep), ["models=[]", "models[0]=./m"])


@pytest.mark.parametrize("name", list(loading.presets()))
def test_every_preset_is_valid_and_named_like_its_file(name: str) -> None:
    config = loading.load(name)
    assert config.name == name
    for method in config.entries:
        config.method(method)


def test_variants_are_methods_with_other_options(tmp_path: Path) -> None:
    config = loading.load(
        "smoke",
        [
            "methods=[swiftprune]",
            "options.swiftprune.alpha=0.25",
            "variants={short: {method: swiftprune, options: {tokens: 64}}}",
            "variants.by-row={method: wanda}",
        ],
    )
    assert config.entries == ("swiftprune", "short", "by-row")
    short = config.method("short")
    assert (short.name, short.tokens, short.alpha) == ("swiftprune", 64, 0.25)
    assert config.method("by-row").name == "wanda"
    path = tmp_path / "again.yaml"
    path.write_text(loading.dump(config))
    assert loading.load(str(path)) == config


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("{wanda: {method: ast}}", r"variants\.wanda.*name that no method has"),
        ("{x: {method: ast, options: {maks: 1}}}", r"variants\.x\.options\.maks.*no such option"),
        ("{x: {method: ast, options: {mask: a}}}", r"variants\.x\.options\.mask.*adaptive.*'a'"),
        ("{x: {method: asst}}", r"variants\.x\.method.*did you mean 'ast'"),
        ("{x: {methd: ast}}", r"variants\.x\.methd.*method, options"),
        ("{'a b': {method: ast}}", r"variants.*a b"),
    ],
)
def test_wrong_variants_name_the_field(variants: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?is){message}"):
        loading.load("smoke", [f"variants={variants}"])


def test_configs_are_frozen() -> None:
    config = SweepConfig(name="x")
    with pytest.raises(ValueError, match="frozen"):
        config.name = "y"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.calibration.samples = 3  # type: ignore[misc]


def test_every_field_has_its_doc_line() -> None:
    def visit(schema: type, where: str) -> None:
        for name, field in schema.model_fields.items():
            assert field.description, f"{where}.{name}"
            default = field.default
            if hasattr(type(default), "model_fields"):
                visit(type(default), f"{where}.{name}")

    visit(SweepConfig, "sweep")
