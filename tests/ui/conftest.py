"""A headless Chromium that watches for errors, and a real ``secateur up`` for it to open."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from serving import Up

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
NOISE = (
    # MLflow asks who is logged in, and learns from the 404 that nobody has to.
    re.compile(r"/ajax-api/2\.0/mlflow/users/current"),
    # MLflow's worker for telemetry, which is switched off, ends when the page changes.
    re.compile(r"/static-files/TelemetryLogger\.telemetry-worker\."),
    # The gate keeps MLflow's assistant closed.
    re.compile(r"/ajax-api/3\.0/mlflow/assistant/"),
    # Prefect's page looks in the wrong folder for its tab's icon, which shows the run's state.
    re.compile(r"^http://127\.0\.0\.1:\d+/(favicon[-\dx]*\.(ico|png)|[a-z]+\.svg)$"),
)
"""The addresses whose errors are known and harmless; anything else fails the test."""
ANALYTICS = "https://sr-client-cfg.amplitude.com/"
"""Prefect's page asks there on each load; the policy of the gate lets no such request be made."""


@dataclass
class Watched:
    """A page, and what its console and requests complained about."""

    page: Any
    shots: Path
    home: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        self.page.route("**/*", self._route)

    def _said(self, message: Any) -> None:
        # A browser's remark on a layout that took two frames is no error of anyone's.
        where = message.location.get("url", "")
        known = any(noise.search(where) for noise in NOISE) or "ResizeObserver loop" in message.text
        known = known or (ANALYTICS in message.text and "Content Security Policy" in message.text)
        # What is blocked below shows up as an error of the console, too.
        if message.type == "error" and not known and where not in self.outside:
            self.errors.append(f"console: {message.text} ({where})")

    def _route(self, route: Any) -> None:
        """Nothing leaves this machine: a page must be whole without the internet."""
        if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", route.request.url):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def shot(self, name: str) -> None:
        """A picture for people to look at."""
        self.page.screenshot(path=self.shots / f"{name}.png")

    def open(self, address: str) -> None:
        # Both pages route by themselves: only a fresh start reads a new address as a whole.
        self.page.goto("about:blank")
        self.page.goto(address)


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: SECATEUR_UI_SHOTS, else below pytest's folder."""
    given = os.environ.get("SECATEUR_UI_SHOTS")
    folder = Path(given).absolute() if given else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright: the extra `ui`")
    installed = [path for name in CHROMIUM if (path := shutil.which(name))]
    found = os.environ.get("SECATEUR_CHROMIUM") or next(iter(installed), "")
    if not found:
        pytest.skip("no Chromium: install Debian's package chromium, or set SECATEUR_CHROMIUM")
    with playwright.sync_playwright() as started:
        # Its sandbox needs user namespaces, which containers lack, and refuses root.
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def opened(chromium: Any, shots: Path, served: Up) -> Iterator[Callable[[], Watched]]:
    """Opens pages; at the end none of them may have complained."""
    pages: list[Watched] = []

    def make() -> Watched:
        context = chromium.new_context(viewport={"width": 1500, "height": 1000})
        context.set_default_timeout(30_000)
        pages.append(Watched(context.new_page(), shots, served.prefect))
        return pages[-1]

    yield make
    for watched in pages:
        watched.page.context.close()


@pytest.fixture
def watched(opened: Callable[[], Watched]) -> Iterator[Watched]:
    """A fresh page, which must not have complained when the test ends."""
    page = opened()
    yield page
    page.shot("last")
    assert page.errors == []
    assert page.outside == []


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One ``secateur up`` for all pages; it must end clean."""
    up = Up(tmp_path_factory.mktemp("up"))
    up.start()
    try:
        yield up
    finally:
        assert up.end() == 0, up.output


@pytest.fixture(scope="session")
def formed(served: Up, opened: Callable[[], Watched]) -> dict[str, Any]:
    """A sweep that somebody filled in and ran in the page: its run and the page's complaints."""
    from form import fill_and_submit

    page = opened()
    run = fill_and_submit(page, served.prefect)
    state = served.wait(run, seconds=240)
    # The page was open all the time: it must show the end by itself.
    page.page.get_by_role("main").get_by_text("Completed", exact=True).first.wait_for()
    page.shot("run-completed")
    return {"run": run, "state": state, "errors": page.errors}
