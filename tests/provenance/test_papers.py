"""Figures that papers report, by way of the presets that render their settings."""

from __future__ import annotations

import pytest

from configs.errors import ConfigurationError
from configs.yaml_file import load, presets
from tasks.provenance.papers import read_reported, reporting_presets
from tasks.provenance.references import parse
from tasks.provenance.verdict import compare_results


def test_presets_report_figures_of_their_own_sweep_alone() -> None:
    found = reporting_presets()
    assert set(found) == {name for name in presets() if load(name).reported}
    assert found
    for preset in found.values():
        metrics = {f"perplexity/{entry.name}" for entry in preset.evaluation.perplexity}
        for entry in preset.reported:
            assert entry.model in preset.models
            assert entry.metric in metrics
            if entry.method == "dense":
                assert entry.target is None
            else:
                assert entry.method in preset.entries
                assert entry.target in preset.targets


def test_a_reported_figure_has_the_preset_s_inputs_and_no_machine() -> None:
    preset = reporting_presets()["paper-ast"]
    found = read_reported(parse("paper-ast:wanda@2:4,model=gpt2", "A"), preset)
    assert found.reported
    assert found.metrics == {"perplexity/wikitext2": 115.64, "dense_perplexity/wikitext2": 29.95}
    assert "2407.20584" in found.origin
    text = "perplexity/wikitext2/tokens"
    assert found.inputs[f"{text}/corpus"] == "Salesforce/wikitext wikitext-2-raw-v1 test"
    assert found.inputs[f"{text}/length"] == "1024"
    unstated = {"pruning/dtype", "model/digest", "perplexity/wikitext2/environment", "pruning/seed"}
    assert not unstated & set(found.inputs)


def test_a_variant_differs_from_its_method_in_its_option() -> None:
    preset = reporting_presets()["paper-ast"]
    naive, boosted = (
        read_reported(parse(f"paper-ast:{name},model=gpt2", "A"), preset)
        for name in ("ast", "ast-boosted")
    )
    found = compare_results(naive, boosted, None)
    assert found.figures == (32.23, 31.13)
    assert [(e.key, e.a, e.b) for e in found.compared.differences] == [
        ("pruning/options/slorb", "false", "true")
    ]


def test_a_figure_that_no_paper_reports_is_refused_with_those_there_are() -> None:
    preset = reporting_presets()["paper-ast"]
    with pytest.raises(ConfigurationError, match=r"paper-ast:ast@2:4,model=gpt2-medium"):
        read_reported(parse("paper-ast:magnitude@2:4", "A"), preset)


def test_a_preset_still_runs_with_other_models() -> None:
    assert load("paper-ast", ["models=[tiny-random]"]).models == ("tiny-random",)
