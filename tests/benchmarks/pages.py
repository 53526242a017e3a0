"""What a person at the pages waits for: a form's height, and six tiny cells from Submit to the end.

    python tests/benchmarks/pages.py [--shots FOLDER]
    python tests/benchmarks/pages.py --presses 24    # Submit, again and again, while a worker runs

A real ``secateur up`` in a new home, its form filled in and submitted in a headless Chromium (the
extra `ui`, Debian's package chromium): three one-shot methods × two targets on a tiny random model,
everything else as the form comes. Then the same sweep again, under another name, of which the store
holds everything. Says where the time went, by the states and tasks that Prefect has of the runs.
Results: pages.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))
sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))

from conftest import CHROMIUM, Watched
from form import TARGETS, add_method, fill, find_form, submit
from serving import Up


def height(page: Any) -> int:
    """Pixels that somebody scrolls through, at the window's width of 1500."""
    heights = "[...document.querySelectorAll('*')].map(e => e.scrollHeight)"
    return page.evaluate(f"Math.max(...{heights})")


def choose(watched: Watched, name: str) -> None:
    """Six tiny cells, as a person types them."""
    fill(watched, targets=TARGETS)
    watched.page.get_by_role("textbox", name="name", exact=True).first.fill(name)
    add_method(watched, "wanda")


def timed(watched: Watched, up: Up, name: str) -> dict[str, float]:
    """Seconds from Submit: until the worker has the run, until the flow runs, until its end."""
    find_form(watched, up.prefect)
    choose(watched, name)
    watched.shot(name)
    begun = time.time()
    run = submit(watched)
    state = up.wait(run, seconds=600)
    ended = time.time()
    assert state["type"] == "COMPLETED", state
    history = up.call(f"/flow_run_states/?flow_run_id={run}")
    states = {state["type"]: _time(state["timestamp"]) for state in history}
    found = {
        "until the worker has taken it": states["PENDING"] - begun,
        "until the flow runs (process, imports)": states["RUNNING"] - states["PENDING"],
    }
    return found | _inside(up, run, states["RUNNING"]) | {"from Submit to the end": ended - begun}


def _inside(up: Up, run: str, running: float) -> dict[str, float]:
    """What the flow itself did: until its first step, shared steps, cells, the report."""
    wanted = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    tasks = [
        (t["name"], _time(t["start_time"]), _time(t["end_time"]))
        for t in up.call("/task_runs/filter", wanted)
        if t["start_time"] and t["end_time"]
    ]
    report = next(t for t in tasks if t[0].startswith("report"))
    cells = up.call("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}})
    spans = [(_time(c["start_time"]), _time(c["end_time"])) for c in cells]
    first = min(start for _, start, _ in tasks)
    end = max([end for _, end in spans], default=report[1])
    start = min([start for start, _ in spans], default=report[1])
    return {
        "plan, models, MLflow, until its first task": first - running,
        "what the cells share": start - first,
        f"{len(spans)} cells": end - start,
        "until the report begins": report[1] - end,
        "report, plots, MLflow's summary": report[2] - report[1],
    }


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def press(watched: Watched, up: Up, times: int) -> None:
    """Submit so many sweeps one after the other; the worker runs them meanwhile."""
    waits: list[float] = []
    for number in range(times):
        find_form(watched, up.prefect)
        choose(watched, f"press-{number}")
        begun = time.time()
        submit(watched)
        waits.append(time.time() - begun)
        print(f"{waits[-1]:7.1f} s  until the page of run {number + 1}", flush=True)
    print(f"{times} of {times} have a run; the longest wait was {max(waits):.1f} s")


def measured(up: Up, shots: Path, presses: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1500, "height": 1000}).new_page()
        watched = Watched(page, shots, up.prefect)
        find_form(watched, up.prefect)
        page.get_by_text("settings (Optional)", exact=True).wait_for()
        print(f"the form is {height(page)} pixels high", flush=True)
        page.screenshot(path=shots / "form.png")
        if presses:
            press(watched, up, presses)
            browser.close()
            return
        for name in ("six", "again"):
            print(name)
            for part, seconds in timed(watched, up, name).items():
                print(f"{seconds:7.1f} s  {part}", flush=True)
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=Path, help="where pictures stay; else they go")
    parser.add_argument("--presses", type=int, default=0, help="only press Submit so often")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        shots = (options.shots or Path(temporary) / "shots").absolute()
        shots.mkdir(parents=True, exist_ok=True)
        up = Up(Path(temporary) / "up")
        up.start()
        try:
            measured(up, shots, options.presses)
        finally:
            up.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
