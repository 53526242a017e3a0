"""Encoders: found, loaded, proven, pruned, and loaded again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import encoders, families

from configs.trust import Trust
from tasks.data.windows import (
    _AFTER_PADDING,
    check_length,
    positions_of,
    prefix_tokens,
    suffix_tokens,
)
from tasks.measures.reconstruction.layer_errors import reconstruction_errors
from tasks.models.architecture.decoder import describe
from tasks.models.architecture.head import split_head
from tasks.models.errors import UnsupportedModelError
from tasks.models.examine import contents_of
from tasks.models.load import load_config, load_model
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import save_checkpoint
from tasks.pruning.ast.distillation import hidden_gradient
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.driver import collect_statistics, prune
from tasks.pruning.core.gates import gated_loss, hidden_distance
from tasks.pruning.core.registry import methods, parse_target
from tasks.pruning.core.structure import Kept, masked_weights, structure_of
from tasks.pruning.core.targets import SemiStructured
from tasks.pruning.policy_gradient.method import PolicyGradient

FAMILIES = ("Bert", "Roberta", "DistilBert", "Electra")
RELATIVE = ("Deberta", "DebertaV2")
"""Whose blocks are called with a table of relative positions."""
STRUCTURED = (*FAMILIES, "DebertaV2")
"""Whose heads and channels are known."""
CPU = torch.device("cpu")


def encoder(folder: Path, kind: str = "Bert", **changes: Any) -> tuple[Any, Decoder, torch.Tensor]:
    """A tiny one, as pruning sees it, and windows of tokens.

    Its layers are stronger than random ones: those move hidden states too little to matter.
    """
    model = load_model(
        encoders.write(folder / "model", kind, **changes), torch.float32, CPU, Trust()
    )
    tokens_NL = torch.randint(5, 60, (4, 24), generator=torch.Generator().manual_seed(0))
    decoder = describe(model)
    for layer in decoder.layers().values():
        layer.whole.mul_(8)
    return model, decoder, tokens_NL


@pytest.mark.parametrize("kind", FAMILIES + RELATIVE)
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


@pytest.mark.parametrize("kind", STRUCTURED)
def test_heads_and_channels_of_an_encoder_are_cut_out(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModel

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
    # Padding too: what a removed head attends to must not matter.
    mask_NL = (torch.arange(24) < torch.tensor([[24], [20], [9], [1]])).long()
    stock = AutoModel.from_pretrained(out)
    wanted, given, read = (
        m(input_ids=tokens_NL, attention_mask=mask_NL).last_hidden_state
        for m in (whole, small, stock)
    )
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)
    assert torch.equal(read, wanted)
    before = model(input_ids=tokens_NL, attention_mask=mask_NL).last_hidden_state
    assert not torch.allclose(before, wanted, atol=1e-3)


@pytest.mark.parametrize("kind", ["Deberta", "DebertaV2"])
def test_heads_that_positions_have_matrices_of_their_own_for_stay(
    kind: str, tmp_path: Path
) -> None:
    """Version 1, and version 2 without ``share_att_key``, as the authors' models do not."""
    changes = {"share_att_key": False} if kind == "DebertaV2" else {}
    folder = encoders.write(tmp_path / "model", kind, **changes)
    contents = contents_of(folder, Trust(), (), field="models[0]", given="mine")
    assert f"{kind}Model is none that is known" in contents.unstructured
    assert "such as wanda" in contents.unstructured
    _, decoder, tokens_NL = encoder(tmp_path, kind, **changes)
    for name in ("wanda_sp", "policy_gradient"):
        with pytest.raises(ValueError, match="no other matrix that belongs to its heads"):
            prune(
                methods()[name](), decoder, parse_target(0.5),
                tokens_NL=tokens_NL, training_NL=tokens_NL.repeat(4, 8),
            )  # fmt: skip


@pytest.mark.parametrize("kind", STRUCTURED)
def test_gates_of_an_encoder_compute_what_removal_computes(kind: str, tmp_path: Path) -> None:
    model, decoder, tokens_NL = encoder(tmp_path, kind)
    structure = structure_of(decoder)
    generator = torch.Generator().manual_seed(0)
    loss = hidden_distance(model)
    assert float(loss(tokens_NL)) == 0
    with gated_loss(decoder, loss) as gated:
        groups_LG = (torch.rand(2, structure.groups, generator=generator) < 0.5).float()
        channels_LC = (torch.rand(2, structure.channels, generator=generator) < 0.5).float()
        groups_LG[:, 0] = channels_LC[:, 0] = 1
        told = gated(groups_LG, channels_LC, tokens_NL)
        assert gated(torch.ones_like(groups_LG), torch.ones_like(channels_LC), tokens_NL) == 0
    with torch.no_grad():
        wanted = model(input_ids=tokens_NL).last_hidden_state
    kept = [Kept(g > 0, c > 0) for g, c in zip(groups_LG, channels_LC, strict=True)]
    model.load_state_dict(dict(masked_weights(decoder, kept)), strict=False)
    with torch.no_grad():
        given = model(input_ids=tokens_NL).last_hidden_state
    error = (given - wanted).square().sum() / wanted.square().sum()
    assert told == pytest.approx(float(error), rel=1e-5)
    assert told > 1e-4


