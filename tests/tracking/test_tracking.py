"""MLflow tracking against a real SQLite file, a real server and servers that do not answer."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.measures.figures import PRUNING, Figure
from tasks.tracking import (
    InputRecord,
    SweepIdentity,
    Tracker,
    TrackingUnavailableError,
    connect,
)
from tasks.tracking.figures import curves_of as points_of
from tasks.tracking.figures import summary_of
from tasks.tracking.views import TAG_LIMIT, saved_views

ROOT = Path(__file__).resolve().parents[2]


def figure(column: str, **others: Any) -> Figure:
    return Figure(column=column, label=column, heading=column, group="g", **others)


FIGURES = [
    *PRUNING,
    figure("loss/wiki", axis="log", role="quality", headline=True, relative=True),
    figure("drift/wiki", role="quality", dense=0.0),
    figure("accuracy", better="higher", axis="linear", headline=True, error="accuracy_error"),
    figure("parameters", better=""),
]
"""Of measures that exist nowhere: what is tracked follows from figures alone."""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URI", "USERNAME", "PASSWORD"):
        variable = f"MLFLOW_TRACKING_{name}"
        monkeypatch.setenv(variable, "x")  # so that what connect sets is taken back, too
        monkeypatch.delenv(variable)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an initialised database; the leftovers of a killed process were in its way."""
    home = tmp_path_factory.mktemp("with space") / "home"
    (home / "locks").mkdir(parents=True)
    (home / "locks" / "mlflow.lock").touch()
    (home / "mlflow.db").touch()
    (home / "mlflow.db.partial").write_bytes(b"half a migration")
    (home / "mlflow.db.partial-journal").write_bytes(b"and its journal")
    connect(f"sqlite:///{home / 'mlflow.db'}", home, "first")
    return home


@pytest.fixture
def tracker(home: Path, request: pytest.FixtureRequest) -> Tracker:
    return connect(None, home, request.node.name)


def identity(fingerprint: str = "f" * 64, **axes: str) -> SweepIdentity:
    return SweepIdentity(
        name="demo",
        fingerprint=fingerprint,
        config_yaml="name: demo\n",
        axes={"models": "org/tiny", "methods": "magnitude, wanda", **axes},
    )


def make_row(
    method: str = "wanda", target: str = "0.5", seed: int | None = 0, **others: Any
) -> dict:
    row = {
        "model": "org/tiny",
        "method": method,
        "target": target,
        "seed": seed,
        "status": "completed",
        "error": None,
        "sparsity": 0.5 if ":" in target else float(target or 0),
        "loss/wiki": 30.25,
        "dense_loss/wiki": 20.5,
        "prune_seconds": 2.0,
        "evaluate_seconds": 1.5,
        "parameters": 1000,
        "checkpoint": "",
        "fingerprint": f"{method}-{target}-{seed}".replace(":", "of"),
    }
    return row | others


def children(tracker: Tracker, parent: str, **tags: str) -> list[Any]:
    chosen = {"mlflow.parentRunId": parent} | {f"secateur.{key}": tags[key] for key in tags}
    return tracker._runs(chosen)


def history(tracker: Tracker, run_id: str, metric: str) -> list[tuple[int, float, int]]:
    entries = tracker.client.get_metric_history(run_id, metric)
    return sorted((entry.step, entry.value, entry.timestamp) for entry in entries)


def test_a_sweep_is_one_run_that_is_found_again(tracker: Tracker) -> None:
    first = tracker.begin_sweep(identity(seeds="x" * 9000))
    tracker.client.set_terminated(first, "FAILED")
    assert tracker.begin_sweep(identity(seeds="y")) == first
    run = tracker.client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "demo"
    assert run.data.params["models"] == "org/tiny"
    assert run.data.params["seeds"].endswith("x … (cut, 9000 characters)")
    assert "- methods: magnitude, wanda" in run.data.tags["mlflow.note.content"]
    assert [entry.path for entry in tracker.client.list_artifacts(first)] == ["config.yaml"]
    assert tracker.begin_sweep(identity("e" * 64)) != first


