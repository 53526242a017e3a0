"""Descriptions of an experiment and of a sweep's run: how to read them, with links to the views."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tasks.tracking.records import SweepIdentity
from tasks.tracking.views import CELLS, CURVES, KEY, PREFIX, TAG_LIMIT, view_path

NOTE = "mlflow.note.content"
HEADING = "Pruning sweeps of secateur."
"""How the experiment's description begins; one that someone else wrote is left alone."""


def sweep_note(experiment_id: str, sweep: SweepIdentity) -> str:
    """The description of a sweep's run."""
    axes = [f"- {axis}: {values}" for axis, values in sweep.axes.items()]
    return "\n".join([f"**{sweep.name}**: {_links(experiment_id, sweep.name)}\n", *axes, _READING])


def experiment_note(experiment_id: str, tags: Mapping[str, str]) -> str:
    """The description of an experiment, with the views of its latest sweeps: all that fit a tag.

    Args:
        experiment_id: the experiment.
        tags: its tags, the saved views among them.
    """
    cells = f"{KEY}{PREFIX}{CELLS}-"
    views = [json.loads(value) for key, value in tags.items() if key.startswith(cells)]
    views.sort(key=lambda view: (-view["createdAt"], view["name"]))
    names = [view["name"].removesuffix(f": {CELLS}") for view in views]
    lines = [f"- {name}: {_links(experiment_id, name)}" for name in names]
    counts = range(len(lines), 0, -1)
    notes = (_shortened(lines, shown) for shown in counts)
    return next((note for note in notes if len(note) <= TAG_LIMIT), _shortened(lines, 0))


def _shortened(lines: list[str], shown: int) -> str:
    more = [f"- and {len(lines) - shown} earlier ones"] if shown < len(lines) else []
    return "\n".join([HEADING, "", *lines[:shown], *more, _READING])


def _links(experiment_id: str, name: str) -> str:
    cells, curves = (view_path(experiment_id, kind, name) for kind in (CELLS, CURVES))
    return f"[table of cells]({cells}), [quality against sparsity]({curves})"


_READING = """
Each sweep is one run; its cells (model × method × target × seed) are its children, with all figures
as metrics. Runs called *curve* hold figures by sparsity. `report.md` and the plots are among the
sweep's artifacts. Both links are in the menu *Views* of the page *Runs*, too."""
