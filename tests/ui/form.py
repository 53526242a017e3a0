"""What a person does with the form of the sweep deployment."""

from __future__ import annotations

from typing import Any

from configs.yaml_file import load

NAME, METHODS, TARGETS = "by-hand", ["magnitude", "sparsegpt"], ["0.3", "2:4"]


def field(page: Any, name: str) -> Any:
    """The first field of that name in the form, from its label to its last row."""
    label = page.get_by_text(name, exact=True).first
    return label.locator("xpath=ancestor::div[contains(concat(' ', @class, ' '), ' group ')][1]")


def find_form(watched: Any, prefect: str) -> None:
    """From the front page to the form of the sweep deployment."""
    page = watched.page
    watched.open(prefect)
    page.get_by_role("link", name="Deployments").first.click()
    watched.shot("deployments")
    page.get_by_role("link", name="sweep", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_text("Parameters", exact=True).first.wait_for()


def fill(watched: Any, *, targets: list[str]) -> None:
    """Ask for other methods and targets on a tiny model."""
    page = watched.page
    page.get_by_role("textbox", name="name", exact=True).first.fill(NAME)
    field(page, "models").get_by_role("textbox").first.fill("tiny-random")
    methods = field(page, "methods")
    for unwanted in (name for name in load("quickstart").methods if name not in METHODS):
        methods.get_by_role("button", name=f"Remove {unwanted} tag").click()
    add_method(watched, "sparsegpt")
    rows = field(page, "targets").get_by_role("textbox")
    for at, target in enumerate(targets):
        rows.nth(at).fill(target)


def add_method(watched: Any, name: str) -> None:
    """Choose one more of the form's methods."""
    page = watched.page
    field(page, "methods").get_by_role("button", name="Select methods").click()
    page.get_by_role("option", name=name, exact=True).first.click()
    page.keyboard.press("Escape")
    # The list fades away, and until it is gone it takes the next click for itself.
    page.get_by_role("option").first.wait_for(state="hidden")


def fill_and_submit(watched: Any, prefect: str) -> str:
    """Run the form as a person would; the flow run's id, with its page open."""
    find_form(watched, prefect)
    fill(watched, targets=TARGETS)
    watched.shot("form")
    return submit(watched)


def submit(watched: Any) -> str:
    """Send the form off and open its run; the flow run's id."""
    page = watched.page
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").or_(
        page.get_by_role("link", name="View run")
    ).first.click()
    page.wait_for_url("**/flow-run/*")
    watched.shot("run")
    return page.url.rpartition("/")[2].partition("?")[0]
