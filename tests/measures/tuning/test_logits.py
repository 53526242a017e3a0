"""What a tuned model says, before it is scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import encoders
from support.tuning import COLUMNS, examples

from configs.trust import Trust
from tasks.measures.tuning.network import TaskNetwork
from tasks.measures.tuning.training import logits_of
from tasks.models.load import load_model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_name_no_label(value: float, tmp_path: Path) -> None:
    """The largest of them is none, and argmax gives the first label all the same."""
    encoders.write(tmp_path / "model", "Bert")
    model = load_model(tmp_path / "model", torch.float32, torch.device("cpu"), Trust())
    network = TaskNetwork(model, COLUMNS, "last", torch.Generator().manual_seed(0))
    assert logits_of(network, examples(5), 4, padding=0).isfinite().all()
    with torch.no_grad():
        network.head.bias[0] = value
    with pytest.raises(FloatingPointError, match="no finite scores for"):
        logits_of(network, examples(5), 4, padding=0)
