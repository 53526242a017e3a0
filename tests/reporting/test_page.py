"""The page is one file that asks for nothing, and text in it stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.reporting.charts import charts_of
from tasks.reporting.context import ModelFacts, ReportContext
from tasks.reporting.pages import write_report
from tasks.reporting.pages.html import render_html
from tasks.reporting.pages.live import chart_data
from tasks.reporting.pages.report import render_report
from tasks.reporting.rows import Row

from .conftest import cell_row, dense_row, failed_row, figures_in
from .realistic import large_sweep

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "![a](http://example.org/x.png)",
    "a|b\n<b>c</b>",
    '"><svg onload=alert(1)>',
    "<br><br/><BR onclick=x>",
)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _parsed(page: str) -> _Elements:
    parser = _Elements()
    parser.feed(page)
    return parser


def _context(*models: str) -> ReportContext:
    return ReportContext(
        name=models[0],
        models=[ModelFacts(name=m, source=m, digest="aa", parameters=1) for m in models],
        dtype="float32",
        measured={models[0]: models[0]},
        notes=models,
        environment={"device": models[0]},
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text(name: str, tmp_path: Path) -> None:
    rows: list[Row] = [dense_row(name), cell_row("wanda", "0.5", 60.0, model=name)]
    rows += [dense_row("other"), failed_row(name) | {"model": name}]
    write_report(rows, figures_in(rows), _context(name, "other"), tmp_path)
    page = _parsed((tmp_path / "report.html").read_text())
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "img", "svg", "b", "iframe", "link", "object"}
    for tag, attributes in page.found:
        assert not any(key.startswith("on") for key in attributes), tag
        if tag == "a":
            assert attributes["href"] in ("results.csv", "results.json", "config.yaml")
    assert "".join(name.split()) in "".join(page.text.split())


@pytest.mark.parametrize("name", HOSTILE)
def test_marks_tell_hostile_names_as_text_and_no_script_is_added(name: str, tmp_path: Path) -> None:
    rows: list[Row] = [dense_row(name), cell_row(name, "0.5", 60.0, model=name)]
    rows += [cell_row("wanda", "0.5", math.inf, model=name)]
    for chart in (charts := charts_of(rows, figures_in(rows))):
        (tmp_path / f"{chart.stem}.png").write_bytes(PNG)
    plots = sorted(tmp_path.glob("*.png"))
    assert len(plots) == len(charts) > 0
    write_report(rows, figures_in(rows), _context(name), tmp_path, plots)
    text = (tmp_path / "report.html").read_text()
    page = _parsed(text)
    assert not {tag for tag, _ in page.found} & {"svg", "b", "iframe", "link", "object"}
    data, *code = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert [tag for tag, _ in page.found].count("script") == 1 + len(code) == 3
    policy = next(str(a["content"]) for _, a in page.found if a.get("http-equiv"))
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in code]
    scripts = " ".join(f"'sha256-{digest}'" for digest in hashes)
    assert policy.endswith(f"; script-src {scripts}")
    for chart in json.loads(data).values():
        for told in (label for trace in chart["traces"] for label in trace.get("text", [])):
            assert not re.sub(r"</?b>|<br>", "", told).count("<")
            assert "".join(html.escape(name).split()) in "".join(told.split())


def test_charts_are_what_plotly_takes_and_say_every_cell() -> None:
    import plotly.graph_objects as go

    rows = large_sweep(methods=("magnitude", "ast", "policy_gradient"), seeds=(0, 1))
    for chart in charts_of(rows, figures_in(rows)):
        data = json.loads(json.dumps(chart_data(chart), allow_nan=False))
        axes = {f"{way}axis{k + 1 if k else ''}": panel[way]
                for k, panel in enumerate(data["panels"]) for way in "xy"}  # fmt: skip
        go.Figure(data["traces"], axes)  # refuses what it does not know
        marks = [trace for trace in data["traces"] if trace["mode"] == "markers"]
        told = [text for trace in marks for text in trace["text"]]
        wanted = [mark.text for panel in chart.panels for mark in panel.marks
                  for _ in range((mark.y is not None) + mark.diverged)]  # fmt: skip
        assert sorted(told) == sorted(wanted)
        assert all("seeds 0, 1" in text or "dense" in text for text in told)
        assert all("perplexity on docs: " in text and "zero-shot" in text for text in told)
        named = [trace["name"] for trace in data["traces"] if trace["showlegend"]]
        assert len(named) == len(set(named)) == len(data["entries"])
        assert {name.partition(":")[0] for name in named} >= set(chart.methods)


def test_plotly_is_not_imported_for_a_page(tmp_path: Path) -> None:
    code = "import sys, tasks.reporting.pages, tasks.reporting.plots, tasks.reporting.tables;"
    code += "assert not {'plotly', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_asks_for_nothing(rows: list[Row], tmp_path: Path) -> None:
    plot = tmp_path / "plots" / "a b.png"
    plot.parent.mkdir()
    plot.write_bytes(PNG)
    write_report(rows, figures_in(rows), _context("tiny"), tmp_path, [plot])
    text = (tmp_path / "report.html").read_text()
    page = _parsed(text)
    (image,) = [attributes for tag, attributes in page.found if tag == "img"]
    assert image == {
        "src": "data:image/png;base64," + base64.b64encode(PNG).decode(),
        "alt": "a b",
    }
    assert not re.search(r"""(src|href|url)\W{1,3}(https?:|//|file:)""", text)
    policy = next(a["content"] for t, a in page.found if a.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy and "script" not in policy
    assert [tag for tag, _ in page.found].count("table") >= 1
    assert '<td style="text-align:right"><strong>60.50</strong></td>' in text


@pytest.mark.parametrize("link", ["gone.png", "../outside.png", "notes.txt", "%00.png"])
def test_only_plots_of_the_folder_are_inlined(link: str, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(PNG)
    (folder / "notes.txt").write_bytes(PNG)
    page = render_html(f"![my plot]({link})\n", folder, "t")
    assert "<img" not in page
    assert "my plot (plot not found)" in page


def test_each_model_is_a_group_of_rows(tmp_path: Path) -> None:
    rows = [
        row
        for model in ("llama", "org/neox", "opt")
        for row in (dense_row(model), cell_row("wanda", "0.5", 60.0, model=model))
    ]
    report = render_report(rows, figures_in(rows), _context("llama", "org/neox", "opt"))
    page = render_html(report, tmp_path, "t")
    groups = re.findall(r'<tr class="group">\s*<td>([^<]*)</td>', page)
    assert groups == 2 * ["neox", "opt"]  # of the results, and of what pruning took
