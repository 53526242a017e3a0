"""2:4 on sparse tensor cores: which layers are chosen, and on a GPU that they compute the same.

Without a GPU the kernels cannot run. What can: the check for the pattern against PyTorch's own
compressor, which is plain tensor code, and the choice of layers.
"""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from benchmarks.weight_bytes import packed_bytes
from hypothesis import given
from hypothesis import strategies as st
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from tasks.models.architecture.decoder import describe
from tasks.models.saved.semi_structured import (
    MULTIPLES,
    ON_CPU,
    convert_,
    is_two_of_four,
    unsuitable,
)
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import SemiStructured

WIDE = {"hidden_size": 64, "intermediate_size": 192}


def pruned(make: Any = tiny.llama, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Any:
    model = make(**changes)
    for layer in describe(model).layers().values():
        weight_OI = layer.weight_OI
        weight_OI.masked_fill_(lowest(weight_OI.abs(), SemiStructured(2, 4)), 0.0)
    return model.to(dtype)


def random_weight(seed: int, zeros: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(32, 64, generator=generator).to(torch.bfloat16)
    weight[torch.rand(32, 64, generator=generator) < zeros] = 0
    return weight


def survives_packing(weight_OI: torch.Tensor) -> bool:
    """Whether PyTorch's own packing keeps every weight; what is not 2:4 loses some."""
    packed, meta = sparse_semi_structured_from_dense_cutlass(weight_OI)
    return torch.equal(sparse_semi_structured_to_dense_cutlass(packed, meta), weight_OI)


@given(seed=st.integers(0, 2**32), zeros=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_the_check_agrees_with_the_packing(seed: int, zeros: float) -> None:
    weight = random_weight(seed, zeros)
    assert is_two_of_four(weight) == survives_packing(weight)
    weight.masked_fill_(lowest(weight.float().abs(), SemiStructured(2, 4)), 0.0)
    assert is_two_of_four(weight)
    assert survives_packing(weight)
    weight[3, 8:12] = torch.tensor([1.0, 2.0, 0.0, 3.0])
    assert not is_two_of_four(weight)
    assert not survives_packing(weight)


def test_what_packing_takes_is_what_packed_bytes_says() -> None:
    model = pruned(**WIDE)
    saved = sum(p.numel() * p.element_size() for p in model.parameters()) - packed_bytes(model)
    expected = 0
    for layer in describe(model).layers().values():
        parts = sparse_semi_structured_from_dense_cutlass(layer.weight_OI)
        expected += layer.stored.nbytes - sum(part.nbytes for part in parts)
    assert saved == expected


def test_packed_bytes() -> None:
    model = pruned()
    layers = sum(layer.stored.numel() for layer in describe(model).layers().values())
    rest = model.num_parameters() - layers
    # 2 of 4 values of 2 bytes, and 2 bits for each that is kept.
    assert packed_bytes(model) == 2 * rest + layers + layers // 8
    assert packed_bytes(tiny.llama().to(torch.bfloat16)) is None
    assert packed_bytes(pruned(dtype=torch.float32)) is None, "the hardware takes no 2:4 in float32"
    gpt2 = tiny.gpt2().to(torch.bfloat16)
    one = next(iter(describe(gpt2).layers().values()))
    one.weight_OI.masked_fill_(lowest(one.weight_OI.float().abs(), SemiStructured(2, 4)), 0.0)
    saved = 2 * gpt2.num_parameters() - (packed_bytes(gpt2) or 0)
    assert saved == one.stored.numel() * 7 // 8, "rows of a Conv1D run the other way"


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.ones(2, 6), False),  # no groups of 4
        (torch.tensor([[0.0, 1, 2, 0, 3, 0, 0, 0]]), True),  # fewer are fine
        (torch.tensor([[0.0, 0, 1, 2], [3, 0, 0, 4]]), True),
        (torch.tensor([[0.0, 1, 0, 0, 2, 3, 0, 4]]), False),  # half in all, not in each group
        (torch.tensor([[0.0, 0, float("nan"), float("inf")]]), True),
        (torch.zeros(4), False),
        (torch.zeros(0, 4), False),
    ],
)
def test_two_of_four(weight: torch.Tensor, expected: bool) -> None:
    assert is_two_of_four(weight) is expected


