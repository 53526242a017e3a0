"""Several workers, one sweep: cells once each through a kill and a cancel, and the throughput.

    python tests/benchmarks/two_workers.py --folder FOLDER [--database sqlite|postgres]
    [--only safety|throughput]

SQLite or PostgreSQL behind Prefect, PostgreSQL behind MLflow, workers with checkouts, working
folders and Prefect homes of their own, one shared SECATEUR_HOME. FOLDER must be new, and readable
by the user postgres.

Safety: 30 cells on two workers. One worker is killed with all its processes in the middle of a
cell; the sweep is cancelled with `prefect flow-run cancel`; the same command then finishes it.
Throughput: cells that wait rather than compute, on one worker and on two.
Results: two_workers.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cluster import Cluster, answers, free_port, kill_tree, postgres

from tasks.reporting.rows import read_results
from tasks.runtime.environment import code_version

SWEEP = """
name: {name}
models: [tiny-random]
dtype: float32
methods: [waiting]
options: {{waiting: {{seconds: {seconds}}}}}
targets: [{targets}]
seeds: [{seeds}]
evaluation:
  perplexity:
    - {{name: docs, corpus: {{source: files, files: [text.txt]}}, sequence_length: 64, windows: 2}}
"""
POOL = "cells"
LAYERS = 21


@contextlib.contextmanager
def cluster(folder: Path, database: str) -> Iterator[Cluster]:
    """A Prefect server on SQLite or PostgreSQL, an MLflow server on PostgreSQL, and a pool."""
    here = Path(__file__).parents[1]
    folder.mkdir(parents=True)
    made = Cluster(folder, methods=(here / "waiting_method.py",))
    with postgres(folder / "postgres") as port:
        address, mlflow = f"127.0.0.1:{port}", free_port()
        made.start(
            "tracking", "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow),
            "--workers", "1", "--backend-store-uri", f"postgresql+psycopg2://secateur@{address}/mlflow",
            "--artifacts-destination", str(folder / "mlartifacts"),
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true",
        )  # fmt: skip
        made.mlflow_url = f"http://127.0.0.1:{mlflow}"
        try:
            postgres_url = f"postgresql+asyncpg://secateur@{address}/prefect"
            made.serve_prefect(postgres_url if database == "postgres" else "")
            answers(f"{made.mlflow_url}/health")
            status, output = made.run(
                "sender", "prefect", "work-pool", "create", POOL, "--type", "process"
            )
            assert status == 0, output
            yield made
        finally:
            made.close()


def sweep_file(made: Cluster, name: str, targets: int, seeds: int, cell_seconds: float) -> Path:
    sender = made.machine("sender")
    # Only the sender has the text.
    (sender / "text.txt").write_text("the quick brown fox jumps over the lazy dog; " * 200)
    path = sender / f"{name}.yaml"
    path.write_text(
        SWEEP.format(
            name=name,
            seconds=cell_seconds / LAYERS,
            targets=", ".join(f'"{0.1 + 0.08 * index:.2f}"' for index in range(targets)),
            seeds=", ".join(map(str, range(seeds))),
        )
    )
    return path


def wait_for(what: str, check, seconds: float = 900) -> float:
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.5)
    took = time.monotonic() - begun
    print(f"{took:7.1f} s until {what}", flush=True)
    return took


def pruned(made: Cluster) -> int:
    return len(list((made.home / "artifacts" / "pruned").glob("*")))


def state_of(made: Cluster, name: str) -> tuple[str, str]:
    """(id, state) of the latest sweep of this name."""
    found = [run for run in made.runs() if run["name"] == name]
    return (found[-1]["id"], found[-1]["state_type"]) if found else ("", "")


def logged(made: Cluster) -> tuple[list[str], list[str]]:
    """(fingerprints of all live cell runs, states of the sweeps' parents) in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(made.mlflow_url)
    ids = [found.experiment_id for found in client.search_experiments()]
    found = client.search_runs(ids, max_results=1000)
    cells = [r.data.tags["secateur.cell"] for r in found if r.data.tags["secateur.kind"] == "cell"]
    parents = [r.info.status for r in found if r.data.tags["secateur.kind"] == "sweep"]
    return cells, parents


def safety(made: Cluster, number: int = 30, cell_seconds: float = 6) -> dict[str, bool]:
    """One sweep through a kill and a cancel; what should hold, and whether it does."""
    path = sweep_file(made, "safety", targets=number // 3, seeds=3, cell_seconds=cell_seconds)
    command = ("flows.cli", "run", str(path), "--work-pool", POOL)
    workers = {name: made.worker(name, POOL) for name in ("worker-1", "worker-2")}
    sender = made.start("sender", *command)
    first, second = max(1, number // 6), max(2, 2 * number // 5)
    wait_for(f"{first} cells are pruned", lambda: pruned(made) >= first)
    wait_for("the first worker computes", lambda: computes(made, "worker-1"))
    victims = kill_tree(workers["worker-1"].pid)
    before, killed_at = pruned(made), time.monotonic()
    print(f"worker 1 killed with {victims} processes, {before} cells pruned", flush=True)
    workers["worker-3"] = made.worker("worker-3", POOL)
    wait_for("its cell is taken up again", lambda: any(
        "attempt 2" in run["name"] and run["state_type"] in ("RUNNING", "COMPLETED")
        for run in made.runs()
    ))  # fmt: skip
    retaken = time.monotonic() - killed_at
    wait_for(f"{second} cells are pruned", lambda: pruned(made) >= second)
    run, _ = state_of(made, "safety")
    print(made.run("sender", "prefect", "flow-run", "cancel", run)[1].strip(), flush=True)
    stopping = wait_for("no cell runs anywhere", lambda: not made.cells("worker"))
    status = sender.wait(120)
    states = collections.Counter(
        entry["state_type"] for entry in made.runs() if entry["name"] != "safety"
    )
    at_cancel = pruned(made)
    parents = logged(made)[1]
    print(f"cancelled: exit status {status}, cell runs {dict(states)}, {at_cancel} cells pruned, "
          f"MLflow's sweep is {parents}", flush=True)  # fmt: skip
    cancelled = state_of(made, "safety")[1]
    open_states = {"RUNNING", "PENDING", "SCHEDULED", "CANCELLING"} & set(states)
    time.sleep(10)
    still = pruned(made) == at_cancel and not made.cells("worker")
    begun = time.monotonic()
    finished, output = made.run("sender", *command)
    print(f"finished in {time.monotonic() - begun:.0f} s, exit status {finished}", flush=True)
    rows = [
        row for row in read_results(made.home / "sweeps" / "safety") if row["method"] != "dense"
    ]
    cells, parents = logged(made)
    wanted = sorted(row["fingerprint"] for row in rows)
    if finished:
        print(output)
    for process in workers.values():
        kill_tree(process.pid)
    return {
        f"a killed worker's cell runs again within two minutes ({retaken:.0f} s)": retaken < 120,
        f"cancelling ends every process within 30 s ({stopping:.0f} s)": stopping < 30,
        "the cancelled sweep is Cancelled in Prefect": cancelled == "CANCELLED",
        "no cell run is left open": not open_states,
        "nothing is computed after the cancel": still,
        "the same command finishes the sweep": finished == 0,
        f"each of {number} cells once in results.csv": len(set(wanted)) == len(rows) == number,
        "all completed": {row["status"] for row in rows} == {"completed"},
        "each cell once in MLflow": sorted(cells) == wanted,
        "every row names its MLflow run": all(row["mlflow_run_id"] for row in rows),
        "MLflow's sweep is finished": parents == ["FINISHED"],
        "no temporary folder": not list((made.home / "tmp").glob("*")),
    }


def computes(made: Cluster, name: str) -> bool:
    """Whether a machine computes a cell whose run beats."""
    pids = {str(process.pid) for process in made.cells(name)}
    return any(
        str(run["infrastructure_pid"]).rpartition(":")[2] in pids for run in made.running_cells()
    )


def throughput(made: Cluster, cells: int, cell_seconds: float) -> dict[int, float]:
    """Workers → seconds from the first cell's start to the last one's end."""
    took = {}
    for count in (1, 2):
        name = f"waiting-{count}"
        path = sweep_file(made, name, targets=cells, seeds=1, cell_seconds=cell_seconds + count)
        names = [f"{name}-worker-{index}" for index in range(count)]
        workers = [made.worker(worker, POOL) for worker in names]
        log = made.machine("sender") / f"{name}.log"
        command = ("flows.cli", "run", str(path), "--work-pool", POOL)
        status, output = made.run("sender", *command)
        log.write_text(output)
        assert status == 0, output
        found = [run for run in made.runs() if f"sweep:{name}" in run["tags"]]
        spans = [(_time(run["start_time"]), _time(run["end_time"])) for run in found]
        took[count] = max(end for _, end in spans) - min(begin for begin, _ in spans)
        mean = sum(end - begin for begin, end in spans) / len(spans)
        print(f"{count} worker(s): {len(found)} cells in {took[count]:.1f} s; a run took "
              f"{mean:.1f} s, its waiting {cell_seconds + count:.0f} s", flush=True)  # fmt: skip
        for worker in workers:
            kill_tree(worker.pid)
    print(f"throughput of 2 workers against 1: {took[1] / took[2]:.2f}", flush=True)
    return took


def _time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--only", choices=["safety", "throughput"])
    parser.add_argument("--safety-cells", type=int, default=30)
    parser.add_argument("--cells", type=int, default=8, help="of the throughput's sweeps")
    parser.add_argument("--seconds", type=float, default=30.0, help="that one of them waits")
    options = parser.parse_args()
    print(f"{code_version()}, {json.dumps(vars(options), default=str)}", flush=True)
    checks: dict[str, bool] = {}
    with cluster(options.folder.absolute(), options.database) as made:
        if options.only != "throughput":
            checks = safety(made, options.safety_cells)
        if options.only != "safety":
            throughput(made, options.cells, options.seconds)
    for name, good in checks.items():
        print(f"{'ok  ' if good else 'FAIL'} {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
