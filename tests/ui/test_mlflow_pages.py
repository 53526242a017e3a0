"""The MLflow dashboard: a sweep's parent and cells, its curves, a comparison, its report."""

from __future__ import annotations

from typing import Any

import pytest
from form import METHODS, NAME, TARGETS
from serving import Up

pytestmark = [pytest.mark.ui, pytest.mark.slow]


@pytest.fixture
def runs(formed: dict[str, Any], served: Up) -> dict[str, Any]:
    """The experiment, its parent run and its cells, as the database has them."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{served.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(NAME)
    found = client.search_runs([experiment.experiment_id])
    kinds = {run.info.run_id: run.data.tags.get("secateur.kind") for run in found}
    return {
        "experiment": experiment,
        "parent": next(r for r in found if kinds[r.info.run_id] == "sweep"),
        "cells": [r for r in found if kinds[r.info.run_id] == "cell"],
    }


def view(runs: dict[str, Any], served: Up, kind: str) -> str:
    from tasks.tracking.views import view_path

    return f"{served.mlflow}/{view_path(runs['experiment'].experiment_id, kind, NAME)}"


def test_the_experiment_shows_one_parent_with_its_cells(
    runs: dict[str, Any], served: Up, watched: Any
) -> None:
    page = watched.page
    experiment = runs["experiment"].experiment_id
    # As somebody comes there who has never been: the pages for agents would show no sweep.
    watched.open(f"{served.mlflow}/#/experiments")
    page.get_by_role("link", name=NAME, exact=True).first.click()
    page.wait_for_url(f"**/#/experiments/{experiment}/runs*")
    page.get_by_role("link", name=NAME, exact=True).last.wait_for()
    watched.shot("mlflow-parent")
    assert page.get_by_role("link", name="sparsegpt").count() == 0  # folded into the parent
    page.locator(".ag-row button, .ag-row [role=button]").first.click()
    page.get_by_role("link", name="sparsegpt 2:4").first.wait_for()
    watched.shot("mlflow-unfolded")


def test_the_table_of_cells_has_the_columns_that_matter(
    runs: dict[str, Any], served: Up, watched: Any
) -> None:
    page = watched.page
    page.set_viewport_size({"width": 2400, "height": 1000})
    watched.open(view(runs, served, "cells"))
    page.get_by_role("link", name="sparsegpt 2:4").first.wait_for()
    heads = [
        head.strip()
        for head in page.locator(".ag-header-cell-text, [role=columnheader]").all_inner_texts()
    ]
    for column in ("method", "target", "perplexity/python-docs", "prune_seconds"):
        assert any(column in head for head in heads), heads
    cells = [text.strip() for text in page.locator(".ag-cell").all_inner_texts()]
    for shown in (*METHODS, *TARGETS, "dense", "tiny-random"):
        assert shown in cells
    watched.shot("mlflow-cells")


def test_the_curves_draw_perplexity_against_sparsity(
    runs: dict[str, Any], served: Up, watched: Any
) -> None:
    page = watched.page
    watched.open(view(runs, served, "curves"))
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    lines = page.locator(".js-plotly-plot .scatterlayer .trace .js-line")
    assert lines.count() >= 2 * len(METHODS)  # unstructured and n:m of each method
    assert page.locator(".js-plotly-plot .xtitle").first.text_content() == "sparsity"
    watched.shot("mlflow-curves")


def test_two_cells_compare_side_by_side(runs: dict[str, Any], served: Up, watched: Any) -> None:
    page = watched.page
    chosen = ",".join(f'"{run.info.run_id}"' for run in runs["cells"][:2])
    experiments = f'["{runs["experiment"].experiment_id}"]'
    mode = "workflowType=machine_learning"
    watched.open(f"{served.mlflow}/#/compare-runs?runs=[{chosen}]&experiments={experiments}&{mode}")
    for run in runs["cells"][:2]:
        page.get_by_text(run.info.run_name).first.wait_for()
    page.get_by_text("perplexity/python-docs").first.wait_for()
    watched.shot("mlflow-compare")


def test_report_and_plots_open_and_the_description_links(
    runs: dict[str, Any], served: Up, watched: Any
) -> None:
    page = watched.page
    run = runs["parent"].info
    base = f"{served.mlflow}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    watched.open(f"{base}/artifacts/report.md")
    page.get_by_text("sparsegpt").first.wait_for()
    watched.shot("mlflow-report")
    watched.open(f"{base}/artifacts/plots/perplexity-vs-sparsity.png")
    page.locator("img[src*=blob], canvas, .image-outer-container").first.wait_for()
    watched.shot("mlflow-plot")
    watched.open(base)
    page.get_by_role("link", name="quality against sparsity").first.wait_for()
    watched.shot("mlflow-run")
    page.get_by_role("link", name="quality against sparsity").first.click()
    target = page.context.pages[-1]
    target.bring_to_front()  # a page in the background draws nothing
    target.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=90_000)