def test_the_pattern_runs_along_the_input() -> None:
    weight = torch.tensor([[1.0, 1, 0, 0]]).repeat(4, 1)
    assert is_two_of_four(weight)
    assert not is_two_of_four(weight.T)


def test_multiples_are_pytorchs_own() -> None:
    kinds = {
        "cusparselt": torch.sparse.SparseSemiStructuredTensorCUSPARSELT,
        "cutlass": torch.sparse.SparseSemiStructuredTensorCUTLASS,
    }
    for backend, kind in kinds.items():
        for dtype in (torch.float16, torch.bfloat16):
            theirs = kind._DTYPE_SHAPE_CONSTRAINTS[dtype]
            assert MULTIPLES[backend] == (theirs.sparse_min_rows, theirs.sparse_min_cols)


def test_the_choice_of_layers() -> None:
    model = pruned(**WIDE)  # keys and values have 32 rows
    layers = describe(model).layers()
    assert unsuitable(layers, "cusparselt") == {}
    assert unsuitable(layers, "cutlass") == {}
    dense = "model.layers.1.mlp.up_proj"
    layers[dense].stored[5, 4:8] = 1
    assert unsuitable(layers, "cusparselt") == {dense: "it is not 2:4"}
    narrow = describe(pruned(intermediate_size=40)).layers()
    found = unsuitable(narrow, "cusparselt")
    assert found["model.layers.0.mlp.up_proj"] == "40×32 is no multiple of 16×16"
    assert found["model.layers.0.mlp.down_proj"] == "32×40 is no multiple of 16×16"
    assert "model.layers.0.self_attn.q_proj" not in found
    assert "16×32 is no multiple of 32×64" in set(unsuitable(narrow, "cutlass").values())


def test_other_dtypes_and_classes() -> None:
    layers = describe(pruned(dtype=torch.float32, **WIDE)).layers()
    reasons = unsuitable(layers, "cusparselt")
    assert reasons.keys() == layers.keys()
    assert set(reasons.values()) == {"its dtype is float32, not float16 or bfloat16"}
    reasons = unsuitable(describe(pruned(tiny.gpt2)).layers(), "cusparselt")
    assert set(reasons.values()) == {"a Conv1D multiplies by the transpose"}


def test_on_a_cpu_nothing_changes_and_it_says_so() -> None:
    model = pruned(**WIDE)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    report = convert_(model)
    assert (report.backend, report.converted, report.note) == ("", (), ON_CPU)
    assert report.skipped == dict.fromkeys(describe(model).layers(), ON_CPU)
    for name, weight in model.state_dict().items():
        assert type(weight) is torch.Tensor
        assert torch.equal(weight, before[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with 2:4 kernels")
def test_on_a_gpu_the_same_is_computed() -> None:
    from tasks.measures.speed.timing import measure_speed

    model = pruned(**WIDE).cuda()
    ids = torch.randint(tiny.VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(0)).cuda()
    with torch.inference_mode():
        wanted = model(ids).logits.float()
        report = convert_(model)
        given_logits = model(ids).logits.float()
    assert set(report.converted) == set(describe(model).layers()), report
    assert (given_logits - wanted).abs().max() <= 0.05 * wanted.abs().max()
    numbers = {"prompt_tokens": 8, "new_tokens": 2, "batch_size": 1, "warmup": 0, "repetitions": 1}
    result = measure_speed(model, **numbers)
    assert result.prefill_tokens_per_second > 0 and result.decode_tokens_per_second > 0
    assert set(unsuitable(describe(model).layers(), report.backend).values()) == {
        "it is packed already"
    }
