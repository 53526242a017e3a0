"""Encoders: found, loaded, proven, pruned, and loaded again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import encoders

from configs.trust import Trust
from tasks.data.windows import check_length, positions_of, prefix_tokens, suffix_tokens
from tasks.models.architecture.decoder import describe
from tasks.models.examine import contents_of
from tasks.models.load import load_config, load_model
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import save_checkpoint
from tasks.pruning.core.driver import collect_statistics, prune
from tasks.pruning.core.registry import methods, parse_target
from tasks.pruning.core.structure import structure_of

FAMILIES = ("Bert", "Roberta", "DistilBert", "Electra")
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize(
    "method", ["magnitude", "wanda", "sparsegpt", "swiftprune", "sketched_obs"]
)
def test_an_encoder_is_pruned_and_loads_again(kind: str, method: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = encoders.write(tmp_path / "model", kind)
    contents = contents_of(folder, Trust(), (), field="models[0]", given="mine")
    assert contents.encoder
    assert not contents.unread
    model = load_model(folder, torch.float32, CPU, Trust())
    decoder = describe(model)
    assert len(decoder.layers()) == 12
    tokens_NL = torch.randint(5, 60, (4, 24), generator=torch.Generator().manual_seed(0))
    chosen = methods()[method]()
    statistics = collect_statistics(decoder, tokens_NL, sketch=8)
    result = prune(chosen, decoder, parse_target("2:4"), tokens_NL=tokens_NL, statistics=statistics)
    out = tmp_path / "pruned"
    save_checkpoint(model, folder, result.weights, out, dtype=torch.float32, metadata={})
    again, info = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, layer in describe(again).layers().items():
        kept = (layer.weight_OI.reshape(-1, 4) != 0).sum(1)
        assert (kept <= 2).all(), name
    assert torch.isfinite(again(input_ids=tokens_NL).last_hidden_state).all()


@pytest.mark.parametrize("kind", FAMILIES)
def test_heads_and_channels_of_an_encoder_are_cut_out(kind: str, tmp_path: Path) -> None:
    folder = encoders.write(tmp_path / "model", kind, num_attention_heads=4)
    model = load_model(folder, torch.float32, CPU, Trust())
    decoder = describe(model)
    structure = structure_of(decoder)
    assert (structure.groups, structure.queries, structure.head_dim) == (4, 1, 8)
    tokens_NL = torch.randint(5, 60, (4, 24), generator=torch.Generator().manual_seed(0))
    result = prune(methods()["wanda_sp"](), decoder, parse_target(0.5), tokens_NL=tokens_NL)
    assert result.kept is not None
    metadata = {"kept": kept_to_json(result.kept)}
    out = tmp_path / "pruned"
    save_checkpoint(model, folder, result.weights, out, dtype=torch.float32, metadata=metadata)
    whole, small = (load_pruned(out, sliced=sliced) for sliced in (False, True))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())
    wanted, given = (m(input_ids=tokens_NL).last_hidden_state for m in (whole, small))
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)


def test_a_masked_language_model_has_no_pooler_and_none_is_invented(tmp_path: Path) -> None:
    folder = encoders.write(tmp_path, head="ForMaskedLM")
    contents = contents_of(folder, Trust(), (), field="models[0]", given="mine")
    assert any("cls." in name for name in contents.unread)
    model = load_model(folder, torch.float32, CPU, Trust())
    assert model.pooler is None


def test_blocks_that_the_configuration_leaves_unread_are_refused(tmp_path: Path) -> None:
    """Named with the base model's prefix, which the encoder itself has not."""
    folder = encoders.write(tmp_path, head="ForMaskedLM", num_hidden_layers=3)
    encoders.config(num_hidden_layers=2).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.2"):
        contents_of(folder, Trust(), (), field="models[0]", given="mine")


def test_windows_of_an_encoder_are_framed_as_its_tokenizer_frames_a_text(tmp_path: Path) -> None:
    tokenizer = encoders.tokenizer()
    assert prefix_tokens(tokenizer) == (2,)
    assert suffix_tokens(tokenizer) == (3,)
    config = load_config(encoders.write(tmp_path, "Roberta"), Trust())
    assert positions_of(config) == encoders.SIZES["max_position_embeddings"] - 1
    with pytest.raises(ValueError, match="at most 127 tokens"):
        check_length(config, 128, "calibration.sequence_length")
