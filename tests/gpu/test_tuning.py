"""Dropout of a shared batch on a GPU, where kernels draw in their own way.

See ``test_cuda.py`` for what it needs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.tuning import network_of, require_rows_of_the_whole

REHEARSAL = os.environ.get("SECATEUR_GPU_REHEARSAL") == "1"
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (REHEARSAL or torch.cuda.is_available()), reason="there is no GPU (torch.cuda)"
    ),
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["Bert", "DebertaV2"])
def test_each_process_drops_what_one_would(kind: str, attention: str, tmp_path: Path) -> None:
    network = network_of(tmp_path, kind, DEVICE)
    if kind == "Bert":
        network.model.set_attn_implementation(attention)
    require_rows_of_the_whole(network, DEVICE, 1e-5)
