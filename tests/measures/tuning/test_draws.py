"""Dropout of a shared batch: a process drops what one alone would drop of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from support.tuning import by_row_of, examples, network_of, require_rows_of_the_whole
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tasks.measures.tuning import steps
from tasks.measures.tuning.draws import PlainAttention, SharedDraws, draws_by_row
from tasks.measures.tuning.objectives import OneLabel
from tasks.measures.tuning.sharing import Lesson, Recipe, Share
from tasks.models.errors import UnsupportedModelError

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, learning_rate=1e-3, batch_size=8, warmup=0.1, seed=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Electra"])
def test_each_process_drops_what_one_would(kind: str, attention: str, tmp_path: Path) -> None:
    network = network_of(tmp_path, kind)
    network.model.set_attn_implementation(attention)
    assert all(by_row_of(network))
    require_rows_of_the_whole(network, CPU, 1e-6)


def test_what_is_of_no_row_is_dropped_alike(tmp_path: Path) -> None:
    """DeBERTa drops of its table of relative positions."""
    network = network_of(tmp_path, "DebertaV2")
    assert set(by_row_of(network)) == {True, False}
    require_rows_of_the_whole(network, CPU, 1e-6)


def test_dropout_as_a_gpu_has_it_is_shared_too() -> None:
    """One operation there; its mask is that of the rows, for the way back."""
    given = torch.rand(5, 4, 3).transpose(1, 2)
    rows = [1, 4]
    torch.manual_seed(0)
    wanted = torch.native_dropout(given, 0.4, True)
    torch.manual_seed(0)
    with SharedDraws(5, rows, [True]):
        found = torch.native_dropout(given[rows], 0.4, True)
    torch.testing.assert_close(found[0], wanted[0][rows])
    assert torch.equal(found[1], wanted[1][rows])
    assert not found[1].all()


def test_attention_that_drops_is_computed_step_by_step(tmp_path: Path) -> None:
    network = network_of(tmp_path, "Bert")
    network.model.set_attn_implementation("sdpa")
    with PlainAttention():
        require_rows_of_the_whole(network, CPU, 1e-6)
        query = torch.rand(1, 2, 5, 4)
        attend = nn.functional.scaled_dot_product_attention
        plain = attend(query, query, query)
        with patch("tasks.measures.tuning.draws.sdpa_kernel", wraps=sdpa_kernel) as chosen:
            attend(query, query, query)
            assert not chosen.called
            attend(query, query, query, dropout_p=0.5)
            chosen.assert_called_once_with(SDPBackend.MATH)
    assert torch.equal(plain, attend(query, query, query))


def test_who_asked_for_no_processes_is_tuned_in_one_where_draws_cannot_be_shared(
    tmp_path: Path,
) -> None:
    network = network_of(tmp_path, "Bert")
    lesson = Lesson(encoded=examples(2), objective=OneLabel(), recipe=RECIPE, padding=0)
    assert steps._shareable(network, lesson, asked=True)

    def draw(module: Any, args: Any, given: dict[str, Any]) -> None:
        tokens_apart(len(given["input_ids"]))

    network.model.base_model.register_forward_pre_hook(draw, with_kwargs=True)
    assert not steps._shareable(network, lesson, asked=False)
    with pytest.raises(UnsupportedModelError, match=r"evaluation\.processes: 1"):
        steps._shareable(network, lesson, asked=True)


def test_looking_draws_no_numbers(tmp_path: Path) -> None:
    network = network_of(tmp_path, "Bert")
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    by_row_of(network)
    assert torch.equal(torch.random.get_rng_state(), before)


def tokens_apart(rows: int) -> Tensor:
    return nn.functional.dropout(torch.ones(rows * 3, 4))


def more_often(rows: int) -> list[Tensor]:
    return [nn.functional.dropout(torch.ones(1, 4)) for _ in range(rows)]


@pytest.mark.parametrize("run", [tokens_apart, more_often])
def test_rows_that_lie_otherwise_are_refused(run: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"cannot share.*evaluation\.processes: 1"):
        draws_by_row(run)


def test_draws_that_cannot_be_shared_are_refused() -> None:
    kinds = draws_by_row(lambda rows: torch.rand_like(torch.ones(rows, 4)))
    assert kinds == [True]
    with (
        SharedDraws(4, [0, 2], kinds),
        pytest.raises(UnsupportedModelError, match=r"by aten\.rand_like"),
    ):
        torch.rand_like(torch.ones(2, 4))
    with (
        SharedDraws(4, [0, 2], [True]),
        pytest.raises(UnsupportedModelError, match="other rows"),
    ):
        nn.functional.dropout(torch.ones(3, 4))
    assert draws_by_row(lambda rows: torch.rand(3)) == [False]


class One:
    """One of several processes, whose sums somebody else makes."""

    def __init__(self, rank: int, processes: int) -> None:
        self.rank, self.processes, self.device = rank, processes, CPU

    def backward(self, outputs: Tensor, gradient: Tensor) -> None:
        outputs.backward(gradient)

    def sum_(self, tensors: object) -> None:
        del tensors


@pytest.mark.parametrize("processes", [2, 3, 9])
def test_parts_of_a_batch_add_up_to_it(processes: int, tmp_path: Path) -> None:
    """A mean over readings, of which processes have different numbers, some none."""
    network, whole = network_of(tmp_path, "Bert").requires_grad_(True), examples(7)
    lesson = Lesson(encoded=whole, objective=OneLabel(), recipe=RECIPE, padding=0)

    def learned(rank: int, count: int) -> tuple[float, dict[str, Tensor]]:
        share: Any = Share(network, lesson, One(rank, count))  # type: ignore[arg-type]
        network.zero_grad()
        torch.manual_seed(5)
        loss = float(share.gradient_(whole))
        named = network.named_parameters()
        return loss, {n: w.grad.clone() for n, w in named if w.grad is not None}

    loss, wanted = learned(0, 1)
    parts = [learned(rank, processes) for rank in range(processes)]
    assert sum(part for part, _ in parts) == pytest.approx(loss, rel=1e-6)
    for name, gradient in wanted.items():
        found = sum(grads[name] for _, grads in parts if name in grads)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
