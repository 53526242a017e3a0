"""Cells in a work pool: real workers with checkouts of their own, one kill, one cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, answers, free_port, kill_tree
from conftest import Home, figures

from tasks.leases import SLOTS

pytestmark = pytest.mark.slow
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
    """A Prefect server with a pool of each kind, and MLflow's file in the shared home."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    port = free_port()
    made.prefect_url = f"http://127.0.0.1:{port}/api"
    try:
        made.start(
            "server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)
        )
        answers(f"{made.prefect_url}/health")
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: made.prefect_url}),
            get_client(sync_client=True) as client,
        ):
            client.create_work_pool(WorkPoolCreate(name="cells", type="process"))
            client.create_work_pool(WorkPoolCreate(name="boxes", type="docker"))
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
        ("nowhere", {}, ["--work-pool", "'nowhere'", "boxes, cells", "work-pool create nowhere"]),
        ("boxes", {}, ["--work-pool", "'boxes'", "type process", "type docker"]),
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
    assert status == 0, output + cluster.log("worker-1", "prefect")
    pooled = Home(cluster.home)
    alone = make_home()
    assert alone.run("run", str(path))[0] == 0
    assert figures(pooled.rows("pooled")) == figures(alone.rows("pooled"))
    assert all(row["mlflow_run_id"] for row in pooled.rows("pooled"))
    logged = pooled.logged_cells()
    assert sorted(logged) == sorted(row["fingerprint"] for row in pooled.rows("pooled"))
    taken = [cluster.log(f"worker-{index}", "prefect").count("submitted to") for index in (1, 2, 3)]
    assert sum(taken) == 3
    assert not list((cluster.home / "pulses").glob("*")), "what a finished sweep leaves behind"


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
        "run", "sweep.yaml", "--set", "methods=[magnitude]", "--set", "targets=[0.5, 3:7]",
        **{SLOTS: "cpu0,cpu1"},
    )  # fmt: skip
    assert status == 1, output
    rows = {row["target"]: row for row in home.rows() if row["method"] == "magnitude"}
    assert rows["0.5"]["status"] == "completed"
    assert "divisible by 7" in rows["3:7"]["error"]
