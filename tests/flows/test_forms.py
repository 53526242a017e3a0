"""The form is the schema, shown so that Prefect's page can show it; its defaults are quickstart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from configs.schema import METHODS, SweepConfig
from configs.yaml_file import load, validate
from flows.deployments import preset_form, sweep_form
from flows.serve.forms import FIRST, LEFT_OUT, given


def schema() -> dict[str, Any]:
    return sweep_form.parameters.model_dump_for_openapi()["properties"]


def from_defaults(node: dict[str, Any]) -> Any:
    """What a page sends for a field that nobody touched: its default, card by card."""
    if "properties" in node:
        values = {name: from_defaults(entry) for name, entry in node["properties"].items()}
        return {name: value for name, value in values.items() if value is not None}
    return node.get("default")


def test_every_field_is_offered_with_its_line_and_nothing_else() -> None:
    shown = schema()
    assert set(shown) == set(SweepConfig.model_fields) - {"trust", *LEFT_OUT}
    for name, entry in shown.items():
        assert entry["description"], name
    order = sorted(shown, key=lambda name: shown[name]["position"])
    assert tuple(order[: len(FIRST)]) == FIRST


def test_methods_are_a_choice_of_several_and_targets_rows() -> None:
    shown = schema()
    assert set(shown["methods"]["items"]["enum"]) == set(METHODS)
    assert shown["targets"]["type"] == "array"
    assert shown["targets"]["items"]["type"] == "string"


def test_options_are_cards_with_the_methods_own_lines() -> None:
    options = schema()["options"]["properties"]
    alpha = options["swiftprune"]["properties"]["alpha"]
    assert "average" in alpha["description"]
    assert options["ast"]["properties"]["criterion"]["enum"]
    assert all(card["properties"] for card in options.values())


def test_nothing_is_left_that_the_page_shows_badly() -> None:
    text = json.dumps(schema())
    for part in ("anyOf", "$ref", '"null"', "oneOf"):
        assert part not in text


def test_pressing_run_with_nothing_changed_is_the_quickstart() -> None:
    wanted = load("quickstart")
    untouched = {name: from_defaults(entry) for name, entry in schema().items()}
    assert validate(given(untouched)) == wanted
    nothing = sweep_form.validate_parameters({})
    assert validate(given(nothing)) == wanted


def test_what_is_left_empty_has_its_default() -> None:
    sent = {"name": "a", "training": {"corpus": {}, "samples": None, "sequence_length": 64}}
    config = validate(given(sent))
    assert config.training.corpus is None
    assert config.training.samples is None
    assert config.training.sequence_length == 64


def test_presets_are_chosen_by_name() -> None:
    shown = preset_form.parameters.model_dump_for_openapi()["properties"]
    assert {"quickstart", "smoke"} <= set(shown["preset"]["enum"])
    assert shown["settings"]["type"] == "array"


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_trust_is_in_the_form_only_when_the_operator_allows_it(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.serve.forms import form_schema

    monkeypatch.setenv("SECATEUR_ALLOW_TRUST", allowed)
    assert ("trust" in form_schema()) is (allowed == "1")