def test_a_deleted_sweep_or_experiment_is_restored(tracker: Tracker, home: Path) -> None:
    parent = tracker.begin_sweep(identity())
    run_id = tracker.log_row(parent, make_row(), figures=FIGURES)
    tracker.client.delete_run(parent)
    assert tracker.begin_sweep(identity()) == parent
    assert tracker.logged(parent) == {"wanda-0.5-0": run_id}

    name = tracker.client.get_experiment(tracker.experiment_id).name
    tracker.client.delete_experiment(tracker.experiment_id)
    again = connect(None, home, name)
    assert again.experiment_id == tracker.experiment_id
    assert again.logged(parent) == {"wanda-0.5-0": run_id}


def test_sweeps_whose_process_is_gone_are_ended_in_their_own_home_only(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'server.db'}"  # as a server's: several homes write there
    mine, theirs = (connect(address, tmp_path / name, "shared") for name in ("mine", "theirs"))

    def begun(tracker: Tracker, name: str) -> str:
        return tracker.begin_sweep(replace(identity(name * 64), name=name))

    other_home, running, gone = begun(theirs, "a"), begun(mine, "b"), begun(mine, "c")
    former = mine.begin_sweep(replace(identity("1" * 64), name="d"))
    row = mine.log_row(gone, make_row(), figures=FIGURES)
    mine.client.update_run(row, status="RUNNING")
    # The caller holds its own name: an older sweep of that name has no process.
    mine.close_abandoned(begun(mine, "d"), lambda name: name in ("b", "d"))
    ended = [mine.client.get_run(run).info.status for run in (gone, former, row)]
    assert ended == ["KILLED"] * 3
    kept = [mine.client.get_run(run).info.status for run in (other_home, running)]
    assert kept == ["RUNNING"] * 2


