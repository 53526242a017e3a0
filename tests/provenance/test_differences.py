"""Which inputs are told, in which order, as what."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from comparing import ENVIRONMENT, Row, without_calibration
from rich.console import Console

from configs.errors import ConfigurationError
from tasks.provenance.aspects import ASPECTS, ENVIRONMENT_ASPECTS
from tasks.provenance.console import rendered
from tasks.provenance.result import Result
from tasks.provenance.verdict import Comparison, compare_results

OTHER_ENVIRONMENT = ENVIRONMENT | {"torch": "2.14.0"}


def make(perplexity: float = 20.0, **figures: Any) -> Result:
    return Row().result(perplexity, **figures)


def bfloat(row: Row) -> Row:
    for place in ("statistics/s", "checkpoint/k", "perplexity/p"):
        row.change(place, inputs__dtype="bfloat16")
    return row


def keys(comparison: Comparison, *kinds: str) -> list[str]:
    return [entry.key for entry in comparison.compared.of(*kinds)]  # type: ignore[arg-type]


def told(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(rendered(comparison, console))
    return console.export_text()


def test_equal_results_differ_in_nothing() -> None:
    found = compare_results(make(), make(), None)
    assert not found.compared.differences
    assert not found.compared.unknown
    assert found.ratio == 1
    assert "Nothing differs: the same inputs, environment and figure" in found.verdict[0]
    assert "evaluation window length" in found.compared.same


@pytest.mark.parametrize(
    ("option", "plain", "asked", "used"),
    [
        ("start", "dense", "full_obs", {"start": {"version": 1, "steps": 8}}),
        ("compensation", "none", "least_squares", {"compensation_version": 1}),
    ],
)
def test_what_one_value_of_an_option_has_is_not_missing_from_another(
    option: str, plain: str, asked: str, used: dict[str, Any]
) -> None:
    def made(value: str, **inputs: Any) -> Result:
        told = {f"inputs__{name}": value for name, value in inputs.items()}
        return Row().change("checkpoint/k", inputs__options={option: value}, **told).result()

    one, other = made(plain), made(asked, **used)
    for pair in ((one, other), (other, one)):
        found = compare_results(*pair, None)
        assert keys(found, "input") == [f"pruning/options/{option}"]
        assert not found.compared.unknown
    later = {name: {"version": 2, "steps": 9} if name == "start" else 2 for name in used}
    again = compare_results(other, made(asked, **later), None)
    assert {key.partition("/")[2].partition("/")[0] for key in keys(again, "input")} == set(used)


def test_equal_inputs_with_other_figures_are_called_a_fault() -> None:
    found = compare_results(make(20.0), make(20.1), None)
    assert "the figures do, by 0.005 of A's" in found.verdict[0]
    assert "not recorded" in found.verdict[1]


@pytest.mark.parametrize(
    ("change", "inputs", "consequences"),
    [
        (
            lambda row: row.change("tokens/e", inputs__length=32, facts__content="t9").change(
                "perplexity/p", facts__tokens=62
            ),
            ["evaluation/tokens/length"],
            ["evaluation/tokens/content", "evaluation/tokens_read"],
        ),
        (
            lambda row: row.change("tokens/c", inputs__count=4, facts__content="t9").change(
                "statistics/s", inputs__windows=4
            ),
            ["calibration/count"],
            ["sparsity", "statistics/windows", "calibration/content"],
        ),
        (bfloat, ["dtype"], ["sparsity"]),
        (
            lambda row: row.change("checkpoint/k", inputs__options={"a": 2, "b": "x"}),
            ["pruning/options/a"],
            ["sparsity"],
        ),
        (
            lambda row: row.change("pruned/k", facts__layers="5 (q)", facts__counted_weights=70),
            ["pruning/layers"],
            ["pruning/counted_weights", "sparsity"],
        ),
        (
            lambda row: row.change("tokens/e", facts__bos="token 1", facts__content="t9"),
            ["evaluation/tokens/bos"],
            ["evaluation/tokens/content", "sparsity"],
        ),
        (
            lambda row: row.change(
                "model/m", inputs__model="2" * 64, words__model="big", words__source="file"
            ).change("tokens/e", facts__vocabulary="w" * 64, facts__content="t9"),
            ["model"],
            [
                "model/source",
                "evaluation/tokens/vocabulary",
                "evaluation/tokens/content",
                "sparsity",
            ],
        ),
        # Neither text nor windows explain it: the tokenizer library itself does.
        (
            lambda row: row.change("tokens/e", facts__content="t9"),
            ["evaluation/tokens/content"],
            ["sparsity"],
        ),
    ],
)
def test_an_input_and_what_follows_from_it_are_told_apart(
    change: Callable[[Row], Row], inputs: list[str], consequences: list[str]
) -> None:
    found = compare_results(make(), change(Row()).result(21.0, sparsity=0.501), None)
    assert keys(found, "input") == inputs
    assert set(keys(found, "consequence")) == {*consequences, "sparsity"}
    assert not keys(found, "environment", "immaterial")
    first = found.compared.of("input")[0]
    assert first.why.endswith(".")
    assert first.title in found.verdict[0]


def test_the_order_is_that_of_the_list_whatever_the_record_s() -> None:
    other = bfloat(Row())
    other.change("statistics/s", inputs__windows=4)
    other.change("tokens/c", inputs__count=4, facts__content="t9")
    other.change("checkpoint/k", inputs__options={"b": "y", "a": 2}, inputs__target="2:4")
    other.change("tokens/e", inputs__count=4, inputs__length=32, inputs__corpus="9" * 64)
    other.change("tokens/e", facts__content="t9").change("model/m", inputs__model="2" * 64)
    other.change("statistics/s", inputs__zz_new=1)
    other.change("perplexity/p", facts__environment=OTHER_ENVIRONMENT)
    base = Row().change("statistics/s", inputs__zz_new=0).result()
    found = compare_results(base, other.result(21.0), None)
    assert keys(found, "input") == [
        "model", "evaluation/tokens/corpus", "evaluation/tokens/length",
        "evaluation/tokens/count", "pruning/target", "pruning/options/a", "pruning/options/b",
        "calibration/count", "dtype", "statistics/zz_new",
    ]  # fmt: skip
    assert [entry.kind for entry in found.compared.differences][-1] == "environment"
    assert "statistics · zz_new" in {entry.title for entry in found.compared.differences}


def test_what_has_no_effect_is_said_to_have_none() -> None:
    """Other windows on paper, the same token ids in fact."""
    found = compare_results(make(), Row().change("tokens/e", inputs__count=None).result(), None)
    assert keys(found, "immaterial") == ["evaluation/tokens/count"]
    assert [found.compared.differences[0].a, found.compared.differences[0].b] == ["2", "all"]
    assert "Nothing differs" in found.verdict[0]
    renamed = Row().change("model/m", words__model="same", words__source="file").result()
    found = compare_results(make(), renamed, None)
    assert keys(found, "immaterial") == keys(found, "input", "immaterial") == ["model/source"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (20.0, "bit for bit"),
        (20.0 * (1 + 5e-6), "within what another order of sums does"),
        (20.2, "no bound is known"),
    ],
)
def test_only_the_environment(value: float, sentence: str) -> None:
    other = Row()
    for place in ("perplexity/p", "pruned/k", "checkpoint/k"):
        other.change(place, facts__environment=OTHER_ENVIRONMENT)
    other.change("perplexity/p", facts__written="2026-02-02")
    found = compare_results(make(), other.result(value), None)
    assert keys(found, "environment") == ["environment/torch", "environment/evaluated_on"]
    assert found.verdict[0] == "Nothing but the environment differs: torch."
    assert any(sentence in line for line in found.verdict)


def test_another_day_alone() -> None:
    other = Row().change("perplexity/p", facts__written="2026-02-02").result()
    found = compare_results(make(), other, None)
    assert found.verdict[0] == "Nothing but the day differs."


def test_pruned_elsewhere_is_told_where_the_evaluation_s_environment_agrees() -> None:
    other = Row().change("pruned/k", facts__environment=OTHER_ENVIRONMENT).result()
    found = compare_results(make(), other, None)
    assert [e.title for e in found.compared.differences] == ["torch, where it was pruned"]


def test_what_one_side_does_not_record_is_no_difference() -> None:
    other = Row().change("tokens/e", facts__bos=None).result()
    found = compare_results(make(), other, None)
    assert found.compared.unknown == (("evaluation BOS", "B"),)
    assert "as far as both sides record it" in found.verdict[0]
    assert "B does not record, so not compared: evaluation (BOS)." in told(found)


def test_two_methods_have_no_options_to_compare() -> None:
    magnitude = without_calibration(Row(), "magnitude").result(30.0)
    found = compare_results(make(), magnitude, None)
    assert keys(found, "input") == ["pruning/method"]
    assert keys(found, "consequence") == [
        "calibration/corpus", "calibration/length", "calibration/count"
    ]  # fmt: skip
    assert not found.compared.unknown


def test_methods_that_see_the_same_text_in_another_way_differ_in_the_method_alone() -> None:
    """One looks at statistics of a text, the other at the text itself."""
    other = Row().change("checkpoint/k", inputs__method="sparsegpt", inputs__options={})
    other.steps["checkpoint/k"]["needs"] = {"model": "model/m", "calibration": "tokens/c"}
    found = compare_results(make(), other.result(30.0), None)
    assert [entry.key for entry in found.compared.differences] == ["pruning/method"]
    assert "calibration text" in found.compared.same


def test_a_dense_model_differs_in_the_method() -> None:
    dense = Row()
    dense.steps["perplexity/p"]["needs"]["weights"] = "model/m"
    dense.change("perplexity/p", inputs__keeps_states=True)
    goals = {"weights": "model/m", "perplexity/docs": "perplexity/p"}
    cell = Row().change("perplexity/p", inputs__keeps_states=False).result()
    found = compare_results(cell, dense.result(10.0, goals=goals), None)
    assert keys(found, "input") == ["pruning/method"]
    assert keys(found, "immaterial") == ["evaluation/keeps_states"]
    assert "pruning/target" in keys(found, "consequence")
    assert not found.compared.unknown


def test_the_dense_models_say_whether_pruning_makes_the_difference() -> None:
    same = compare_results(make(), bfloat(Row()).result(25.0), None)
    assert "The dense models' figure is the same: pruning makes the difference." in same.verdict
    other = compare_results(make(), bfloat(Row()).result(25.0, dense=11.0), None)
    assert any("differ already, B's 1.1 times A's" in line for line in other.verdict)


def test_corpora_are_compared_by_role_not_by_name() -> None:
    found = compare_results(make(), make(corpus="wiki"), None)
    assert found.metrics == ("perplexity/docs", "perplexity/wiki")
    assert not found.compared.differences


def test_a_figure_that_a_side_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(ConfigurationError, match=r"--metric: 'accuracy'.*perplexity/docs"):
        compare_results(make(), make(), "accuracy")


def test_diverged_figures_have_no_ratio() -> None:
    found = compare_results(make(), bfloat(Row()).result(math.inf), None)
    assert found.ratio is None
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["b"]["value"] == "inf"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_terminal_shows_all_of_it_within_its_width(width: int) -> None:
    long = "a very long name of a corpus that will not fit its column " * 3
    other = Row().change("tokens/e", words__corpus=long, inputs__corpus="9" * 64,
                         facts__content="t9")  # fmt: skip
    found = compare_results(make(), bfloat(other).result(21.0), None)
    text = told(found, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, 120)
    for part in ("1. evaluation text", "2. dtype", "bfloat16", "B/A", "1.05", "The same: model"):
        assert part in text
    assert "".join(long.split()[:3]) in "".join(text.split())


def test_a_measurement_s_own_settings_are_its_alone() -> None:
    def judged(limit: int | None) -> Result:
        row = Row()
        row.steps["zero_shot/z"] = {
            "step": "zero_shot", "version": 1, "words": {}, "facts": {},
            "inputs": {"limit": limit, "task": {"harness": "0.4.9", "settings": "s" * 500}},
            "needs": {"weights": "checkpoint/k"},
        }  # fmt: skip
        goals = {"weights": "checkpoint/k", "pruned": "pruned/k",
                 "perplexity/docs": "perplexity/p", "zero_shot/piqa": "zero_shot/z"}  # fmt: skip
        columns = {"perplexity/docs": "perplexity/docs", "zero_shot/piqa/acc": "zero_shot/piqa"}
        return row.result(goals=goals, columns=columns, **{"zero_shot/piqa/acc": 0.5})

    found = compare_results(judged(10), judged(None), "zero_shot/piqa/acc")
    assert keys(found, "input") == ["evaluation/limit"]
    assert [found.compared.differences[0].a, found.compared.differences[0].b] == ["10", "none"]
    assert not compare_results(judged(10), judged(None), None).compared.differences


def test_figures_that_agree_in_their_first_digits_are_told_apart() -> None:
    text = told(compare_results(make(20.0), bfloat(Row()).result(20.0000001), None))
    assert "20.0000001" in text


def test_every_aspect_has_a_sentence() -> None:
    sentences = [aspect.why for aspect in ASPECTS] + [
        why for _, why in ENVIRONMENT_ASPECTS.values()
    ]
    assert all(s[0].isupper() and s.endswith(".") and len(s) < 200 for s in sentences)


def test_json_says_what_the_terminal_says() -> None:
    found = compare_results(make(), bfloat(Row()).result(21.0), None).as_json()
    assert found["a"]["value"] == 20.0
    assert found["ratio"] == pytest.approx(1.05)
    assert [(e["key"], e["a"], e["b"], e["kind"]) for e in found["differences"]] == [
        ("dtype", "float32", "bfloat16", "input")
    ]
