"""Whatever a sweep file or ``--set`` holds: a sweep, or one mistake that names its field, soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from configs.yaml_file import load

_SECONDS = 10.0
"""Of processor time. Quadratic or exponential reading took minutes; a machine is never so slow."""


def read(text: str, tmp_path: Path, *changes: str) -> SweepConfig | ConfigurationError:
    """The sweep, or the mistake; anything else that is raised fails the test."""
    path = tmp_path / "sweep.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    begun = time.process_time()
    try:
        return load(str(path), changes)
    except ConfigurationError as error:
        return error
    finally:
        assert time.process_time() - begun < _SECONDS


def nested_aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


HUGE = {
    "aliases of aliases": nested_aliases(20),
    "100 000 targets": f"name: x\ntargets: [{', '.join(f'0.{i:06}' for i in range(1, 100_000))}]",
    "10 000 seeds": f"name: x\nseeds: {list(range(10_000))}",
    "3 000 brackets": "name: " + "[" * 3_000 + "]" * 3_000,
    "3 000 braces": "name: " + "{a: " * 3_000 + "}" * 3_000,
    "3 000 dashes": "name: " + "- " * 3_000,
    "a long name": f"name: {'x' * 60_000}",
    "a long model": f"name: x\nmodels: ['{'m' * 5_000}']",
    "a long path": f"name: x\ncalibration: {{corpus: {{source: files, files: ['{'p' * 5_000}']}}}}",
    "too many cells": f"name: x\nseeds: {list(range(900))}\ntargets: "
    f"{[round(0.001 * i, 3) for i in range(1, 190)]}",
}


@pytest.mark.parametrize("case", HUGE)
def test_a_text_that_would_hold_a_core_is_a_mistake(case: str, tmp_path: Path) -> None:
    assert isinstance(read(HUGE[case], tmp_path), ConfigurationError)


WRONG = {
    "models=['']": "models[0]",
    "models=['~nosuchuser/x']": "models[0]",
    r'models=["a\0b"]': "models[0]",
    r'calibration.corpus={source: files, files: ["a\0b"]}': "files[0]",
    "calibration.corpus={source: files, files: [~nosuchuser/x]}": "files[0]",
    "evaluation.perplexity.²=1": "evaluation.perplexity.²",
    "evaluation.perplexity.99=1": "evaluation.perplexity.99",
    "seeds=[true]": "seeds",
    "seeds=[1.5]": "seeds[0]",
    "targets=[1e-30]": "targets[0]",
    "targets=['٠.٥']": "targets[0]",
    "targets=[1_0:2_0]": "targets[0]",
    "targets=0.5": "targets",
    "calibration=5": "calibration",
    "calibration.samples=true": "calibration.samples",
    "calibration.samples=100000000000000000000": "calibration.samples",
    "evaluation.batch_size=100000000000000000000": "evaluation.batch_size",
    "evaluation={device_map: auto, max_memory: {cpu: lots}}": "evaluation.max_memory.cpu",
    "evaluation={device_map: auto, max_memory: {gpu9: 20GiB}}": "evaluation.max_memory.gpu9",
    "tracking.experiment=a/b": "tracking.experiment",
    "name=*x": "--set name",
    "name=!!bool maybe": "--set name",
    'name=!!int ""': "--set name",
    "name=!!timestamp x": "--set name",
    "name=!!set {x, y}": "--set name",
    f"{'a.' * 1_000}a=1": "--set",
    "name=!!python/object/apply:os.system [id]": "--set name",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_mistake_names_its_field_and_speaks_as_people_do(setting: str, tmp_path: Path) -> None:
    told = read("name: x", tmp_path, setting)
    assert isinstance(told, ConfigurationError)
    assert WRONG[setting] in told.field
    assert "tuple" not in str(told)
    assert len(str(told)) < 1_500


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("evaluation.batch_size=auto", "it must be a whole number (the default is 4)"),
        ("calibration.samples=1.5", "it must be a whole number (the default is"),
        ("seeds=[x]", "it must be a whole number"),
    ],
)
def test_a_whole_number_is_asked_for_with_its_default(
    setting: str, told: str, tmp_path: Path
) -> None:
    found = read("name: x", tmp_path, setting)
    assert isinstance(found, ConfigurationError)
    assert found.allowed.startswith(told)


def test_an_alias_of_a_text_is_read(tmp_path: Path) -> None:
    sweep = read("name: &n demo\ntracking: {experiment: *n}", tmp_path)
    assert isinstance(sweep, SweepConfig)
    assert sweep.tracking.experiment == "demo"


FIELDS = st.sampled_from([*SweepConfig.model_fields, "calibration.samples", "nosuch", "", "a.0.b"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["0.5", "2:4", "~root/x", "../..", "/dev/zero", "magnitude", "-", "\0"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*SweepConfig.model_fields, "corpus", "files", "x"]), inner
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(raw=st.dictionaries(FIELDS, VALUES, max_size=5))
def test_any_data_is_a_sweep_or_a_mistake(raw: dict, tmp_path: Path) -> None:
    read(yaml.safe_dump({"name": "x", **raw}), tmp_path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
@example(text="\ufeffname: x")
@example(text="name: x\r\n--- \nname: y")
@example(text="? [a]\n: b")
@example(text="name: 0o17\nseeds: [0x10, 1_000, 190:20:30]")
def test_any_text_is_a_sweep_or_a_mistake(text: str, tmp_path: Path) -> None:
    read(text, tmp_path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(field=FIELDS | st.text(max_size=10), value=st.text(max_size=40) | VALUES.map(yaml.safe_dump))
def test_any_setting_is_taken_or_a_mistake(field: str, value: str, tmp_path: Path) -> None:
    read("name: x", tmp_path, f"{field}={value}")