def test_a_signal_in_a_commit_leaves_the_database_unlocked(tracker: Tracker, home: Path) -> None:
    """MLflow's connection kept the lock, and the sweep could not write that it had ended."""
    from sqlalchemy import event

    parent = tracker.begin_sweep(identity())
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    engine = tracker.client._tracking_client.store.engine

    def interrupt(_connection: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    event.listen(engine, "commit", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as told:
            tracker.client.set_tag(parent, "key", "value")
    finally:
        event.remove(engine, "commit", interrupt)
        signal.signal(signal.SIGTERM, former)
    assert told.value.__traceback__  # which holds what the call held
    with contextlib.closing(sqlite3.connect(home / "mlflow.db", timeout=0.5)) as connection:
        connection.execute("begin immediate")
    tracker.stop_sweep(parent)
    assert tracker.client.get_run(parent).info.status == "KILLED"


def test_a_cell_of_another_process_neither_begins_nor_opens_a_sweep_again(
    tracker: Tracker,
) -> None:
    parent = tracker.begin_sweep(identity(), of_cell=True)
    assert tracker.client.get_run(parent).info.status == "SCHEDULED"
    assert tracker.begin_sweep(identity()) == parent
    tracker.stop_sweep(parent)
    assert tracker.begin_sweep(identity(), of_cell=True) == parent
    assert tracker.client.get_run(parent).info.status == "KILLED"


def test_a_row_is_a_child_with_params_tags_metrics_inputs_and_files(
    tracker: Tracker, tmp_path: Path
) -> None:
    (tmp_path / "layers.json").write_text("{}")
    parent = tracker.begin_sweep(identity())
    run_id = tracker.log_row(
        parent,
        make_row(**{"arc@(5),acc": 0.25, "../odd//name": 1, "of no figure": 7.0}),
        figures=[*FIGURES, figure("arc@(5),acc"), figure("../odd//name")],
        inputs=[
            InputRecord(name="wiki", digest="a" * 64, source="files", context="evaluation"),
            InputRecord(name="org/tiny", digest="b" * 64, source="hub:org/tiny", context="model"),
        ],
        extra_params={"dtype": "float32", "options@wanda": "x" * 7000},
        tags={"code_version": "0.1.0"},
        files={"statistics/sparsity.json": tmp_path / "layers.json"},
    )
    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "wanda 0.5 · tiny · seed 0"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 3500
    assert run.data.params.items() >= {
        "model": "org/tiny", "method": "wanda", "target": "0.5", "seed": "0",
        "status": "completed", "dtype": "float32",
    }.items()  # fmt: skip
    assert run.data.tags.items() >= {
        "mlflow.parentRunId": parent, "secateur.kind": "cell", "secateur.sweep": "f" * 64,
        "secateur.cell": "wanda-0.5-0", "method": "wanda", "status": "completed",
        "code_version": "0.1.0",
    }.items()  # fmt: skip
    assert run.data.metrics == {
        "sparsity": 0.5, "loss/wiki": 30.25, "dense_loss/wiki": 20.5,
        "prune_seconds": 2.0, "evaluate_seconds": 1.5, "parameters": 1000.0,
        "arc__5__acc": 0.25, "odd/name": 1.0,
    }  # fmt: skip
    assert history(tracker, run_id, "sparsity") == [(500, 0.5, run.info.start_time)]
    seen = {
        (used.dataset.name, used.dataset.digest, tag.value)
        for used in run.inputs.dataset_inputs
        for tag in used.tags
    }
    assert seen == {("wiki", "a" * 36, "evaluation"), ("org/tiny", "b" * 36, "model")}
    listed = tracker.client.list_artifacts(run_id, "statistics")
    assert [entry.path for entry in listed] == ["statistics/sparsity.json"]


def test_a_dense_row_bears_no_target(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    run_id = tracker.log_row(
        parent, make_row("dense", "", seed=None, sparsity=0.0), figures=FIGURES
    )
    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "dense · tiny"
    assert run.data.tags["secateur.kind"] == "dense"
    assert not {"target", "seed"} & run.data.params.keys()


def test_logging_a_row_again_changes_nothing(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    record = InputRecord(name="wiki", digest="a" * 64, source="files", context="evaluation")
    first = tracker.log_row(parent, make_row(), figures=FIGURES, inputs=[record])
    tracker.client.update_run(first, status="RUNNING")  # as a killed process leaves it
    assert tracker.logged(parent) == {}
    before = tracker.client.get_run(first)
    assert tracker.log_row(parent, make_row(), figures=FIGURES, inputs=[record]) == first
    after = tracker.client.get_run(first)
    assert after.data.metrics == before.data.metrics
    assert len(history(tracker, first, "prune_seconds")) == 1
    assert len(after.inputs.dataset_inputs) == 1
    assert after.info.end_time == after.info.start_time + 3500
    assert tracker.logged(parent) == {"wanda-0.5-0": first}


def test_a_figure_measured_again_shows_its_latest_value(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    tracker.log_row(parent, make_row(prune_seconds=9.0), figures=FIGURES)
    run_id = tracker.log_row(parent, make_row(prune_seconds=2.0), figures=FIGURES)
    assert tracker.client.get_run(run_id).data.metrics["prune_seconds"] == 2.0
    tracker.log_row(parent, make_row(prune_seconds=2.0), figures=FIGURES)
    assert len(history(tracker, run_id, "prune_seconds")) == 2
    tracker.log_row(parent, make_row(prune_seconds=9.0), figures=FIGURES)  # as it was at first
    assert tracker.client.get_run(run_id).data.metrics["prune_seconds"] == 9.0


def test_a_failed_row_is_replaced_when_it_completes(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    empty = {"loss/wiki": None, "prune_seconds": 7.0, "fingerprint": ""}
    row = make_row(status="failed", error="no memory " * 1000, sparsity=None, **empty)
    failed = tracker.log_row(parent, row, figures=FIGURES, extra_params={"code_version": "1"})
    run = tracker.client.get_run(failed)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("no memory")
    assert "no memory" in run.data.tags["mlflow.note.content"]
    assert list(tracker.logged(parent, [row]).values()) == [failed]
    assert "wanda-0.5-0" not in tracker.logged(parent, [make_row()])

    completed = tracker.log_row(
        parent, make_row(), figures=FIGURES, extra_params={"code_version": "2"}
    )
    (run,) = children(tracker, parent)
    assert run.info.run_id == completed
    assert run.data.params["status"] == run.data.tags["status"] == "completed"
    assert run.data.params["code_version"] == "2"
    assert "error" not in run.data.tags


def test_a_row_whose_figures_changed_has_to_be_logged_again(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    row = make_row(accuracy=float("inf"), prune_seconds=2.0)
    run_id = tracker.log_row(parent, row, figures=FIGURES)
    assert list(tracker.logged(parent, [row], FIGURES).values()) == [run_id]
    slower = row | {"prune_seconds": 3.0}
    assert tracker.logged(parent, [slower], FIGURES) == {}
    assert tracker.log_row(parent, slower, figures=FIGURES) == run_id
    assert list(tracker.logged(parent, [slower], FIGURES).values()) == [run_id]
    assert tracker.client.get_run(run_id).data.metrics["prune_seconds"] == 3.0


def test_seeds_that_share_a_fingerprint_are_two_runs(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    rows = [make_row(seed=seed, fingerprint="same") for seed in (0, 1)]
    tracker.log_row(parent, rows[0], figures=FIGURES)
    assert tracker.logged(parent, rows) == {}
    runs = {tracker.log_row(parent, row, figures=FIGURES) for row in rows}
    assert len(runs) == len(children(tracker, parent)) == 2
    assert tracker.logged(parent, rows).keys() == {"same"}


def test_what_is_not_finite_is_a_flag(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    run_id = tracker.log_row(parent, make_row(**{"loss/wiki": float("inf")}), figures=FIGURES)
    metrics = tracker.client.get_run(run_id).data.metrics
    assert metrics["diverged"] == 1.0
    assert "loss/wiki" not in metrics


def curves_of(tracker: Tracker, parent: str) -> dict[str, Any]:
    return {
        run.info.run_name: (
            run.info.run_id,
            {name: history(tracker, run.info.run_id, name) for name in run.data.metrics},
        )
        for run in children(tracker, parent, kind="curve")
    }


def test_curves_draw_perplexity_against_sparsity(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    rows = [
        make_row("dense", "", sparsity=0.0),
        make_row(target="0.25", **{"loss/wiki": 22.0}),
        make_row(target="0.5"),
        make_row(target="2:4", **{"loss/wiki": 40.0}),
        make_row(target="4:8", **{"loss/wiki": 35.0}),
        make_row("magnitude", **{"loss/wiki": float("inf")}),
        make_row("sparsegpt", status="failed", sparsity=None),
        make_row("ast", **{"drift/wiki": 0.3, "accuracy": 0.5}),
        make_row("dense", "", seed=None, sparsity=0.0, accuracy=0.75, **{"loss/wiki": 20.5}),
    ]
    tracker.log_curves(parent, rows, FIGURES)
    curves = curves_of(tracker, parent)
    tracker.log_curves(parent, rows, FIGURES)
    assert curves_of(tracker, parent) == curves

    drawn = {
        name: [point[:2] for point in points.get("loss/wiki", [])]
        for name, (_, points) in curves.items()
    }
    assert drawn == {
        "wanda unstructured curve · tiny · seed 0": [(0, 20.5), (250, 22.0), (500, 30.25)],
        "wanda n:4 curve · tiny · seed 0": [(0, 20.5), (500, 40.0)],
        "wanda n:8 curve · tiny · seed 0": [(0, 20.5), (500, 35.0)],
        "magnitude unstructured curve · tiny · seed 0": [(0, 20.5)],
        "ast unstructured curve · tiny · seed 0": [(0, 20.5), (500, 30.25)],
    }
    _, magnitude = curves["magnitude unstructured curve · tiny · seed 0"]
    assert [point[:2] for point in magnitude["diverged"]] == [(500, 1.0)]
    _, others = curves["ast unstructured curve · tiny · seed 0"]
    assert [point[:2] for point in others["drift/wiki"]] == [(0, 0.0), (500, 0.3)]
    assert [point[:2] for point in others["accuracy"]] == [(0, 0.75), (500, 0.5)]
    assert "parameters" not in others


@pytest.mark.parametrize(
    ("dense", "zeros", "steps"),
    [
        (0.0, (0.5, 0.504, 0.995, 0.999), (0, 500, 504, 995, 999)),
        (None, (0.9995, 0.9999, 0.99992), (0, 1000, 1001, 1002)),
        (0.5, (0.5, 0.5, 0.5), (500, 501, 502, 503)),
        (0.0, (0.00012, 0.5), (0, 1, 500)),
    ],
)
def test_a_curve_has_one_value_a_step(
    dense: float | None, zeros: tuple[float, ...], steps: tuple[int, ...]
) -> None:
    cells = [
        make_row(target=f"0.{n}", sparsity=share, **{"loss/wiki": 30.0 + n})
        for n, share in enumerate(zeros)
    ]
    rows = [make_row("dense", "", seed=None, sparsity=dense, **{"loss/wiki": 20.5}), *cells]
    (curve,) = points_of(rows[::-1], FIGURES).values()
    assert curve["loss/wiki"] == list(zip(steps, (20.5, 30.0, 31.0, 32.0, 33.0), strict=False))
    assert curve["sparsity"] == list(zip(steps, (dense or 0.0, *zeros), strict=True))


def test_a_curve_grows_with_its_sweep_and_drops_what_was_corrected(tracker: Tracker) -> None:
    name = "wanda unstructured curve · tiny · seed 0"
    parent = tracker.begin_sweep(identity())
    tracker.log_curves(parent, [make_row(target="0.25")], FIGURES)
    first, _ = curves_of(tracker, parent)[name]
    tracker.log_curves(parent, [make_row(target="0.25"), make_row(target="0.5")], FIGURES)
    grown, points = curves_of(tracker, parent)[name]
    assert grown == first
    assert [point[0] for point in points["loss/wiki"]] == [0, 250, 500]

    tracker.log_curves(parent, [make_row(target="0.25", **{"loss/wiki": 21.0})], FIGURES)
    ((_, points),) = curves_of(tracker, parent).values()
    assert [point[:2] for point in points["loss/wiki"]] == [(0, 20.5), (250, 21.0)]
    assert tracker.logged(parent) == {}


def test_a_history_of_many_steps_is_logged_once(tracker: Tracker) -> None:
    parent = tracker.begin_sweep(identity())
    run_id = tracker.log_row(parent, make_row("ast"), figures=FIGURES)
    steps = [(step, {"loss": 1 / (1 + step), "mask_change": step / 7}) for step in range(700)]
    tracker.log_history(run_id, steps[:300])
    tracker.log_history(run_id, steps)
    tracker.log_history(run_id, steps)
    points = history(tracker, run_id, "loss")
    assert [point[:2] for point in points] == [(step, 1 / (1 + step)) for step in range(700)]


def test_a_finished_sweep_holds_report_and_summary(tracker: Tracker, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    for name in ("report.md", "results.csv", "plots/quality.png", "plots/notes.txt"):
        (tmp_path / name).write_text(name)
    parent = tracker.begin_sweep(identity())
    best = {"loss/wiki": 22.0, "accuracy": 0.5}
    rows = [make_row("dense", ""), make_row(accuracy=0.25), make_row(target="0.25", **best)]
    failed = make_row("magnitude", status="failed")
    across = {"rank correlation": 0.5, "of": "two seeds", "none": None}
    tracker.finish_sweep(
        parent, [*rows, failed], FIGURES, tmp_path, "PartiallyCompleted", across=across
    )
    run = tracker.client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "PartiallyCompleted"
    assert run.data.metrics == {
        "cells_completed": 2, "cells_failed": 1, "cells_skipped": 0,
        "loss/wiki/wanda/0.5": 30.25, "accuracy/wanda/0.5": 0.25,
        "loss/wiki/wanda/0.25": 22.0, "accuracy/wanda/0.25": 0.5, "rank correlation": 0.5,
    }  # fmt: skip
    paths = [entry.path for entry in tracker.client.list_artifacts(parent)]
    assert paths == ["config.yaml", "plots", "report.md", "results.csv"]
    assert [entry.path for entry in tracker.client.list_artifacts(parent, "plots")] == [
        "plots/quality.png"
    ]
    tracker.finish_sweep(parent, [failed], FIGURES, tmp_path, "Failed")
    run = tracker.client.get_run(parent)
    assert run.info.status == "FAILED"
    assert run.data.metrics["cells_completed"] == 0


def test_a_sweep_is_closed_only_with_the_report_that_it_holds(
    tracker: Tracker, tmp_path: Path
) -> None:
    """A run that was cut off before its end left the mark of the one before it."""
    report = tmp_path / "report.md"
    report.write_text("one of two cells")
    parent = tracker.begin_sweep(identity())
    assert not tracker.close_sweep(parent, tmp_path)
    tracker.finish_sweep(parent, [make_row()], FIGURES, tmp_path, "partial")
    tracker.begin_sweep(identity())
    assert tracker.close_sweep(parent, tmp_path)
    report.write_text("both cells")
    assert not tracker.close_sweep(parent, tmp_path)


def test_a_summary_tells_means_over_seeds_and_none_of_the_lucky_ones() -> None:
    def cells(method: str, target: str, *losses: float, **others: Any) -> list[dict]:
        return [
            make_row(method, target, seed, **{"loss/wiki": loss, **others})
            for seed, loss in enumerate(losses)
        ]

    rows = [
        make_row("dense", "", None),
        *cells("wanda", "0.5", 30.0, 40.0),
        *cells("wanda", "2:4", 50.0, 70.0),
        *cells("ast", "2:4", 9.0, math.inf),
        *cells("ast", "0.5", 9.0),
        make_row("ast", "0.5", 1, status="failed"),
    ]
    means = {"loss/wiki/wanda/0.5": 35.0, "loss/wiki/wanda/2_4": 60.0}
    told = summary_of(rows, FIGURES)
    assert {name: told[name] for name in told if not name.startswith("cells_")} == means
    other = [row | {"model": "org/other", "loss/wiki": 1.0} for row in rows]
    told = summary_of([*rows, *other], FIGURES)
    assert (told["loss/wiki/tiny/wanda/2_4"], told["loss/wiki/other/wanda/2_4"]) == (60.0, 1.0)


def saved_states(tracker: Tracker) -> dict[str, dict[str, Any]]:
    return unpacked(tracker.client.get_experiment(tracker.experiment_id).tags)


def unpacked(tags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Title → state of saved views, as the dashboard unpacks them."""
    states = {}
    for key, value in tags.items():
        if key.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            packed = base64.b64decode(view["state"].removeprefix("deflate;"))
            states[view["name"]] = json.loads(zlib.decompress(packed))
    return states


def test_a_finished_sweep_saves_its_views(tracker: Tracker, tmp_path: Path) -> None:
    rows = [make_row("dense", "", seed=None, sparsity=0.0), make_row(), make_row("magnitude")]
    for fingerprint in ("e" * 64, "f" * 64):  # the sweep grew: the views show the latest
        parent = tracker.begin_sweep(identity(fingerprint))
        for row in rows:
            tracker.log_row(parent, row, figures=FIGURES)
        tracker.log_curves(parent, rows, FIGURES)
        tracker.finish_sweep(parent, rows, FIGURES, tmp_path, "Completed")
    views = saved_states(tracker)
    assert views.keys() == {"demo: cells", "demo: quality against sparsity"}
    search = {
        title: tracker.client.search_runs([tracker.experiment_id], view["searchFilter"])
        for title, view in views.items()
    }
    assert {run.info.run_name for run in search["demo: cells"]} == {
        "dense · tiny", "wanda 0.5 · tiny · seed 0", "magnitude 0.5 · tiny · seed 0"
    }  # fmt: skip
    assert len(search["demo: cells"]) == 3
    assert {run.info.run_name for run in search["demo: quality against sparsity"]} == {
        "wanda unstructured curve · tiny · seed 0", "magnitude unstructured curve · tiny · seed 0"
    }  # fmt: skip
    # Every column that is shown is filled in every cell.
    for run in search["demo: cells"]:
        filled = {f"params.`{name}`" for name in run.data.params}
        filled |= {f"metrics.`{name}`" for name in run.data.metrics}
        missing = set(views["demo: cells"]["selectedColumns"]) - filled
        dense = {"params.`target`", "params.`seed`"}
        assert missing == (dense if run.info.run_name == "dense · tiny" else set())
    (chart,) = [
        chart
        for chart in views["demo: quality against sparsity"]["compareRunCharts"]
        if not chart["deleted"]
    ]
    assert chart["metricKey"] == "loss/wiki"
    assert chart["selectedXAxisMetricKey"] == "sparsity"
    assert all(len(value) <= 5000 for value in views_as_stored(tracker))


def test_a_curve_s_axis_is_the_figure_s_own_or_as_its_values_demand() -> None:
    far = {"drift/wiki": 0.001, "spread": 1.0, "accuracy": 0.001}
    rows = [make_row(**far), make_row(target="0.7", **{name: 40 * far[name] for name in far})]
    figures = [*FIGURES, figure("spread", role="quality")]
    views = unpacked(saved_views("demo", "f" * 64, rows, figures, 0))
    charts = views["demo: quality against sparsity"]["compareRunCharts"]
    assert {c["metricKey"]: c["scaleType"] for c in charts if c["type"] == "LINE"} == {
        "loss/wiki": "log",
        "drift/wiki": "linear",  # the dense model's zero has no place on a logarithmic axis
        "accuracy": "linear",
        "spread": "log",
    }


def views_as_stored(tracker: Tracker) -> list[str]:
    return list(tracker.client.get_experiment(tracker.experiment_id).tags.values())


def test_descriptions_link_to_the_views_and_respect_the_users_own(
    tracker: Tracker, tmp_path: Path
) -> None:
    parent = tracker.begin_sweep(identity())
    tracker.finish_sweep(parent, [make_row()], FIGURES, tmp_path, "Completed")
    note = "mlflow.note.content"
    own = tracker.client.get_experiment(tracker.experiment_id).tags[note]
    run = tracker.client.get_run(parent).data.tags[note]
    for kind in ("cells", "curves"):
        link = tracker.view_url("http://host", kind, "demo").removeprefix("http://host/")
        assert f"({link})" in own
        assert f"({link})" in run
    tracker.client.set_experiment_tag(tracker.experiment_id, note, "mine")
    tracker.finish_sweep(parent, [make_row()], FIGURES, tmp_path, "Completed")
    assert tracker.client.get_experiment(tracker.experiment_id).tags[note] == "mine"


def test_an_experiment_of_many_sweeps_names_the_latest(tracker: Tracker, tmp_path: Path) -> None:
    for made_at in range(60):
        views = saved_views(f"night {made_at}", "f" * 64, [make_row()], FIGURES, made_at)
        for key, view in views.items():
            tracker.client.set_experiment_tag(tracker.experiment_id, key, view)
    parent = tracker.begin_sweep(identity())
    tracker.finish_sweep(parent, [make_row()], FIGURES, tmp_path, "Completed")
    assert tracker.client.get_run(parent).info.status == "FINISHED"
    note = tracker.client.get_experiment(tracker.experiment_id).tags["mlflow.note.content"]
    listed = [line for line in note.splitlines() if line.startswith("- ")]
    assert len(note) <= TAG_LIMIT
    assert [line.partition(":")[0] for line in listed[:2]] == ["- demo", "- night 59"]
    assert listed[-1] == f"- and {61 - len(listed) + 1} earlier ones"


def test_dashboard_addresses(tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.begin_sweep(identity())
    tracker.finish_sweep(parent, [make_row()], FIGURES, tmp_path, "Completed")
    address = tracker.view_url("http://me:word@host:5000/", "curves", "demo")
    assert address.startswith(f"http://host:5000/#/experiments/{tracker.experiment_id}/runs?")
    chosen = urllib.parse.parse_qs(address.partition("?")[2])
    assert chosen["compareRunsMode"] == ["CHART"]
    tags = tracker.client.get_experiment(tracker.experiment_id).tags
    assert f"mlflow.sharedViewState.{chosen['viewStateShareKey'][0]}" in tags


def test_a_refusal_is_raised_as_it_is(tracker: Tracker) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"):
        tracker.log_history("0" * 32, [(0, {"loss": 1.0})])


TWO_AT_ONCE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/tracking")
from test_tracking import FIGURES, identity, make_row
from tasks.tracking import InputRecord, connect

tracker = connect(None, Path(sys.argv[1]), "shared")
parent = tracker.begin_sweep(identity())
rows = [make_row(seed=seed) for seed in range(4)]
record = InputRecord(name="wiki", digest="a" * 64, source="files", context="evaluation")
for row in rows:
    tracker.log_row(parent, row, figures=FIGURES, inputs=[record])
tracker.log_curves(parent, rows, FIGURES)
print(parent)
"""


@pytest.mark.slow
def test_two_processes_on_a_fresh_home_make_each_run_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_AT_ONCE, str(tmp_path)]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    # Not a word on either stream but the script's own.
    assert [(error, code) for _, error, code in ended] == [("", 0), ("", 0)]
    (parent,) = {output.strip() for output, _, _ in ended}
    tracker = connect(None, tmp_path, "shared")
    assert len(tracker._runs({"secateur.kind": "sweep"})) == 1
    runs = children(tracker, parent)
    counts = Counter(run.info.run_name for run in runs)
    assert len(counts) == 8
    assert set(counts.values()) == {1}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children(tracker, parent, kind="cell"):
        assert len(history(tracker, run.info.run_id, "loss/wiki")) == 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.timeout(100)  # MLflow's own retries would take longer
def test_nothing_listens(tmp_path: Path) -> None:
    address = f"http://me:secret@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingUnavailableError, match="refused") as caught:
        connect(address, tmp_path, "x")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


@pytest.mark.timeout(100)  # MLflow's own retries would take longer
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_accepts_and_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with pytest.raises(TrackingUnavailableError, match="timed out"):
            connect(None, tmp_path, "x")


def test_a_database_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrackingUnavailableError, match="refused") as caught:
        connect(f"postgresql://me:secret@127.0.0.1:{free_port()}/mlflow", tmp_path, "x")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(TrackingUnavailableError, match=r"not a database; move .*mlflow.db away"):
        connect(None, tmp_path, "x")


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """``mlflow server`` on the home's database, as anyone would start it, elsewhere."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
        "--artifacts-destination", str(home / "mlartifacts"),
    ]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | quiet, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 400
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "server.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.3)
            yield f"http://127.0.0.1:{port}", process, tmp_path
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@pytest.mark.slow
def test_a_server_on_the_same_home(
    tracker: Tracker,
    home: Path,
    server: tuple[str, subprocess.Popen[bytes], Path],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    address, process, folder = server
    # What was logged without a server is visible in it, artifacts included.
    earlier = tracker.begin_sweep(identity())
    query = f"get-artifact?path=config.yaml&run_uuid={earlier}"
    with urllib.request.urlopen(f"{address}/{query}", timeout=20) as answer:
        assert answer.read() == b"name: demo\n"

    # The same calls work through the server, and credentials stay out of sight.
    remote = connect(address.replace("//", "//me:secret@"), home, "through the server")
    assert remote.uri == address
    rows = [make_row(), make_row(target="0.25", **{"loss/wiki": float("inf")})]
    (folder / "layers.json").write_text("{}")
    record = InputRecord(name="wiki", digest="a" * 64, source="files", context="evaluation")
    parent = remote.begin_sweep(identity())
    for _ in range(2):
        for row in rows:
            remote.log_row(
                parent,
                row,
                figures=FIGURES,
                inputs=[record],
                files={"a/b.json": folder / "layers.json"},
            )
        remote.log_curves(parent, rows, FIGURES)
    remote.finish_sweep(parent, rows, FIGURES, folder, "Completed")
    assert len(children(remote, parent)) == 3
    assert remote.logged(parent).keys() == {row["fingerprint"] for row in rows}
    (curve,) = children(remote, parent, kind="curve")
    assert len(history(remote, curve.info.run_id, "sparsity")) == 3
    assert "View run" not in capfd.readouterr().out

    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    with pytest.raises(TrackingUnavailableError) as caught:
        remote.logged(parent)
    assert "secret" not in str(caught.value) + str(caught.value.__cause__) + caplog.text

    # And without the server again: the artifacts land where it had put them.
    local = connect(None, home, "through the server")
    run_id = local.logged(parent)[rows[0]["fingerprint"]]
    assert run_id == local.log_row(
        parent, rows[0], figures=FIGURES, files={"a/c.json": folder / "layers.json"}
    )
    assert local.logged(parent).keys() == {row["fingerprint"] for row in rows}
    place = home / "mlartifacts" / local.experiment_id / run_id / "artifacts" / "a"
    assert {path.name for path in place.iterdir()} == {"b.json", "c.json"}
