"""Kill setting R's sweep hard at random moments; it must end as if it had never been killed.

    python tests/benchmarks/kills.py --data FOLDER --kills 10

Compares figures with an uninterrupted run in another home, counts each cell's runs in MLflow, looks
for orphaned servers and, after `secateur gc`, for temporary folders. Exit status 1 on any
difference. Results: kills.md.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments

from tasks.reporting.rows import read_results

CONFIG = Path(__file__).with_name("setting_r.yaml")
FIGURES = ("model", "method", "target", "seed", "status", "sparsity", "perplexity/wikitext2",
           "nonzero_parameters", "fingerprint")  # fmt: skip


def start(home: Path, data: Path, *more: str) -> subprocess.Popen[bytes]:
    settings = [
        f"calibration.corpus.files=[{data / 'calibration.txt'}]",
        f"evaluation.perplexity[0].corpus.files=[{data / 'test.txt'}]",
        *more,
    ]
    command = [sys.executable, "-m", "flows.cli", "run", str(CONFIG)]
    command += [part for setting in settings for part in ("--set", setting)]
    environment = {**os.environ, "SECATEUR_HOME": str(home)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def figures(home: Path) -> list[tuple]:
    rows = read_results(home / "sweeps" / "setting-r")
    return [tuple(row[name] for name in FIGURES) for row in rows]


def orphans(home: Path) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"flows.serve.embedded" in command and str(home).encode() in command:
            found.append(folder.name)
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds to a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    more = [
        f"calibration.samples={options.samples}",
        f"evaluation.perplexity[0].windows={options.windows}",
    ]
    data, moments = options.data.absolute(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder, "calm"), Path(folder, "killed")
        if start(calm, data, *more).wait():
            return 1
        kills = 0
        for _ in range(options.kills):
            process = start(killed, data, *more)
            moment = moments.uniform(3, options.longest)
            try:
                process.wait(moment)
                print("finished before the kill", flush=True)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                print(f"killed after {moment:.1f} s", flush=True)
        status = start(killed, data, *more).wait()
        time.sleep(8)
        environment = {**os.environ, "SECATEUR_HOME": str(killed)}
        subprocess.run([sys.executable, "-m", "flows.cli", "gc"], env=environment, check=True)
        with sqlite3.connect(killed / "mlflow.db") as database:
            runs = database.execute(
                "select count(*), count(distinct t.value) from tags t join runs r using (run_uuid)"
                " where t.key = 'secateur.cell' and r.lifecycle_stage = 'active'"
            ).fetchone()
        checks = {
            "the last run succeeds": status == 0,
            "the figures are those of the calm run": figures(killed) == figures(calm),
            f"each of {runs[1]} rows once in MLflow": runs[0] == runs[1] == len(figures(calm)),
            "no orphaned server": not orphans(killed),
            "no temporary folder after gc": not list((killed / "tmp").glob("*")),
        }
        print(f"{kills} kills")
        for name, good in checks.items():
            print(f"{'ok  ' if good else 'FAIL'} {name}")
        return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
