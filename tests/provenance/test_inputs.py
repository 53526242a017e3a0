"""What is written of a row's steps, and read again without the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.plan.plan import Cell
from tasks.provenance import inputs as provenance_inputs
from tasks.provenance.inputs import (
    OtherVersionError,
    measurements,
    params_of,
    read_inputs,
    view,
    write_inputs,
)
from tasks.store.context import Context
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Store


def _writes(name: str, facts: Mapping[str, Any]) -> Callable[[Work], Facts]:
    def produce(work: Work) -> Facts:
        (work.out / name).write_text(json.dumps(dict(work.step.inputs)))
        return facts

    return produce


def cell(*, length: int = 64) -> SimpleNamespace:
    """A pruned cell with one corpus, as a plan names it."""
    model = Step(name="model", inputs={"model": "1" * 64}, words={"model": "tiny", "revision": ""},
                 outside=lambda _: Path("/nowhere"))  # fmt: skip

    def cut(corpus: str) -> Step:
        return Step(
            name="tokens",
            inputs={"corpus": corpus, "length": length, "seed": None},
            needs={"model": model},
            words={"corpus": f"text {corpus}"},
            produce=_writes("windows", {"prefix": [], "vocabulary": "v", "windows": 3}),
        )

    statistics = Step(
        name="statistics",
        inputs={"windows": 2},
        needs={"model": model, "tokens": cut("b")},
        produce=_writes("s", {"seconds": 1}),
    )
    checkpoint = Step(
        name="checkpoint",
        version=3,
        inputs={"method": "wanda", "options": {"alpha": 0.5}, "target": "0.5", "seed": None},
        needs={"model": model, "statistics": statistics},
        produce=_writes("c", {}),
    )
    facts = {"layer_sparsity": {"a.q": 0.5, "b.q": 0.5, "b.k": 0.5}, "counted_weights": 7,
             "exempt_weights": {"router": 12, "vector": 2}}  # fmt: skip
    pruned = Step(name="pruned", inputs={}, needs={"checkpoint": checkpoint},
                  produce=_writes("f", facts))  # fmt: skip
    weights = {"weights": checkpoint, "tokens": cut("a"), "dense": model}
    dense = Step(name="perplexity", inputs={"x": "said already"}, needs={"weights": model},
                 produce=_writes("p", {"perplexity": 9.0}))  # fmt: skip
    measured = Step(
        name="perplexity",
        inputs={"limit": None},
        needs={**weights, "reference": dense},
        produce=_writes("p", {"perplexity": 12.5, "tokens": 126}),
    )
    return SimpleNamespace(
        fingerprint="row",
        subject=SimpleNamespace(weights=checkpoint),
        pruned=pruned,
        measured={"perplexity": {"docs": measured}},
    )


def made(context: Context, planned: SimpleNamespace) -> Cell:
    """The cell, once all its steps are in the store."""
    for step in (*planned.pruned.needs["checkpoint"].needs["statistics"].needs.values(),):
        if step.outside is None:
            context.make(step)
    for step in (planned.subject.weights, planned.pruned):
        context.make(step)
    for step in planned.measured["perplexity"].values():
        context.make(step.needs["tokens"])
        context.make(step)
    return cast(Cell, planned)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Store(tmp_path / "home"))


def test_a_tree_is_one_path_an_input(context: Context) -> None:
    params = params_of(made(context, cell()), context)
    assert params.items() >= {
        "model": "tiny", "model/digest": "1" * 64, "pruning/method": "wanda",
        "pruning/options/alpha": "0.5", "pruning/target": "0.5", "pruning/seed": "none",
        "pruning/version": "3", "pruning/layers": "3 (q, k)", "pruning/counted_weights": "7",
        "pruning/exempt": "router 12, vector 2",
        "pruning/needs": "model, statistics", "statistics/needs": "model, calibration",
        "calibration/corpus": "text b", "calibration/corpus/digest": "b",
        "calibration/length": "64", "calibration/bos": "none",
        "perplexity/docs/tokens/corpus": "text a", "perplexity/docs/tokens_read": "126",
        "perplexity/docs/limit": "none", "perplexity/docs/figures": "perplexity/docs",
        "perplexity/docs/needs": "pruning, perplexity/docs/tokens, model",
    }.items()  # fmt: skip
    assert "perplexity/docs/reference/x" not in params
    assert "model/revision" not in params
    assert measurements(params) == {"perplexity/docs": ["perplexity/docs"]}
    assert params["calibration/content"] != params["perplexity/docs/tokens/content"]
    seen = view(params, "perplexity/docs")
    assert seen["evaluation/needs"] == "pruning, evaluation/tokens, model"
    assert not {key for key in seen if key.startswith("perplexity/docs")}


def test_what_only_the_dense_model_was_asked_is_an_input_too(context: Context) -> None:
    """An ensemble's uncertainty reads its tasks from the dense model's answers alone."""
    planned = cell()
    model = planned.subject.weights.needs["model"]
    asked = Step(name="zero_shot", inputs={"limit": 6, "task": {"name": "piqa"}},
                 needs={"weights": model}, produce=_writes("q", {"seconds": 3.0}))  # fmt: skip
    member = Step(name="member", inputs={"place": 0}, needs={"weights": planned.subject.weights},
                  produce=_writes("m", {}))  # fmt: skip
    needs = {"member/0": member, "reference/piqa": asked}
    ensemble = Step(name="uncertainty", inputs={"k": 1}, needs=needs, produce=_writes("u", {}))
    planned.measured = {"uncertainty": {"all": ensemble}}
    params = params_of(cast(Cell, planned), context)
    found = {key: value for key, value in params.items() if key.startswith("uncertainty/all/")}
    assert (
        found.items()
        >= {
            "uncertainty/all/k": "1",
            "uncertainty/all/reference/piqa/limit": "6",
            "uncertainty/all/reference/piqa/task/name": "piqa",
        }.items()
    )
    assert not any("member" in key or "weights" in key for key in found)


def test_a_copied_folder_is_read_without_the_store(context: Context, tmp_path: Path) -> None:
    planned = made(context, cell())
    params = params_of(planned, context)
    write_inputs([planned], [{"fingerprint": "row"}, {"fingerprint": ""}], context, tmp_path)
    shutil.rmtree(context.store.root)
    assert read_inputs(tmp_path, "row") == params


def test_a_row_that_was_not_computed_has_its_inputs_all_the_same(context: Context) -> None:
    params = params_of(cast(Cell, cell()), context)
    assert params["pruning/method"] == "wanda"
    assert params["calibration/corpus"] == "text b"
    assert measurements(params) == {"perplexity/docs": [""]}
    assert not {key for key in view(params, "sparsity") if key.startswith("perplexity")}


def test_a_file_of_another_version_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text('{"version": 1, "rows": {"row": {}}}')
    with pytest.raises(OtherVersionError):
        read_inputs(tmp_path, "row")
    (tmp_path / "inputs.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        read_inputs(tmp_path, "row")


def test_layers_are_told_by_kind_and_experts_by_their_matrices() -> None:
    experts = {
        f"model.layers.0.mlp.experts.{t}.{e}": 0.5
        for t in ("gate_up_proj", "down_proj")
        for e in range(4)
    }
    by_layer = {"model.layers.0.self_attn.q_proj": 0.5, **experts}
    assert provenance_inputs._layers(by_layer) == "9 (q_proj, gate_up_proj, down_proj)"
