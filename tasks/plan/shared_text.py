"""Measured windows that hold text which pruning reads too, found by their tokens.

Two corpora may share text whatever their digests say: one holds the other's file, takes more
documents of one split, or quotes it. So runs of tokens are compared, of the windows themselves.

Shapes: ``N`` windows, ``L`` tokens of one, ``R`` runs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tasks.data.texts import Windows, made_windows
from tasks.plan.plan import Cell, Plan
from tasks.store.context import Context
from tasks.store.steps import Step, walk

RUN = 50
"""Tokens: longer than what unrelated texts of one kind have in common by chance."""
_BUCKETS = 2**26
_AT_ONCE = 256
"""Windows that are hashed together: training texts may have many."""
_FACTOR = 0x1E3779B97F4A7C15  # odd: hashes are polynomials of it modulo 2^64


def shared_text(plan: Plan, context: Context) -> list[str]:
    """Which measured windows hold text that models are pruned or trained on, in sentences.

    Windows that are neither stored nor cut yet are left out, and texts of which the plan itself
    says it.
    """
    told, notes = plan.seen_texts, list[str]()
    for model in plan.models:
        cells = [cell for cell in plan.cells if cell.model is model]
        measured = {
            step: run_hashes(windows_NL)
            for step, windows in model.measured_windows
            if (windows_NL := made_windows(context, windows)) is not None
        }
        wanted = torch.zeros(_BUCKETS, dtype=torch.bool)
        for runs_NR in measured.values():
            wanted[runs_NR.flatten() % _BUCKETS] = True
        for use in ("calibration", "training"):
            read_R = _read_runs(cells, use, context, wanted)
            for step, runs_NR in measured.items():
                count = int(torch.isin(runs_NR, read_R).any(dim=1).sum())
                if count and use not in told[step]:
                    whose = f" of {model.spec}" if len(plan.models) > 1 else ""
                    notes.append(
                        f"{step.label}{whose}: {count} of {len(runs_NR)} windows share {RUN} "
                        f"tokens or more in a row with what {use} reads, so the figure says less "
                        "about text that the models have not seen."
                    )
    return notes


def run_hashes(windows_NL: Tensor) -> Tensor:
    """A number for each run of ``RUN`` tokens in a window: ``N × R``, int64.

    Runs that differ have the same one once in 2^64; windows of fewer tokens have no run.
    """
    left, factor, taken = RUN, _FACTOR, 0
    runs = max(0, windows_NL.shape[1] - RUN + 1)
    part_NL = windows_NL.long() + 1  # of so many tokens as the power of two that is looked at
    size, hashes_NR = 1, torch.zeros(len(windows_NL), runs, dtype=torch.int64)
    while left and runs:
        if left & 1:
            hashes_NR = hashes_NR * factor + part_NL[:, taken : taken + runs]
            taken += size
        left >>= 1
        part_NL = part_NL[:, :-size] * factor + part_NL[:, size:]
        factor, size = _wrapped(factor * factor), size * 2
    return hashes_NR


def _wrapped(value: int) -> int:
    """As int64 arithmetic leaves it."""
    return (value + 2**63) % 2**64 - 2**63


def _read_runs(cells: list[Cell], use: str, context: Context, wanted: Tensor) -> Tensor:
    """Runs of the windows that any of the cells reads for calibration, or for training.

    Args:
        wanted: which runs to look for, by their numbers modulo its length: to sort all takes
            seconds.
    """
    seen: dict[tuple[Step, int | None], Windows] = {}
    for cell in cells:
        for windows, count in _read(cell, use):
            seen[windows.step, count] = windows
    found = [torch.zeros(0, dtype=torch.int64)]
    for (_, count), windows in seen.items():
        windows_NL = made_windows(context, windows)
        if windows_NL is not None:
            for part_NL in windows_NL[:count].split(_AT_ONCE):
                runs_R = run_hashes(part_NL).flatten()
                found.append(runs_R[wanted[runs_R % len(wanted)]])
    return torch.cat(found).unique()


def _read(cell: Cell, use: str) -> Iterator[tuple[Windows, int | None]]:
    """Windows, and how many of them where not all; of a coreset, those that it is chosen from."""
    recipe = cell.recipe
    roles = ("training",) if use == "training" else ("calibration", "statistics")
    count = recipe.statistics_windows if use == "calibration" else None
    behind = walk([step for role, step in recipe.needs().items() if role in roles])
    for step in behind:
        if isinstance(step.about, Windows):
            yield step.about, count if step.about is recipe.calibration else None
