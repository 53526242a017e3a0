"""``secateur select``: only the coreset of a sweep file, as a file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from flows.commands.live import live_view
from tasks.compression.coreset_file import write_coreset
from tasks.compression.coresets import ChosenWindows
from tasks.plan.selections import coreset_alone
from tasks.steps.session import session
from tasks.store.home import home, require_writable


def select_windows(config: SweepConfig, to: Path, budget: str | None, console: Console) -> None:
    """Choose windows of the calibration text by their gradients, and write them.

    Args:
        budget: windows, or per cent of the pool; None for ``calibration.samples``.

    Raises:
        ConfigurationError: several models, a text that is too short, a budget that the pool cannot
            meet, or a file that cannot be written or is there.
    """
    if len(config.models) > 1:
        allowed = "one model chooses: --set models=[NAME]"
        raise ConfigurationError("models", list(config.models), allowed)
    if to.is_dir() or not to.absolute().parent.is_dir():
        raise ConfigurationError("--to", str(to), "it must be a file in a folder that is there")
    if to.exists() or to.is_symlink():
        raise ConfigurationError("--to", str(to), "it must be a new file; this one is there")
    require_writable(home())
    here = session()
    plan = here.checked_plan(coreset_alone(config, budgeted=budget is not None))
    context = here.context(plan.config)
    chosen = plan.cells[0].recipe.calibration
    assert isinstance(chosen, ChosenWindows)
    with live_view(console):
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
