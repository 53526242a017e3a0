"""A model spread over memory and disk has the figures of the model in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structured
import tiny
import torch
from support.cards import Cards, card, spread

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.run import evaluate_windows
from tasks.models.architecture.head import split_head
from tasks.models.errors import UnsupportedModelError
from tasks.models.placement import added, counts_by_name, load_placed, parse_max_memory
from tasks.models.saved.branches import FILE
from tasks.models.saved.save import METADATA

CPU = torch.device("cpu")


def saved(model: Any, folder: Path) -> Path:
    model.generation_config = type(model.generation_config)()
    model.save_pretrained(folder)
    return folder


MAKERS = {
    "tied": lambda: tiny.llama(num_hidden_layers=6),
    "untied": lambda: structured.model_of("llama", num_hidden_layers=6),
    "gpt2": tiny.gpt2,
    "gpt_neox": tiny.gpt_neox,
    "opt": tiny.opt,
}


def limit(model: Any, share: float) -> dict[str, str]:
    return {"cpu": f"{share * 4 * model.num_parameters() / 1000:.3f}KB"}


@pytest.mark.parametrize("share", [0.9, 0.01])
@pytest.mark.parametrize("name", MAKERS)
def test_same_figures_with_weights_on_disk(name: str, share: float, tmp_path: Path) -> None:
    model, ids_NL = MAKERS[name](), tiny.tokens(5, 16)
    with torch.no_grad():
        next(iter(model.base_model.parameters()))[3] = 0  # zeros to count
    folder = saved(model, tmp_path / "model")
    plain = evaluate_windows(
        folder, ids_NL, scratch=tmp_path, device=CPU, write_reference=tmp_path / "plain"
    )
    placed = evaluate_windows(
        folder,
        ids_NL,
        scratch=tmp_path,
        device=CPU,
        device_map="auto",
        max_memory=limit(model, share),
        reference=Reference(tmp_path / "plain", folder),
        write_reference=tmp_path / "placed",
    )
    assert placed.perplexity == pytest.approx(plain.perplexity, rel=1e-6)
    assert placed.kl == pytest.approx(0, abs=1e-7)
    spread = load_placed(
        folder, torch.float32, Trust(), max_memory=limit(model, share), scratch=tmp_path
    )
    total, nonzero = added(counts_by_name(spread).values())
    assert (total, nonzero) == added(counts_by_name(model).values())
    assert nonzero < total == model.num_parameters()
    files = [tmp_path / kept / "hidden.safetensors" for kept in ("plain", "placed")]
    assert files[0].stat().st_size == files[1].stat().st_size


def test_the_limit_forces_memory_and_disk(tmp_path: Path) -> None:
    model = MAKERS["untied"]()
    folder = saved(model, tmp_path / "model")
    network = load_placed(
        folder, torch.float32, Trust(), max_memory=limit(model, 0.9), scratch=tmp_path
    )
    assert set(network.hf_device_map.values()) == {"cpu", "disk"}
    assert {p.device.type for p in network.parameters()} == {"cpu", "meta"}
    # Logits stay bounded: it splits as the model in one place does.
    assert split_head(network) is not None
    assert added(counts_by_name(network).values())[0] == model.num_parameters()


def test_same_figures_on_two_cards(tmp_path: Path) -> None:
    """The whole model's logits come back to the first card, its head's stay on the last."""
    model, ids_NL = structured.model_of("llama").eval(), tiny.tokens(5, 16)
    folder = saved(model, tmp_path / "model")
    reference = Reference(tmp_path / "reference", folder)
    plain = evaluate_windows(
        folder, ids_NL, scratch=tmp_path, device=CPU, write_reference=reference.folder
    )
    first = ("embed_tokens", "rotary_emb", "layers.0", "layers.1")
    places = {f"model.{name}": card(0) for name in first}
    places |= dict.fromkeys(("model.layers.2", "model.norm", "lm_head"), card(1))
    with Cards():
        network = spread(model, places)
        assert split_head(network) is not None
        placed = evaluate_windows(
            network, ids_NL, scratch=tmp_path, device=CPU, reference=reference
        )
    assert placed.perplexity == pytest.approx(plain.perplexity, rel=1e-6)
    assert placed.kl == pytest.approx(0, abs=1e-7)
    assert placed.top1_agreement == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpu": "lots"}, "evaluation.max_memory.cpu: 'lots' is not possible; a size is"),
        ({"cpu": "20"}, "evaluation.max_memory.cpu: '20' is not possible"),
        ({"cpu": "-1GB"}, "evaluation.max_memory.cpu: '-1GB' is not possible"),
        ({"77": "1GiB"}, "evaluation.max_memory.77: '1GiB' is not possible; the devices here are"),
        ({"disk": "1GiB"}, "evaluation.max_memory.disk"),
    ],
)
def test_wrong_limits(given: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_placed(tmp_path, None, Trust(), max_memory=given, scratch=tmp_path)
    assert message in str(raised.value)


def test_sizes() -> None:
    assert parse_max_memory({"cpu": "1.5GiB"}) == {"cpu": 3 << 29}
    assert parse_max_memory({}) == {}


def test_what_cannot_be_spread_is_refused(tmp_path: Path) -> None:
    folder = saved(tiny.llama(), tmp_path / "model")
    (folder / METADATA).write_text('{"form": "sliced"}')
    with pytest.raises(UnsupportedModelError, match="sliced weights cannot be spread"):
        load_placed(folder, None, Trust(), max_memory={}, scratch=tmp_path)
    (folder / METADATA).unlink()
    (folder / FILE).touch()
    with pytest.raises(UnsupportedModelError, match="side branches cannot be spread"):
        load_placed(folder, None, Trust(), max_memory={}, scratch=tmp_path)
