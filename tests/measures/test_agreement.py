"""Agreement with the dense model against its definition in float64."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import structured
import tiny
import torch
from safetensors.torch import load_file

from configs.trust import Trust
from tasks.measures.perplexity import reference as reference_module
from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.run import Evaluated, evaluate_windows
from tasks.models import next_tokens
from tasks.models.architecture import head_alone
from tasks.models.errors import UnsupportedModelError

CPU = torch.device("cpu")
MAKERS = {name: make for name, (make, _) in tiny.ARCHITECTURES.items()} | {
    f"structured {name}": lambda name=name: structured.model_of(name)
    for name in ("llama", "gemma2", "cohere", "qwen3", "granite", "opt")
}


def saved(model: Any, folder: Path) -> Path:
    model.generation_config = type(model.generation_config)()
    model.save_pretrained(folder)
    return folder


def disturbed(model: Any, amount: float = 0.3) -> Any:
    """A copy whose weights, the head's among them, are others."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in copied.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((amount * parameter.float().std(correction=0) * noise).to(parameter))
    return copied


def by_definition(dense: Any, pruned: Any, ids_NL: torch.Tensor) -> tuple[float, float]:
    """(mean KL, share of equal argmax) with whole softmaxes in float64."""
    divergence, agreed, count = 0.0, 0, 0
    for ids_L in ids_NL:
        p_LV, q_LV = (
            model(input_ids=ids_L[None]).logits[0, :-1].double().softmax(-1)
            for model in (dense, pruned)
        )
        divergence += float((p_LV * (p_LV / q_LV).log()).sum())
        agreed += int((p_LV.argmax(-1) == q_LV.argmax(-1)).sum())
        count += len(p_LV)
    return divergence / count, agreed / count


def wrote(model: Any, ids_NL: torch.Tensor, tmp_path: Path, **options: Any) -> Reference:
    folder = saved(model, tmp_path / "dense")
    evaluate_windows(
        model, ids_NL, scratch=tmp_path, device=CPU, write_reference=tmp_path / "kept", **options
    )
    return Reference(tmp_path / "kept", folder)


def compared(model: Any, ids_NL: torch.Tensor, reference: Reference, **options: Any) -> Evaluated:
    scratch = reference.folder / "scratch"
    return evaluate_windows(
        model, ids_NL, scratch=scratch, device=CPU, reference=reference, **options
    )


@pytest.mark.parametrize("name", MAKERS)
def test_equals_the_definition(name: str, tmp_path: Path) -> None:
    dense, ids_NL = MAKERS[name](), tiny.tokens(5, 16)
    reference, some = wrote(dense, ids_NL, tmp_path), 0
    for amount in (0.1, 0.3, 0.6, 1.0):
        pruned = disturbed(dense, amount)
        result = compared(pruned, ids_NL, reference, batch_size=2)
        kl, agreement = by_definition(dense, pruned, ids_NL)
        assert kl > 1e-5
        assert result.kl == pytest.approx(kl, rel=1e-4, abs=1e-7)
        assert result.top1_agreement == agreement
        some += 0 < agreement < 1
    assert some
    alone = evaluate_windows(pruned, ids_NL, scratch=tmp_path, device=CPU)
    assert result.perplexity == pytest.approx(alone.perplexity, rel=1e-6)
    assert alone.kl is None
    assert alone.top1_agreement is None


@pytest.mark.parametrize("amount", [1e-4, 1e-3])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_small_divergence_is_right(name: str, amount: float, tmp_path: Path) -> None:
    """It is as small as the rounding of a float32 sum of terms of both signs."""
    dense, ids_NL = MAKERS[name](), tiny.tokens(5, 16)
    pruned = disturbed(dense, amount)
    result = compared(pruned, ids_NL, wrote(dense, ids_NL, tmp_path))
    kl, _ = by_definition(dense.double(), pruned.double(), ids_NL)
    assert 0 < kl < 1e-5
    assert result.kl == pytest.approx(kl, rel=1e-3)


def test_terms_of_a_divergence_are_right_at_any_ratio() -> None:
    """Against float64: near and far from one, where p underflows and where q is excluded."""
    ratios_V = torch.tensor([0, 1e-6, -1e-4, 0.249, 0.251, -0.249, -0.251, 5, -9, 60, 150, 1000.0])
    dense_TV = torch.linspace(3, -2, len(ratios_V))[None]
    dense_TV[0, -2:] = torch.tensor([-140.0, -990.0])
    pruned_TV = dense_TV + ratios_V
    for words in (7, 9, 10, 11, 12):
        p_V, q_V = (x[0, :words].double().log_softmax(-1) for x in (dense_TV, pruned_TV))
        wanted = float((p_V.exp() * (p_V - q_V)).sum())
        found = next_tokens._compared(pruned_TV[:, :words], dense_TV[:, :words], torch.tensor([0]))
        assert float(found[0, 1]) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("words", [97, 128, 192])
