"""Which inputs are told, in which order, as what."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from comparing import ENVIRONMENT, INPUTS, make
from rich.console import Console

from configs.errors import ConfigurationError
from tasks.provenance.aspects import ASPECTS, ENVIRONMENT_ASPECTS
from tasks.provenance.console import rendered
from tasks.provenance.verdict import Comparison, compare_results

OTHER_ENVIRONMENT = json.dumps(ENVIRONMENT | {"torch": "2.14.0"})


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


def test_equal_inputs_with_other_figures_are_called_a_fault() -> None:
    found = compare_results(make(20.0), make(20.1), None)
    assert "the figures do, by 0.005 of A's" in found.verdict[0]
    assert "not recorded" in found.verdict[1]


@pytest.mark.parametrize(
    ("changes", "inputs", "consequences"),
    [
        (
            {
                "evaluation__docs__window_tokens": "32",
                "evaluation__docs__predicted_tokens": "62",
                "evaluation__docs__tokens_digest": "t9",
            },
            ["evaluation/window_tokens"],
            ["evaluation/tokens_digest", "evaluation/predicted_tokens"],
        ),
        (
            {
                "calibration__windows": "4",
                "calibration__windows_drawn": "4",
                "calibration__tokens_digest": "t9",
                "sparsity": 0.501,
            },
            ["calibration/windows"],
            ["sparsity", "calibration/tokens_digest", "calibration/windows_drawn"],
        ),
        ({"dtype": "bfloat16"}, ["dtype"], []),
        ({"options": '{"a": 2, "b": "x"}'}, ["options/a"], []),
        ({"layers_counted": "5 (q_proj)", "weights_counted": "70"}, ["layers_counted"],
         ["weights_counted"]),
        ({"evaluation__docs__bos": "token 1", "evaluation__docs__tokens_digest": "t9"},
         ["evaluation/bos"], ["evaluation/tokens_digest"]),
        (
            {"model": "big", "model_digest": "m2", "model_revision": "abc",
             "evaluation__docs__vocabulary": "v2", "evaluation__docs__tokens_digest": "t9"},
            ["model_digest"],
            ["model_revision", "evaluation/vocabulary", "evaluation/tokens_digest"],
        ),
        # Neither text nor windows explain it: the tokenizer library itself does.
        ({"evaluation__docs__tokens_digest": "t9"}, ["evaluation/tokens_digest"], []),
    ],
)  # fmt: skip
def test_an_input_and_what_follows_from_it_are_told_apart(
    changes: dict[str, Any], inputs: list[str], consequences: list[str]
) -> None:
    found = compare_results(make(), make(21.0, **changes), None)
    assert keys(found, "input") == inputs
    assert keys(found, "consequence") == consequences
    assert not keys(found, "environment", "immaterial")
    first = found.compared.of("input")[0]
    assert first.why.endswith(".")
    assert first.title in found.verdict[0]


def test_the_order_is_that_of_the_list_whatever_the_record_s() -> None:
    changes = {
        "dtype": "bfloat16", "calibration__windows": "4", "calibration__tokens_digest": "t9",
        "options": '{"b": "y", "a": 2}', "target": "2:4", "evaluation__docs__windows": "4",
        "evaluation__docs__window_tokens": "32", "evaluation__docs__corpus_digest": "c9",
        "evaluation__docs__tokens_digest": "t9", "model_digest": "m2", "zz_new": "1",
        "evaluation__docs__environment": OTHER_ENVIRONMENT,
    }  # fmt: skip
    found = compare_results(make(zz_new="0"), make(21.0, **changes), None)
    assert keys(found, "input") == [
        "model_digest", "evaluation/corpus_digest", "evaluation/window_tokens",
        "evaluation/windows", "target", "options/a", "options/b", "calibration/windows",
        "dtype", "zz_new",
    ]  # fmt: skip
    assert [entry.kind for entry in found.compared.differences][-1] == "environment"


def test_what_has_no_effect_is_said_to_have_none() -> None:
    """Other windows on paper, the same token ids in fact."""
    found = compare_results(make(), make(evaluation__docs__windows="all"), None)
    assert keys(found, "immaterial") == ["evaluation/windows"]
    assert "Nothing differs" in found.verdict[0]
    renamed = compare_results(make(), make(model="same-weights"), None)
    assert not renamed.compared.differences


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (20.0, "bit for bit"),
        (20.0 * (1 + 5e-6), "within what another order of sums does"),
        (20.2, "no bound is known"),
    ],
)
def test_only_the_environment(value: float, sentence: str) -> None:
    other = {"evaluation__docs__environment": OTHER_ENVIRONMENT, "evaluation__docs__evaluated_on":
             "2026-02-02", "prune_environment": OTHER_ENVIRONMENT}  # fmt: skip
    found = compare_results(make(), make(value, **other), None)
    assert keys(found, "environment") == ["environment/torch", "environment/evaluated_on"]
    assert found.verdict[0] == "Nothing but the environment differs: torch."
    assert any(sentence in line for line in found.verdict)


def test_another_day_alone() -> None:
    found = compare_results(make(), make(evaluation__docs__evaluated_on="2026-02-02"), None)
    assert found.verdict[0] == "Nothing but the day differs."


def test_pruned_elsewhere_is_told_where_the_evaluation_s_environment_agrees() -> None:
    found = compare_results(make(), make(prune_environment=OTHER_ENVIRONMENT), None)
    assert [e.title for e in found.compared.differences] == ["torch, where it was pruned"]


def test_what_one_side_does_not_record_is_no_difference() -> None:
    found = compare_results(make(), make(evaluation__docs__bos=None), None)
    assert found.compared.unknown == (("evaluation BOS", "B"),)
    assert "as far as both sides record it" in found.verdict[0]
    assert "B does not record, so not compared: evaluation (BOS)." in told(found)


def test_two_methods_have_no_options_to_compare() -> None:
    unused = [key for key in INPUTS if key.startswith("calibration/")]
    magnitude = dict.fromkeys(key.replace("/", "__") for key in unused)
    found = compare_results(make(), make(30.0, method="magnitude", options="{}", **magnitude), None)
    assert keys(found, "input") == ["method"]
    assert keys(found, "consequence") == [
        "calibration/corpus_digest", "calibration/window_tokens", "calibration/windows"
    ]  # fmt: skip
    assert not found.compared.unknown


def test_a_variant_is_its_method_with_other_options() -> None:
    variant = make(21.0, method="mine", variant_of="wanda", options='{"a": 2, "b": "x"}')
    assert keys(compare_results(make(), variant, None), "input") == ["options/a"]


def test_the_dense_models_say_whether_pruning_makes_the_difference() -> None:
    same = compare_results(make(), make(25.0, dtype="bfloat16"), None)
    assert "The dense models' figure is the same: pruning makes the difference." in same.verdict
    other = compare_results(make(), make(25.0, dense=11.0, dtype="bfloat16"), None)
    assert any("differ already, B's 1.1 times A's" in line for line in other.verdict)


def test_corpora_are_compared_by_role_not_by_name() -> None:
    renamed = make()
    inputs = {key.replace("/docs/", "/wiki/"): v for key, v in renamed.inputs.items()}
    metrics = {"sparsity": 0.5, "perplexity/wiki": 20.0}
    found = compare_results(make(), replace(renamed, inputs=inputs, metrics=metrics), None)
    assert found.metrics == ("perplexity/docs", "perplexity/wiki")
    assert not found.compared.differences


def test_a_figure_that_a_side_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(ConfigurationError, match=r"--metric: 'accuracy'.*perplexity/docs"):
        compare_results(make(), make(), "accuracy")


def test_diverged_figures_have_no_ratio() -> None:
    found = compare_results(make(), make(math.inf, dtype="bfloat16"), None)
    assert found.ratio is None
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["b"]["value"] == "inf"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_terminal_shows_all_of_it_within_its_width(width: int) -> None:
    long = "a very long name of a corpus that will not fit its column " * 3
    changes = {"evaluation__docs__corpus": long, "evaluation__docs__corpus_digest": "c9",
               "evaluation__docs__tokens_digest": "t9"}  # fmt: skip
    found = compare_results(make(), make(21.0, **changes, dtype="bfloat16"), None)
    text = told(found, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, 120)
    for part in ("1. evaluation text", "2. dtype", "bfloat16", "B/A", "1.05", "The same: model"):
        assert part in text
    assert "".join(long.split()[:3]) in "".join(text.split())


def test_figures_that_agree_in_their_first_digits_are_told_apart() -> None:
    text = told(compare_results(make(20.0), make(20.0000001, dtype="bfloat16"), None))
    assert "20.0000001" in text


def test_every_aspect_has_a_sentence() -> None:
    sentences = [aspect.why for aspect in ASPECTS] + [
        why for _, why in ENVIRONMENT_ASPECTS.values()
    ]
    assert all(s[0].isupper() and s.endswith(".") and len(s) < 200 for s in sentences)


def test_json_says_what_the_terminal_says() -> None:
    found = compare_results(make(), make(21.0, dtype="bfloat16"), None).as_json()
    assert found["a"]["value"] == 20.0
    assert found["ratio"] == pytest.approx(1.05)
    assert [(e["key"], e["a"], e["b"], e["kind"]) for e in found["differences"]] == [
        ("dtype", "float32", "bfloat16", "input")
    ]
