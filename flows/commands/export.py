"""``secateur export``: one cell's pruned model as a folder of its own."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.errors import ConfigurationError
from tasks.provenance.references import same_model
from tasks.reporting.rows import Row, is_completed, is_dense, read_results
from tasks.store.files import size_of
from tasks.store.home import home, sweep_folder
from tasks.store.store import StorageFullError, Store, says_full

_AXES = ("model", "method", "target", "selection", "seed")


def export_cell(
    sweep: str, wanted: Mapping[str, Any], to: Path, form: str, console: Console
) -> None:
    """Write the checkpoint of the one cell that ``wanted`` names.

    Args:
        wanted: model, method, target, selection or seed, each None where it does not matter.
        to: a folder that is not there yet, or empty.

    Raises:
        ConfigurationError: no such sweep, not exactly one such cell, no checkpoint of it, a folder
            that cannot be written, or a format that does not fit.
    """
    from tasks.models.saved.export import check_format, write_export

    check_format(form)
    given = {axis: wanted[axis] for axis in _AXES if wanted.get(axis) is not None}
    row = pick(_cells(sweep), _canonical(given))
    store, place = Store(home()), _checkpoint(row, sweep)
    # As long as the lock is held, `secateur gc` lets the checkpoint be.
    with store.lock(place):
        if store.find(place, afresh=True) is None:
            raise _gone(row, sweep)
        with _new_folder(to) as folder:
            said = write_export(store.path(place), folder, form)
    size = f"{size_of(to) / 1e6:.0f} MB"
    console.print(f"written: {to} ({_label(row)}, {form}, {size})", highlight=False)
    for sentence in said:
        console.print(sentence, highlight=False)


def pick(cells: list[Row], given: Mapping[str, Any]) -> Row:
    """The one cell that agrees with ``given``.

    Raises:
        ConfigurationError: there is none, or several: with the option that decides.
    """
    left = cells
    for axis, value in given.items():
        there = _values(left, axis)
        left = _agreeing(left, axis, value)
        if not left:
            near = get_close_matches(str(value), there, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else ""
            among = f"of the sweep's cells it can be {', '.join(there)}"
            raise ConfigurationError(f"--{axis}", value, among, hint)
    open_axes = [axis for axis in _AXES if len(_values(left, axis)) > 1]
    if open_axes:
        axis = open_axes[0]
        choice = ", ".join(_values(left, axis))
        raise ConfigurationError(f"--{axis}", ..., f"{len(left)} cells fit; give one of {choice}")
    return left[0]


def _agreeing(cells: list[Row], axis: str, value: Any) -> list[Row]:
    exact = [row for row in cells if row.get(axis) == value]
    if exact or axis != "model":
        return exact
    return [row for row in cells if same_model(str(value), str(row.get(axis)))]


def _cells(sweep: str) -> list[Row]:
    try:
        rows = read_results(sweep_folder(sweep))
    except FileNotFoundError:
        known = sorted(path.parent.name for path in (home() / "sweeps").glob("*/results.json"))
        allowed = f"it must be a sweep below {home() / 'sweeps'}: {', '.join(known) or 'none yet'}"
        raise ConfigurationError("SWEEP", sweep, allowed) from None
    cells = [row for row in rows if not is_dense(row) and row["status"] != "skipped"]
    if not cells:
        raise ConfigurationError("SWEEP", sweep, "the sweep must have a cell that is not skipped")
    return cells


def _canonical(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the target as rows have it: 0.50 is 0.5."""
    from tasks.pruning.core.targets import TargetError, parse_target

    if "target" not in given:
        return dict(given)
    try:
        return {**given, "target": str(parse_target(given["target"]))}
    except TargetError as error:
        raise ConfigurationError("--target", given["target"], str(error)) from None


def _checkpoint(row: Row, sweep: str) -> str:
    """The row's checkpoint in this home's store, which may have moved since."""
    if not is_completed(row):
        reason = f"the cell must be completed, and it {row['status']}: {row['error']}"
        raise ConfigurationError("SWEEP", sweep, f"{_label(row)}: {reason}")
    if not row["checkpoint"]:
        raise ConfigurationError(
            "SWEEP",
            sweep,
            f"the checkpoint of {_label(row)} must have been kept",
            "Run the sweep with save_checkpoints: true.",
        )
    return f"checkpoint/{Path(str(row['checkpoint'])).name}"


def _gone(row: Row, sweep: str) -> ConfigurationError:
    allowed = f"the checkpoint of {_label(row)} must be in the store, and it is gone or damaged"
    return ConfigurationError("SWEEP", sweep, allowed, "Run the sweep again.")


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``to`` when the block ends, and nothing when it fails.

    Raises:
        ConfigurationError: ``to`` is there and not empty, or cannot be written.
        StorageFullError: the disk has no room.
    """
    final = to.expanduser().resolve()
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")
    try:
        _require_new(final, to)
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(final)
    except Exception as error:
        if says_full(error):
            raise StorageFullError(final.parent, f"the model in {to}") from error
        if not isinstance(error, OSError):
            raise
        allowed = "it must be a folder that can be written"
        raise ConfigurationError("--to", to, allowed, str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_new(final: Path, to: Path) -> None:
    if final.is_relative_to(home().resolve()):
        allowed = f"it must lie outside of {home()}, where secateur keeps its own"
        raise ConfigurationError("--to", to, allowed)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise ConfigurationError("--to", to, "it must be a new or an empty folder")


def _values(rows: list[Row], axis: str) -> list[str]:
    # A former version's rows have no selection.
    values = (row.get(axis) for row in rows)
    return list(dict.fromkeys("" if value is None else str(value) for value in values))


def _label(row: Row) -> str:
    chosen = f" {row['selection']}" if row.get("selection") else ""
    return f"{row['model']} {row['method']} {row['target']}{chosen} seed {row['seed']}"
