"""The Prefect page: find the deployment, fill in the form, run it, watch it, open its artifacts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from form import METHODS, NAME, TARGETS, fill, find_form
from serving import Up

from flows.serve.forms import REQUIRED
from tasks.reporting.rows import read_results

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def test_the_form_runs_what_was_filled_in(formed: dict[str, Any], served: Up) -> None:
    assert formed["errors"] == []
    assert formed["state"]["type"] == "COMPLETED", formed["state"]
    rows = read_results(served.home / "sweeps" / NAME)
    cells = {(row["method"], row["target"]) for row in rows if row["method"] != "dense"}
    assert cells == {(method, target) for method in METHODS for target in TARGETS}
    assert {row["status"] for row in rows} == {"completed"}


def test_the_address_that_up_prints_is_a_form_of_few_screens(served: Up, watched: Any) -> None:
    page = watched.page
    printed = next(line.strip() for line in served.output.splitlines() if line.endswith("/run"))
    watched.open(printed)
    page.get_by_text("Parameters", exact=True).first.wait_for()
    page.get_by_text("settings (Optional)", exact=True).wait_for()
    watched.shot("printed-form")
    for required in REQUIRED:  # a field of a card may have the name, too, and be an option
        label = page.get_by_text(re.compile(rf"^{required}( \(Optional\))?$")).first
        assert label.inner_text() == required
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(e => e.scrollHeight))"
    )
    assert height < 4_000, f"{height} px"  # it was 13 800
    assert "/v2/" in page.url


def test_the_runs_artifacts_open(formed: dict[str, Any], watched: Any) -> None:
    page = watched.page
    address = f"{watched.home}/v2/runs/flow-run/{formed['run']}"
    for name, shown in (
        (f"{NAME}-results", "sparsegpt"),
        (f"{NAME}-report", "magnitude"),
    ):
        watched.open(address)
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_role("link", name=name).first.click()
        page.wait_for_url("**/artifacts/artifact/*")
        page.get_by_role("main").get_by_text(shown).first.wait_for()
        watched.shot(name)
    watched.open(address)
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name=f"{NAME}-perplexity-vs-sparsity").first.click()
    page.wait_for_url("**/artifacts/artifact/*")
    plot = page.get_by_role("main").locator("img").first
    plot.wait_for()
    page.wait_for_function("image => image.complete", arg=plot.element_handle())
    assert plot.evaluate("image => image.naturalWidth") > 400
    watched.shot("plot")


def test_a_wrong_value_fails_with_words(served: Up, watched: Any) -> None:
    """A target that is none: what the run says is what the command line would say."""
    page = watched.page
    find_form(watched, served.prefect)
    fill(watched, targets=["1.5", "2:4"])
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").click()
    page.wait_for_url("**/flow-run/*")
    state = served.wait(page.url.rpartition("/")[2].partition("?")[0])
    assert state["type"] == "FAILED"
    assert "targets" in state["message"]
    assert "1.5" in state["message"]
    page.get_by_role("main").get_by_text("Failed", exact=True).first.wait_for()
    watched.shot("refused")
