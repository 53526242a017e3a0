"""The form is the schema, shown so that Prefect's page can show it; its defaults are quickstart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import is_valid_schema
from prefect.utilities.schema_tools.validation import validate as validate_sent

from configs.errors import ConfigurationError
from configs.schema import METHODS, SweepConfig
from configs.yaml_file import load, validate
from flows.deployments import preset_form, sweep_form
from flows.serve.forms import LEFT_OUT, REQUIRED, SETTINGS, SHOWN, page, requested


def schema() -> dict[str, Any]:
    return sweep_form.parameters.model_dump_for_openapi()["properties"]


def from_defaults(node: dict[str, Any]) -> Any:
    """What a page sends for a field that nobody touched: its default, card by card."""
    if "properties" in node:
        values = {name: from_defaults(entry) for name, entry in node["properties"].items()}
        return {name: value for name, value in values.items() if value is not None}
    return node.get("default")


def test_every_field_can_be_sent_and_few_are_shown() -> None:
    known = schema()
    assert set(known) == set(SweepConfig.model_fields) - {"trust", *LEFT_OUT} | {SETTINGS}
    for name, entry in known.items():
        assert entry["description"], name
    order = sorted(known, key=lambda name: known[name]["position"])
    shown = page({"properties": known}, SHOWN[""], REQUIRED)
    assert order[: len(shown["properties"])] == list(shown["properties"])
    assert list(shown["properties"]) == [name for name in SHOWN[""] if name != "trust"]
    assert shown["required"] == list(REQUIRED)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ({}, True),
        ({"options": {"ast": {"steps": 5}}, "dtype": "float32"}, True),
        ({"calibration": {"seed": 3, "corpus": {"part": "heldout"}}}, True),
        ({"evaluation": {"perplexity": [{"corpus": {"column": "x"}}], "batch_size": 2}}, True),
        ({"dtyp": "float32"}, False),
        ({"dtype": "float31"}, False),
        ({"calibration": {"sample": 1}}, False),
        ({"calibration": {"seed": "x"}}, False),
        ({"evaluation": {"perplexity": [{"corpus": {"colum": "x"}}]}}, False),
    ],
)
def test_what_is_not_shown_is_still_known_to_the_form(sent: dict[str, Any], taken: bool) -> None:
    shown = page({"type": "object", "properties": schema()}, SHOWN[""], ())
    assert is_valid_schema(shown, preprocess=False) is None
    wrong = validate_sent(sent, shown, raise_on_error=False, preprocess=False)
    assert (not wrong) is taken, wrong


def test_parts_that_are_shown_in_part_exist() -> None:
    parts = SweepConfig.model_json_schema()["$defs"]
    for part, names in SHOWN.items():
        if part:
            assert set(names) < set(parts[part]["properties"]), part


def test_settings_are_rows_with_the_command_lines_words() -> None:
    untouched = {name: from_defaults(entry) for name, entry in schema().items()}
    rows = ["options.ast.steps=50", "calibration.seed=3", "on_overlap=refuse", "targets=[2:4]"]
    assert validate(requested(untouched | {SETTINGS: rows})) == load("quickstart", rows)
    with pytest.raises(ConfigurationError, match="write field=value"):
        requested({SETTINGS: ["targets"]})
    with pytest.raises(ConfigurationError, match="there is no such field"):
        validate(requested({"name": "a", SETTINGS: ["options.ast.step=5"]}))


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
    def seen(node: Any) -> Any:
        """Without what may be sent and is not shown."""
        if isinstance(node, dict):
            return {name: seen(v) for name, v in node.items() if name != "patternProperties"}
        return [seen(entry) for entry in node] if isinstance(node, list) else node

    text = json.dumps(seen(schema()))
    for part in ("anyOf", "$ref", '"null"', "oneOf"):
        assert part not in text


def test_pressing_run_with_nothing_changed_is_the_quickstart() -> None:
    wanted = load("quickstart")
    untouched = {name: from_defaults(entry) for name, entry in schema().items()}
    assert validate(requested(untouched)) == wanted
    nothing = sweep_form.validate_parameters({})
    assert validate(requested(nothing)) == wanted


def test_what_is_left_empty_has_its_default() -> None:
    sent = {"name": "a", "training": {"corpus": {}, "samples": None, "sequence_length": 64}}
    config = validate(requested(sent))
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