def test_the_greatest_logit_is_the_first_of_equal_ones(words: int) -> None:
    logits_TV = torch.randint(0, 4, (50, words), generator=torch.Generator().manual_seed(0)).float()
    _, _, top_T = next_tokens._normalised(logits_TV)
    first_T = [row.index(max(row)) for row in logits_TV.tolist()]
    assert top_T.tolist() == first_T


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gpt2", "opt"])
def test_the_dense_model_agrees_with_itself(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    dense, ids_NL = MAKERS[name]().to(dtype), tiny.tokens(5, 16)
    result = compared(dense, ids_NL, wrote(dense, ids_NL, tmp_path))
    assert result.kl is not None
    assert 0 <= result.kl < 1e-9
    assert result.top1_agreement == 1.0


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_does_not_depend_on_the_batch_size(
    batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on how many logits there may be at once."""
    dense, ids_NL = tiny.llama(), tiny.tokens(7, 16)
    reference, pruned = wrote(dense, ids_NL, tmp_path, batch_size=2), disturbed(dense)
    expected = compared(pruned, ids_NL, reference, batch_size=2)
    monkeypatch.setattr(next_tokens, "_FEWEST_ROWS", 1)
    monkeypatch.setitem(next_tokens._LOGIT_BYTES, "cpu", 4 * tiny.VOCABULARY * 5)
    result = compared(pruned, ids_NL, reference, batch_size=batch_size)
    assert result.kl == pytest.approx(expected.kl, rel=1e-5, abs=1e-7)
    assert result.top1_agreement == expected.top1_agreement
    itself = compared(dense, ids_NL, reference, batch_size=batch_size)
    assert itself.kl == pytest.approx(0, abs=1e-7)


def test_what_is_kept_are_the_states_that_predict(tmp_path: Path) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(5, 16)
    reference = wrote(dense, ids_NL, tmp_path, batch_size=2)
    hidden = load_file(reference.folder / "hidden.safetensors")["hidden"]
    with torch.no_grad():
        wanted = dense.model(ids_NL).last_hidden_state[:, :-1]
    assert torch.allclose(hidden, wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2", "structured llama"])
def test_of_the_dense_model_only_the_head_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, ids_NL = MAKERS[name](), tiny.tokens(3, 16)
    reference = wrote(dense, ids_NL, tmp_path)
    monkeypatch.setattr(reference_module, "load_model", None)
    loaded: list[Any] = []
    plain = head_alone._without_blocks

    def watched(*arguments: Any) -> Any:
        loaded.append(plain(*arguments))
        return loaded[-1]

    monkeypatch.setattr(head_alone, "_without_blocks", watched)
    assert compared(dense, ids_NL, reference).kl == 0
    (model,) = loaded
    here = sum(p.numel() for p in model.parameters() if not p.is_meta)
    assert here < 1.3 * dense.get_output_embeddings().weight.numel() + 5000
    assert here < 0.3 * dense.num_parameters()


def test_a_model_that_does_not_load_without_blocks_is_loaded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(3, 16)
    reference, pruned = wrote(dense, ids_NL, tmp_path), disturbed(dense)
    expected = compared(pruned, ids_NL, reference)
    monkeypatch.setattr(reference_module, "load_head_alone", lambda *_: None)
    assert compared(pruned, ids_NL, reference).kl == expected.kl


def test_a_model_that_does_not_split_runs_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(3, 16)
    pruned = disturbed(dense)
    monkeypatch.setattr(next_tokens, "split_head", lambda _: None)
    reference = wrote(dense, ids_NL, tmp_path)
    assert not (reference.folder / "hidden.safetensors").exists()
    result = compared(pruned, ids_NL, reference)
    kl, agreement = by_definition(dense, pruned, ids_NL)
    assert result.kl == pytest.approx(kl, rel=1e-4)
    assert result.top1_agreement == agreement


def test_another_models_head_is_noticed(tmp_path: Path) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(3, 16)
    reference = wrote(dense, ids_NL, tmp_path)
    other = saved(disturbed(dense), tmp_path / "other")
    with pytest.raises(UnsupportedModelError, match="its LM head gives other logits"):
        compared(dense, ids_NL, Reference(reference.folder, other))


def test_other_windows_are_noticed(tmp_path: Path) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(4, 16)
    reference = wrote(dense, ids_NL, tmp_path)
    for other in (ids_NL[:3], ids_NL.flip(0), ids_NL.view(8, 8)):
        with pytest.raises(ValueError, match="states of other windows"):
            compared(dense, other, reference)
    (reference.folder / "reference.json").unlink()
    with pytest.raises(ValueError, match="holds no dense model's states"):
        compared(dense, ids_NL, reference)


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(4, 16)
    reference = wrote(dense, ids_NL, tmp_path)
    with pytest.raises(ValueError, match="the dense model gives 97 logits and this one 99"):
        compared(tiny.llama(vocab_size=99), ids_NL, reference)


def test_equal_logits_go_to_the_lowest_id() -> None:
    targets = torch.tensor([0, 0])
    tied = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0]])
    clear = torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    assert next_tokens._compared(tied, clear, targets)[:, 2].tolist() == [1.0, 0.0]


def test_tokens_that_both_exclude_have_no_part() -> None:
    logits = torch.tensor([[0.0, 2.0, -torch.inf]])
    other = torch.tensor([[1.0, 0.0, -torch.inf]])
    found = next_tokens._compared(logits, other, torch.tensor([0]))
    expected = next_tokens._compared(logits[:, :2], other[:, :2], torch.tensor([0]))
    assert torch.allclose(found, expected, atol=1e-6)
    assert next_tokens._compared(other, logits[:, [2, 0, 1]], torch.tensor([0]))[0, 1].isinf()


def test_nan_in_the_dense_model_is_an_error(tmp_path: Path) -> None:
    dense, ids_NL = tiny.llama(), tiny.tokens(4, 16)
    reference = wrote(dense, ids_NL, tmp_path)
    path = reference.folder / "hidden.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = torch.tensor([torch.nan]).numpy().tobytes()
    path.write_bytes(data)
    with pytest.raises(FloatingPointError, match="divergence is NaN"):
        compared(dense, ids_NL, reference)


def test_the_note_says_what_it_is_about(tmp_path: Path) -> None:
    reference = wrote(tiny.llama().bfloat16(), tiny.tokens(4, 16), tmp_path)
    note = json.loads((reference.folder / "reference.json").read_text())
    assert note["split"] is True
    assert note["dtype"] == "bfloat16"
    assert Trust() == Trust(remote_code=False, pickle_weights=False)