@pytest.mark.parametrize("kind", ["Bert", "DebertaV2"])
def test_a_policy_learns_which_heads_and_channels_of_an_encoder_stay(
    kind: str, tmp_path: Path
) -> None:
    model, decoder, tokens_NL = encoder(tmp_path, kind, num_attention_heads=4)
    method = PolicyGradient(
        steps=30, masks=8, batch_size=4, sequence_length=24, channel_group=4, validation_windows=4,
        initialisation="constant", grouping="contiguous",
    )  # fmt: skip
    training_NL = torch.randint(5, 60, (16, 24), generator=torch.Generator().manual_seed(1))
    result = prune(method, decoder, parse_target(0.5), tokens_NL=tokens_NL, training_NL=training_NL)
    assert result.kept is not None
    assert sum(int(kept.groups_G.sum()) for kept in result.kept) == 4
    assert sum(int(kept.channels_C.sum()) for kept in result.kept) == 48
    judged = [step["validation_loss"] for step in result.history if "validation_loss" in step]
    assert min(judged) < result.figures["initial_validation_loss"]
    metadata = {"kept": kept_to_json(result.kept)}
    folder, out = tmp_path / "model", tmp_path / "pruned"
    save_checkpoint(model, folder, result.weights, out, dtype=torch.float32, metadata=metadata)
    whole, small = (load_pruned(out, sliced=sliced) for sliced in (False, True))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())
    wanted, given = (m(input_ids=tokens_NL).last_hidden_state for m in (whole, small))
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", RELATIVE)
def test_the_walk_of_an_encoder_with_relative_positions_is_the_model(
    kind: str, tmp_path: Path
) -> None:
    _, decoder, tokens_NL = encoder(tmp_path, kind)
    assert families.worst_difference(decoder, tokens_NL, batch=3) <= 1e-5


@pytest.mark.parametrize("kind", RELATIVE)
def test_positions_count_where_a_layer_sees_no_token(kind: str, tmp_path: Path) -> None:
    """Once a window, however many windows a forward pass takes; tokens count alone elsewhere."""
    model, decoder, tokens_NL = encoder(tmp_path, kind)
    told: dict[str, list[torch.Tensor]] = {}
    handles = [
        layer.module.register_forward_pre_hook(
            lambda _, args, name=name: told.setdefault(name, []).append(args[0])
        )
        for name, layer in decoder.layers().items()
    ]
    for window_1L in tokens_NL.split(1):
        model(input_ids=window_1L)
    for handle in handles:
        handle.remove()
    wanted = {}
    for name, inputs in told.items():
        tokens = [x for x in inputs if x.shape[:2] == (1, tokens_NL.shape[1])]
        rows = torch.cat([x.flatten(0, -2) for x in tokens or inputs])
        wanted[name] = rows.square().sum(0)
    statistics = collect_statistics(decoder, tokens_NL)
    assert statistics.keys() == wanted.keys()
    for name, energy_I in wanted.items():
        torch.testing.assert_close(statistics[name].energy_I, energy_I, rtol=1e-5, atol=1e-5)
    alone = {name for name, found in statistics.items() if not found.windows}
    assert len(alone) == (4 if kind == "Deberta" else 0)
    both = {name for name, inputs in told.items() if len(inputs) > len(tokens_NL)}
    assert len(both) == (0 if kind == "Deberta" else 4), "query and key of both blocks"


@pytest.mark.parametrize("kind", RELATIVE)
def test_errors_of_layers_with_relative_positions_are_those_of_any_batch(
    kind: str, tmp_path: Path
) -> None:
    model, decoder, tokens_NL = encoder(tmp_path, kind)
    pruned = prune(methods()["magnitude"](), decoder, parse_target("2:4"), tokens_NL=tokens_NL)
    one, all_four = (
        reconstruction_errors(model, decoder, pruned.weights, tokens_NL, batch_size=size)
        for size in (1, 4)
    )
    assert one == pytest.approx(all_four, rel=1e-5)
    assert one.keys() == decoder.layers().keys()
    assert min(one.values()) > 0


