"""What a plan says of texts that are looked at and measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.yaml_file import validate
from tasks.plan.sweep import plan_sweep

MINE, OTHER = ({"source": "files", "files": [name]} for name in ("mine.txt", "other.txt"))
BOTH = [MINE, OTHER]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "other"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} cat sat on the mat\n" * 200)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("calibration", "measured", "method", "reads"),
    [
        (MINE, OTHER, "wanda", ""),
        (MINE, MINE, "magnitude", ""),
        (MINE, MINE, "wanda", "calibration"),
        (BOTH, MINE, "wanda", "calibration"),
        (MINE, MINE, "policy_gradient", "calibration and training"),
    ],
)
def test_a_measured_text_that_pruning_looks_at_is_told(
    calibration: Any, measured: Any, method: str, reads: str
) -> None:
    text = {"corpus": calibration, "samples": 2, "sequence_length": 16}
    config = validate(
        {
            "name": "texts",
            "models": ["tiny-random"],
            "dtype": "float32",
            "calibration": text,
            "training": {"sequence_length": 16},
            "methods": [method],
            "options": {"policy_gradient": {"sequence_length": 16}},
            "targets": ["0.5"],
            "evaluation": {
                "perplexity": [{"name": "t", "corpus": measured, "sequence_length": 16,
                                "windows": 3}],
            },
        }
    )  # fmt: skip
    notes = plan_sweep(config, dtype="float32").text_notes
    assert [note.partition(" too,")[0] for note in notes] == (
        [f"perplexity t is measured on a text that {reads} read"] if reads else []
    )


@pytest.mark.usefixtures("folder")
def test_a_method_that_looks_at_fewer_windows_is_told() -> None:
    config = validate(
        {
            "name": "texts",
            "models": ["tiny-random"],
            "calibration": {"corpus": MINE, "samples": 4, "sequence_length": 16},
            "methods": ["sketched_obs", "wanda"],
            "variants": {"fast": {"method": "sketched_obs", "options": {"tokens": 16}}},
            "targets": ["0.5"],
            "evaluation": {"perplexity": [{"name": "t", "corpus": OTHER, "windows": 1,
                                           "sequence_length": 16}]},
        }
    )  # fmt: skip
    (said,) = plan_sweep(config, dtype="float32").text_notes
    assert said == "fast looks at 1 of the 4 calibration windows."
