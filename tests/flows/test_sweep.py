"""Whole sweeps through the command line: real server, real tracking, real kills."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import CELLS, DIVERGING, Home, figures, kill_group
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.compute.devices import devices
from tasks.data.windows import load_windows
from tasks.models.architecture.decoder import describe

pytestmark = pytest.mark.slow


def test_prints_the_table_and_says_where_things_are(finished: Home) -> None:
    output = (finished.path.parent / "output.txt").read_text()
    for part in ("dense", "magnitude", "wanda", "swiftprune", "report.md", "plots", "mlflow"):
        assert part in output
    # In the table: steps that take no time have no line above it.
    assert output.index("\n dense ") < output.index("\n magnitude ")
    assert "whole sweep" in output
    assert "Finished in state" not in output, "Prefect's log belongs in the log file"


def test_writes_results_report_plots_and_config(finished: Home) -> None:
    folder = finished.path / "sweeps" / "demo"
    rows = finished.rows()
    assert [row["method"] for row in rows].count("dense") == 1
    assert len(rows) == 1 + CELLS
    assert {row["status"] for row in rows} == {"completed"}
    for row in rows[1:]:
        assert row["sparsity"] == pytest.approx(0.5, abs=0.005)
        assert row["perplexity/docs"] > 1
        assert row["peak_memory_bytes"] > 1e6
        assert Path(row["checkpoint"], "model.safetensors").exists()
        assert row["mlflow_run_id"]
        assert row["parameters"] > row["nonzero_parameters"]
    with (folder / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    text = (folder / "report.md").read_text()
    plots = sorted((folder / "plots").glob("*.png"))
    assert {"perplexity-vs-sparsity", "perplexity-vs-prune"} <= {plot.stem for plot in plots}
    assert all(f"plots/{plot.name}" in text for plot in plots)
    config = (folder / "config.yaml").read_text()
    assert "dtype: float32" in config
    assert "tiny-random" in config


def test_the_second_run_computes_nothing(finished: Home) -> None:
    artifacts = {path: path.stat().st_mtime_ns for path in finished.path.glob("artifacts/*/*/*")}
    before = finished.rows()
    logged = finished.mlflow("select max(timestamp) from metrics")
    records = finished.prefect("select count(*) from task_run where name like 'record%'")
    report = (finished.path / "sweeps" / "demo" / "report.md").read_bytes()
    status, output = finished.run("run", "sweep.yaml")
    assert status == 0
    assert output.count("kept") == CELLS
    assert artifacts == {
        path: path.stat().st_mtime_ns for path in finished.path.glob("artifacts/*/*/*")
    }
    assert finished.rows() == before
    assert (finished.path / "sweeps" / "demo" / "report.md").read_bytes() == report
    assert sorted(finished.logged_cells()) == sorted(row["fingerprint"] for row in before)
    assert finished.prefect("select count(*) from task_run where name like 'record%'") == records
    assert finished.mlflow("select max(timestamp) from metrics") == logged
    cached = finished.prefect("select count(*) from task_run where state_name = 'Cached'")[0][0]
    assert cached >= CELLS


def test_prefect_shows_flows_tasks_and_artifacts(finished: Home) -> None:
    names = {row[0] for row in finished.prefect("select name from flow_run")}
    assert {"demo", "wanda 2:4 · tiny-random · seed 0"} <= names
    states = dict(finished.prefect("select state_name, count(*) from task_run group by 1"))
    assert set(states) <= {"Completed", "Cached"}, states
    assert finished.prefect("select distinct state_name from flow_run") == [("Completed",)]
    # A slot is asked for and renewed for each tag of a task, half a second a task.
    query = (
        "select distinct tags from task_run where id not in"
        " (select parent_task_run_id from flow_run where parent_task_run_id is not null)"
    )
    assert finished.prefect(query) == [("[]",)]
    assert finished.prefect("select distinct tags from flow_run") == [('["secateur"]',)]
    kinds = {row[0] for row in finished.prefect("select distinct type from artifact")}
    assert {"progress", "table", "image", "markdown"} <= kinds


def test_mlflow_has_parent_cells_curves_inputs_and_files(finished: Home) -> None:
    kinds = dict(
        finished.mlflow(
            "select value, count(*) from tags where key = 'secateur.kind' group by value"
        )
    )
    assert kinds["sweep"] == 1
    assert kinds["cell"] == CELLS
    assert kinds["dense"] == 1
    assert kinds["curve"] == 6  # 3 methods, fractions and keep:group apart
    params = {row[0] for row in finished.mlflow("select distinct key from params")}
    assert {"model", "method", "target", "seed", "dtype", "pruning/options/tokens"} <= params
    metrics = {row[0] for row in finished.mlflow("select distinct key from metrics")}
    assert {"perplexity/docs", "sparsity", "prune_seconds"} <= metrics
    contexts = {row[0] for row in finished.mlflow("select distinct value from input_tags")}
    assert {"model", "calibration", "evaluation"} <= contexts
    files = {path.name for path in (finished.path / "mlartifacts").rglob("*") if path.is_file()}
    assert {"config.yaml", "report.md", "results.csv"} <= files
    assert any(name.endswith(".png") for name in files)


def test_stock_transformers_loads_a_checkpoint_with_the_same_perplexity(finished: Home) -> None:
    windows = {}
    for path in (finished.path / "artifacts" / "tokens").glob("*/windows.safetensors"):
        inputs = json.loads((path.parent / "manifest.json").read_text())["inputs"]
        windows[path] = (inputs["corpus"], load_windows(path))
    calibration = (finished.path / "sweeps" / "demo" / "report.md").read_text()
    for row in finished.rows()[1:]:
        model = AutoModelForCausalLM.from_pretrained(row["checkpoint"]).eval()
        assert AutoTokenizer.from_pretrained(row["checkpoint"])("ab").input_ids
        candidates = []
        for _, tokens in windows.values():
            with torch.no_grad():
                logits = model(input_ids=tokens.long()).logits.double()
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten().long()
            )
            candidates.append(float(losses.exp()))
        assert any(value == pytest.approx(row["perplexity/docs"], rel=1e-5) for value in candidates)
    assert "What was used" in calibration


def test_a_pruned_model_is_written_as_a_folder_of_its_own(finished: Home, tmp_path: Path) -> None:
    to = tmp_path / "out"
    status, said = finished.run("export", "demo", "--method=wanda", "--target=2:4", f"--to={to}")
    assert status == 0, said
    [row] = [r for r in finished.rows() if (r["method"], r["target"]) == ("wanda", "2:4")]
    model = AutoModelForCausalLM.from_pretrained(to)
    layers = describe(model).layers().values()
    zeros = sum(int((layer.stored == 0).sum()) for layer in layers)
    assert zeros / sum(layer.stored.numel() for layer in layers) == pytest.approx(row["sparsity"])


def test_two_fresh_homes_give_the_same_figures(
    finished: Home, make_home: Callable[..., Home]
) -> None:
    other = make_home()
    status, output = other.run("run", "sweep.yaml")
    assert status == 0, output
    assert figures(other.rows()) == figures(finished.rows())


def test_a_failing_cell_fails_alone(make_home: Callable[..., Home]) -> None:
    home = make_home(embedded=True)
    status, output = home.run("run", "sweep.yaml", *DIVERGING, "--set", "methods=[wanda, ast]")
    assert status == 1, output
    rows = {(row["method"], row["target"]): row for row in home.rows()}
    assert rows["wanda", "0.5"]["status"] == rows["wanda", "2:4"]["status"] == "completed"
    assert rows["ast", "0.5"]["status"] == "skipped"
    assert rows["ast", "2:4"]["status"] == "failed"
    assert "gradients are not finite" in rows["ast", "2:4"]["error"]
    assert "gradients are not finite" in output
    report = (home.path / "sweeps" / "demo" / "report.md").read_text()
    assert "gradients are not finite" in report
    assert home.prefect("select state_name from flow_run where name = 'demo'") == [
        ("PartiallyCompleted",)
    ]
    assert len(home.logged_cells()) == 4  # dense, two completed, one failed


def test_an_unreachable_tracking_server_delays_and_loses_nothing(
    make_home: Callable[..., Home], finished: Home
) -> None:
    home = make_home()
    asked: list[socket.socket] = []

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                asked.append(server.accept()[0])  # and never answer

    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        threading.Thread(target=accept, args=(silent,), daemon=True).start()
        status, output = home.run("run", "sweep.yaml", MLFLOW_TRACKING_URI=uri)
    assert status == 0, output
    assert "run the same command again" in output
    processes = 1 if len(devices()) < 2 else 1 + CELLS  # with several devices, one a cell
    assert len(asked) <= processes + 1, "each process waits for it once, the sweep at its end too"
    assert figures(home.rows()) == figures(finished.rows())
    assert not any(row["mlflow_run_id"] for row in home.rows())
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert len(home.logged_cells()) == 1 + CELLS
    assert all(row["mlflow_run_id"] for row in home.rows())


def test_a_damaged_artifact_is_noticed_and_computed_again(
    finished: Home, make_home: Callable[..., Home]
) -> None:
    home = make_home()
    shutil.copytree(finished.path, home.path, dirs_exist_ok=True)
    wanted = figures(home.rows())
    checkpoint = next((home.path / "artifacts" / "checkpoint").glob("*/model.safetensors"))
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 1
    checkpoint.write_bytes(content[:-8])
    evaluated = next((home.path / "artifacts" / "perplexity").glob("*"))
    (evaluated / "manifest.json").write_text("{")
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert output.count("is damaged") >= 2
    assert figures(home.rows()) == wanted


def test_two_processes_run_the_same_sweep_together(
    make_home: Callable[..., Home], finished: Home
) -> None:
    home = make_home(embedded=True)
    processes = [home.start("run", "sweep.yaml") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert figures(home.rows()) == figures(finished.rows())
    assert len(home.logged_cells()) == len(set(home.logged_cells())) == 1 + CELLS
    assert not list((home.path / "tmp").iterdir())


@pytest.mark.cluster
def test_killed_at_random_moments_it_ends_as_if_uninterrupted(
    make_home: Callable[..., Home], finished: Home
) -> None:
    """Three kills here; tests/benchmarks/kills.py does ten on real weights."""
    home = make_home(embedded=True)
    moments = random.Random(0)
    for _ in range(3):
        process = home.start("run", "sweep.yaml")
        time.sleep(moments.uniform(4, 14))
        kill_group(process)
    home.wait_for_no_server()
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert figures(home.rows()) == figures(finished.rows())
    assert len(home.logged_cells()) == len(set(home.logged_cells())) == 1 + CELLS
    home.wait_for_no_server()
    assert home.run("gc")[0] == 0
    assert not list((home.path / "tmp").glob("*"))


def test_gc_keeps_what_a_sweep_needs_and_drops_the_rest(
    finished: Home, make_home: Callable[..., Home]
) -> None:
    home = make_home()
    shutil.copytree(finished.path, home.path, dirs_exist_ok=True)
    before = {path.name for path in home.path.glob("artifacts/*/*")}
    (home.path / "tmp" / f"{'0' * 64}.dead").mkdir(parents=True)
    status, output = home.run("gc")
    assert status == 0
    assert "removed 1 folders" in output
    assert {path.name for path in home.path.glob("artifacts/*/*")} == before
    shutil.rmtree(home.path / "sweeps" / "demo")
    status, output = home.run("gc", "--dry-run")
    assert "would remove" in output
    assert {path.name for path in home.path.glob("artifacts/*/*")} == before
    assert home.run("gc")[0] == 0
    assert not list(home.path.glob("artifacts/*/*"))
    assert not list((home.path / "tmp").glob("*"))


def test_the_report_can_be_written_again(finished: Home, make_home: Callable[..., Home]) -> None:
    home = make_home()
    shutil.copytree(finished.path, home.path, dirs_exist_ok=True)
    wanted = home.rows()
    folder = home.path / "sweeps" / "demo"
    for name in ("results.csv", "report.md"):
        (folder / name).unlink()
    status, output = home.run("report", "demo")
    assert status == 0, output
    assert (folder / "report.md").exists()
    assert figures(home.rows()) == figures(wanted)
    assert [row["mlflow_run_id"] for row in home.rows()] == [r["mlflow_run_id"] for r in wanted]


def test_a_report_that_would_lose_figures_is_not_written(
    finished: Home, make_home: Callable[..., Home]
) -> None:
    home = make_home()
    shutil.copytree(finished.path, home.path, dirs_exist_ok=True)
    folder = home.path / "sweeps" / "demo"
    (folder / "plots" / "mine.png").write_bytes(b"mine")
    (folder / "plots" / "formerly.png").write_bytes(b"the sweep's")
    with (folder / "report.md").open("a") as report:
        report.write("![formerly](plots/formerly.png)")
    assert home.run("report", "demo")[0] == 0
    assert (folder / "plots" / "mine.png").exists()
    assert not (folder / "plots" / "formerly.png").exists()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(next((home.path / "artifacts" / "perplexity").iterdir()))
    status, output = home.run("report", "demo")
    assert (status, "no longer holds" in output) == (2, True), output
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_sweep_of_the_name_is_told(finished: Home, make_home: Callable[..., Home]) -> None:
    home = make_home()
    shutil.copytree(finished.path, home.path, dirs_exist_ok=True)
    status, output = home.run("run", "sweep.yaml", "--set", "targets=[0.25]")
    assert status == 0, output
    assert re.search(r"demo has \d+ measured rows that this sweep has not", output)
    assert (
        "that this sweep has not" not in home.run("run", "sweep.yaml", "--set", "targets=[0.25]")[1]
    )


def test_plan_computes_nothing_and_knows_what_is_cached(
    finished: Home, make_home: Callable[..., Home]
) -> None:
    status, output = finished.run("plan", "sweep.yaml")
    assert status == 0, output
    assert "0 to compute" in output
    fresh = make_home()
    status, output = fresh.run("plan", "sweep.yaml", "--set", "seeds=[0, 1]")
    assert status == 0, output
    assert "12 cells" in output
    assert "shared with seed 0" in output
    assert not list(fresh.path.glob("artifacts/*"))


def test_without_checkpoints_only_the_figures_stay(make_home: Callable[..., Home]) -> None:
    home = make_home()
    arguments = ("run", "sweep.yaml", "--set", "save_checkpoints=false", "--set", "targets=[0.5]")
    assert home.run(*arguments)[0] == 0
    assert not list((home.path / "artifacts" / "checkpoint").glob("*"))
    assert all(row["checkpoint"] == "" for row in home.rows())
    status, output = home.run(*arguments)
    assert status == 0
    assert output.count("kept") == 3
