"""A sweep's report as Prefect's page gets it."""

from __future__ import annotations

from tasks.steps.report import without_files


def test_links_into_the_folder_become_paths_and_others_stay() -> None:
    report = (
        "# demo\n\n![perplexity](plots/a%20b.png)\n"
        "Exact: [results.csv](results.csv), [the paper](https://example.org/a), [up](#demo).\n"
    )
    assert without_files(report, "sweeps/demo") == (
        "# demo\n\n"
        "Exact: `sweeps/demo/results.csv`, [the paper](https://example.org/a), [up](#demo).\n"
    )