def test_a_convolution_between_blocks_is_refused(tmp_path: Path) -> None:
    """It adds to the second block's input what no block computes."""
    _, decoder, tokens_NL = encoder(tmp_path, "DebertaV2", conv_kernel_size=3, conv_act="gelu")
    with pytest.raises(UnsupportedModelError, match=r"after encoder\.layer\.1 .* away"):
        collect_statistics(decoder, tokens_NL)


@pytest.mark.parametrize("kind", FAMILIES + RELATIVE)
def test_an_encoder_is_retrained_towards_its_own_hidden_states(kind: str, tmp_path: Path) -> None:
    model, decoder, tokens_NL = encoder(tmp_path, kind)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    method = AdaptiveSparseTrainer(steps=20, batch=4, learning_rate=5e-3, mask_interval=4)
    result = method.retrain(decoder, SemiStructured(2, 4), tokens_NL, seed=0, split=split_head)
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    for name, weight in result.weights.items():
        assert torch.equal(weight, before[name]) == name.startswith("pooler."), name
    for name, layer in decoder.layers().items():
        weight_OI = result.weights[layer.parameter_of(name)]
        assert (weight_OI.reshape(-1, 4) != 0).sum(1).le(2).all()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), "the model itself stays"


def test_the_gradient_of_hidden_states_is_autograd_s() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_TH, wanted_TH = (torch.randn(5, 7, generator=generator) for _ in range(2))
    hidden_TH.requires_grad_()
    loss = ((hidden_TH - wanted_TH).square().sum(1) / wanted_TH.square().sum(1)).sum()
    loss.backward()
    gradient_TH, total = hidden_gradient(hidden_TH.detach(), wanted_TH, scale=0.3)
    assert float(total) == pytest.approx(loss.item())
    assert hidden_TH.grad is not None
    torch.testing.assert_close(gradient_TH, 0.3 * hidden_TH.grad)


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


COUNTED_FROM_PADDING = {
    "roberta": {},
    "roberta-prelayernorm": {},
    "xlm-roberta": {},
    "xlm-roberta-xl": {},
    "camembert": {},
    "data2vec-text": {},
    "ibert": {},
    "longformer": {"attention_window": 4},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 16},
    "esm": {"mask_token_id": 4},
    "lilt": {},
    "layoutlmv3": {"visual_embed": False, "coordinate_size": 12, "shape_size": 12},
    "markuplm": {},
    "mpnet": {},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
OF_OTHERS = {
    "positions are computed": {"fsmt", "m2m_100", "nllb_moe", "seamless_m4t", "seamless_m4t_v2",
                               "speech_to_text", "speecht5", "trocr", "kosmos2", "kosmos2_5"},
    "no model of text alone": {"altclip", "bridgetower", "clap", "evolla", "pp_doclayout_v2"},
}  # fmt: skip
"""Files of transformers that count so as well, and why no window is cut for their limit."""


@pytest.mark.parametrize("kind", COUNTED_FROM_PADDING)
def test_a_window_of_all_positions_runs_and_a_longer_one_does_not(kind: str) -> None:
    sizes = {"hidden_size": 72, "num_hidden_layers": 1, "num_attention_heads": 3,
             "intermediate_size": 48, "vocab_size": 64, "max_position_embeddings": 34,
             "pad_token_id": 1}  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **sizes, **COUNTED_FROM_PADDING[kind])
    model = transformers.AutoModel.from_config(config).eval()
    longest = positions_of(config)
    assert longest == 32

    def run(length: int) -> None:
        with torch.no_grad():
            model(input_ids=torch.full((1, length), 5))

    run(longest)
    with pytest.raises((IndexError, RuntimeError)):
        run(longest + 1)


def test_every_model_that_counts_positions_from_its_padding_is_known() -> None:
    """A new one would take windows that are too long, and fail on them."""
    folder = Path(transformers.__file__).parent / "models"
    found = {
        file.stem.removeprefix("modeling_")
        for file in folder.glob("*/modeling_*.py")
        if re.search(r"create_position_ids_from_input_ids|padding_idx \+ 1", file.read_text())
    }
    assert len(found) > 20
    assert set(_AFTER_PADDING) == set(COUNTED_FROM_PADDING), "each is tried above"
    mine = {kind.replace("-", "_") for kind in COUNTED_FROM_PADDING}
    assert found - mine - set().union(*OF_OTHERS.values()) == set()
