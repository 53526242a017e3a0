"""A mixture of experts through a whole sweep: its checkpoint is what the table says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Home
from support import families

from tasks.data.windows import load_windows
from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.architecture.decoder import describe

pytestmark = pytest.mark.slow

SWEEP = """
name: mixture
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 2, sequence_length: 64}
methods: [magnitude, wanda, sparsegpt, swiftprune]
targets: ["0.5"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mixtral's files name each expert's matrices; in memory they are two tensors."""
    from transformers import AutoTokenizer

    from configs.trust import Trust
    from tasks.models.prepare import prepare
    from tasks.models.sources.sources import resolve_model

    source = resolve_model(
        "tiny-random", field="models", base=Path(), trust=Trust(), digest_cache=None
    )
    prepare(source, tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    model = families.model_of("mixtral")
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "mixtral")
    tokenizer.save_pretrained(tmp_path / "mixtral")
    return tmp_path / "mixtral"


def test_every_checkpoint_is_the_model_of_its_row(
    folder: Path, make_home: Callable[..., Home]
) -> None:
    from transformers import AutoModelForCausalLM

    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, output = home.run("run", "sweep.yaml", "--set", f"models=[{folder}]")
    assert status == 0, output
    rows = {row["method"]: row for row in home.rows("mixture")}
    assert set(rows) == {"dense", "magnitude", "wanda", "sparsegpt", "swiftprune"}
    files = list((home.path / "artifacts" / "tokens").glob("*/windows.safetensors"))
    texts = [load_windows(path) for path in files]
    for name, row in rows.items():
        place = folder if name == "dense" else Path(row["checkpoint"])
        model = AutoModelForCausalLM.from_pretrained(place).eval()
        found = [perplexity(model, windows).perplexity for windows in texts]
        assert any(value == pytest.approx(row["perplexity/docs"], rel=1e-6) for value in found)
        if name == "dense":
            continue
        for layer in describe(model).layers().values():
            zeros = (layer.weight_OI == 0).float().mean().item()
            assert zeros == pytest.approx(0.5, abs=0.02), layer.name
        # Were the files' names not understood, each layer's error would be 0, or that of no layer.
        assert 0.05 < row["reconstruction_error"] < 0.95
