"""Cells in a work pool: real workers with checkouts of their own, one kill, one cancel."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cluster import Cluster, free_port, kill_tree
from conftest import DIVERGING, Home, figures

from flows.compute.devices import SLOTS

pytestmark = pytest.mark.slow
WAITING = Path(__file__).parents[1] / "waiting_method.py"
SWEEP = """
name: pooled
models: [tiny-random]
dtype: float32
methods: [magnitude]
targets: ["0.3", "0.5", "2:4"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: files, files: [text.txt]}, sequence_length: 64, windows: 2}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Prefect server with a pool, and MLflow's file in the shared home."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), methods=(WAITING,))
    try:
        made.serve_prefect()
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: made.prefect_url}),
            get_client(sync_client=True) as client,
        ):
            client.create_work_pool(WorkPoolCreate(name="cells", type="process"))
        yield made
    finally:
        made.close()


def sweep_file(cluster: Cluster) -> Path:
    sender = cluster.machine("sender")
    (sender / "text.txt").write_text("only the sender has this text; " * 200)
    (sender / "pooled.yaml").write_text(SWEEP)
    return sender / "pooled.yaml"


def test_a_pool_that_cannot_be_used_is_a_mistake_that_names_what_to_do(cluster: Cluster) -> None:
    run = ("flows.cli", "run", str(sweep_file(cluster)), "--work-pool")
    for pool, changes, parts in [
        ("nowhere", {}, ["--work-pool", "'nowhere'", "cells", "work-pool create nowhere"]),
        ("cells", {"PREFECT_API_URL": ""}, ["--work-pool", "set PREFECT_API_URL"]),
        (
            "cells",
            {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"},
            ["PREFECT_API_URL", "no Prefect server answers"],
        ),
    ]:
        status, output = cluster.run("sender", *run, pool, **changes)
        said = " ".join(output.split())
        assert status == 2, output
        assert all(part in said for part in parts), output
    assert not (cluster.home / "artifacts").exists(), "nothing was to be computed"


def test_two_workers_compute_what_one_process_would_without_the_texts(
    cluster: Cluster, make_home: Callable[..., Home]
) -> None:
    path = sweep_file(cluster)
    workers = [cluster.worker(f"worker-{index}", "cells") for index in (1, 2)]
    # The same folder, mounted elsewhere.
    (cluster.folder / "mounted").symlink_to(cluster.home)
    elsewhere = cluster.worker("worker-3", "cells", SECATEUR_HOME=str(cluster.folder / "mounted"))
    status, output = cluster.run("sender", "flows.cli", "run", str(path), "--work-pool", "cells")
    for worker in [*workers, elsewhere]:
        kill_tree(worker.pid)
    assert status == 0, output + cluster.log("worker-1", "flows.serve.worker")
    pooled = Home(cluster.home)
    alone = make_home()
    assert alone.run("run", str(path))[0] == 0
    assert figures(pooled.rows("pooled")) == figures(alone.rows("pooled"))
    assert all(row["mlflow_run_id"] for row in pooled.rows("pooled"))
    logged = pooled.logged_cells()
    assert sorted(logged) == sorted(row["fingerprint"] for row in pooled.rows("pooled"))
    taken = [
        cluster.log(f"worker-{index}", "flows.serve.worker").count("submitted to")
        for index in (1, 2, 3)
    ]
    assert sum(taken) == 3


@pytest.mark.cluster
def test_ctrl_c_ends_the_cells_on_every_machine(cluster: Cluster) -> None:
    path = sweep_file(cluster)
    worker = cluster.worker("worker-4", "cells")
    sweep = cluster.start(
        "sender", "flows.cli", "run", str(path), "--work-pool", "cells", "--set", "name=stopped",
        "--set", "methods=[waiting]", "--set", "options.waiting.seconds=30",
    )  # fmt: skip
    until(cluster.running_cells, 400)
    assert cluster.cells("worker-4")
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(150) == 130, cluster.log("sender")
    assert "interrupted" in cluster.log("sender")
    until(lambda: not cluster.cells("worker-4"), 20)
    assert worker.poll() is None, "the worker waits for other work"
    kill_tree(worker.pid)
    logged = Home(cluster.home).mlflow(
        "select status from runs where name = 'stopped' order by start_time desc"
    )
    assert logged == [("KILLED",)]


@pytest.mark.cluster
def test_a_killed_workers_cell_is_taken_up_again_by_another(cluster: Cluster) -> None:
    path = sweep_file(cluster)
    worker = cluster.worker("worker-5", "cells")
    sweep = cluster.start(
        "sender", "flows.cli", "run", str(path), "--work-pool", "cells", "--set", "name=killed",
        "--set", "methods=[waiting]", "--set", "targets=[0.5]",
        "--set", "options.waiting.seconds=1",
    )  # fmt: skip
    until(cluster.running_cells, 400)
    kill_tree(worker.pid)
    cluster.worker("worker-6", "cells")
    assert sweep.wait(500) == 0, cluster.log("sender")
    names = [run["name"] for run in cluster.runs() if "sweep:killed" in run["tags"]]
    assert len(names) == 2
    assert "attempt 2" in names[-1]
    with httpx.Client(base_url=cluster.prefect_url) as client:
        watching = client.post("/automations/filter", json={}).json()
    assert len(watching) == 1, "each sweep asks for it, and it is made once"


@pytest.mark.cluster
def test_cells_end_with_a_sweep_that_was_killed(cluster: Cluster) -> None:
    """Nobody cancels them: they ask themselves what has become of it."""
    path = sweep_file(cluster)
    cluster.worker("worker-7", "cells")
    sweep = cluster.start(
        "sender", "flows.cli", "run", str(path), "--work-pool", "cells", "--set", "name=orphaned",
        "--set", "methods=[waiting]", "--set", "options.waiting.seconds=60",
    )  # fmt: skip
    until(cluster.running_cells, 400)
    kill_tree(sweep.pid)
    until(lambda: not cluster.cells("worker-7"), 240)
    states = {run["state_type"] for run in cluster.runs() if "sweep:orphaned" in run["tags"]}
    assert "COMPLETED" not in states


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_several_devices_take_a_process_each(make_home: Callable[..., Home]) -> None:
    """Two made-up devices; the same figures as one process."""
    home, alone = make_home(), make_home()
    settings = ("run", "sweep.yaml", "--set", "methods=[magnitude]")
    status, output = home.run(*settings, **{SLOTS: "cpu0,cpu1"})
    assert status == 0, output
    assert alone.run(*settings)[0] == 0
    assert figures(home.rows()) == figures(alone.rows())
    assert sorted(home.logged_cells()) == sorted(row["fingerprint"] for row in home.rows())


def test_a_failing_cell_in_a_process_of_its_own_says_why(make_home: Callable[..., Home]) -> None:
    home = make_home()
    status, output = home.run(
        "run", "sweep.yaml", *DIVERGING, "--set", "methods=[magnitude, ast]",
        "--set", "targets=[2:4]", **{SLOTS: "cpu0,cpu1"},
    )  # fmt: skip
    assert status == 1, output
    rows = {row["method"]: row for row in home.rows()}
    assert rows["magnitude"]["status"] == "completed"
    assert "gradients are not finite" in rows["ast"]["error"]
