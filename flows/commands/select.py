"""``secateur select``: only the coreset of a sweep file, as a file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from tasks.compression.coreset_file import write_coreset
from tasks.compression.coresets import ChosenWindows
from tasks.plan.check import check_plan
from tasks.plan.selections import coreset_alone
from tasks.runtime.progress import Event
from tasks.steps.session import session
from tasks.store.home import home, require_writable


def select_windows(config: SweepConfig, to: Path, budget: str | None, console: Console) -> None:
    """Choose windows of the calibration text by their gradients, and write them.

    Args:
        budget: windows, or per cent of the pool; None for ``calibration.samples``.

    Raises:
        ConfigurationError: several models, a text that is too short, a budget that the pool cannot
            meet, or a file that cannot be written.
    """
    if len(config.models) > 1:
        allowed = "one model chooses: --set models=[NAME]"
        raise ConfigurationError("models", list(config.models), allowed)
    if to.is_dir() or not to.absolute().parent.is_dir():
        raise ConfigurationError("--to", str(to), "it must be a file in a folder that is there")
    require_writable(home())
    here = session()
    plan = here.plan(coreset_alone(config, budgeted=budget is not None))
    context = here.context(plan.config)
    check_plan(plan, context, download=True)
    chosen = plan.cells[0].recipe.calibration
    assert isinstance(chosen, ChosenWindows)
    with _Shown(console) as shown, here.progress.listening(shown.told):
        facts = write_coreset(chosen, budget, to, context)
    picks = ", ".join(f"{count} of {name}" for name, count in facts["sources"].items())
    quality = facts["quality"]
    console.print(
        f"written: {to} ({facts['windows']} of {facts['pool']} windows: {picks})\n"
        f"gradient error {quality['gradient_error']:.4f}; random windows "
        f"{quality['gradient_error_random']:.4f}, spread ones "
        f"{quality['gradient_error_spread']:.4f}",
        highlight=False,
        soft_wrap=True,
    )


class _Shown:
    """A bar a step, with what is left of it."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=console)
        self.places: dict[str, TaskID] = {}

    def __enter__(self) -> _Shown:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def told(self, event: Event) -> None:
        """Show one change."""
        if event.name not in self.places:
            self.places[event.name] = self.bars.add_task(event.name, total=None)
        place = self.places[event.name]
        if event.status == "advanced":
            self.bars.update(place, completed=event.done, total=event.total)
        elif event.status in {"computed", "reused"}:
            self.bars.update(place, completed=1, total=1)
