"""What the workers of a training start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from support import encoders
from transformers import AutoModel, PreTrainedModel

from tasks.training.files import MODEL, read_windows, write_start


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_a_model_is_written_and_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    """An encoder has no settings of generation."""
    if kind == "encoder":
        model: PreTrainedModel = AutoModel.from_pretrained(encoders.write(tmp_path / "source"))
    else:
        model = tiny.llama()
    before = getattr(model, "generation_config", None)
    windows = tiny.tokens()
    (tmp_path / "run").mkdir()
    write_start(tmp_path / "run", model, windows, windows > 2)
    assert getattr(model, "generation_config", None) is before
    assert (tmp_path / "run" / MODEL / "config.json").is_file()
    found, counted = read_windows(tmp_path / "run")
    assert torch.equal(found, windows)
    assert counted is not None
    assert torch.equal(counted, windows > 2)
