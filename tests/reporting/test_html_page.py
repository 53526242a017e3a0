"""The page is one file that asks for nothing, and text in it stays text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.reporting.context import ModelFacts, ReportContext
from tasks.reporting.html_page import render_html
from tasks.reporting.markdown import render_report, write_report
from tasks.reporting.rows import Row

from .conftest import cell_row, dense_row, failed_row

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
        evaluations=[],
        environment={"device": models[0]},
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text(name: str, tmp_path: Path) -> None:
    rows: list[Row] = [dense_row(name), cell_row("wanda", "0.5", 60.0, model=name)]
    rows += [dense_row("other"), failed_row(name) | {"model": name}]
    write_report(rows, _context(name, "other"), tmp_path)
    page = _parsed((tmp_path / "report.html").read_text())
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "img", "svg", "b", "iframe", "link", "object"}
    for tag, attributes in page.found:
        assert not any(key.startswith("on") for key in attributes), tag
        if tag == "a":
            assert attributes["href"] in ("results.csv", "results.json", "config.yaml")
    assert "".join(name.split()) in "".join(page.text.split())


def test_the_page_asks_for_nothing(rows: list[Row], tmp_path: Path) -> None:
    plot = tmp_path / "plots" / "a b.png"
    plot.parent.mkdir()
    plot.write_bytes(PNG)
    write_report(rows, _context("tiny"), tmp_path, [plot])
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
    report = render_report(rows, _context("llama", "org/neox", "opt"))
    assert "compare perplexities within a model" in report
    page = render_html(report, tmp_path, "t")
    groups = re.findall(r'<tr class="group">\s*<td>([^<]*)</td>', page)
    assert groups == ["org/neox", "opt"]
