"""Kill a sweep hard at random moments; it must end as if it had never been killed.

    python tests/benchmarks/kills.py --tiny --kills 50                  # a tiny random model
    python tests/benchmarks/kills.py --data FOLDER --kills 10           # setting R

Each kill takes the command and its whole process group; the same command then goes on. When it
comes to its end before it is killed, the next round's targets begin. Compares all figures with an
uninterrupted run in another home, counts each row's runs in MLflow, looks for runs that Prefect or
MLflow still shows as running, for orphaned servers and, after `secateur gc`, for temporary folders.
Exit status 1 on any difference. With `--folder` the homes stay, and `--unfinished` leaves the
checks to a later call. Results: kills.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.reporting.rows import read_results

HERE = Path(__file__).parent
FIGURES = ("model", "method", "target", "seed", "status", "sparsity", "nonzero_parameters",
           "fingerprint")  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is killed.

    Attributes:
        sweep: a sweep file or a preset.
        settings: changes of it.
        targets: of each round, moved a little from one to the next.
        moments: the earliest and the latest second of a kill.
    """

    sweep: str
    settings: tuple[str, ...]
    targets: tuple[float, ...]
    moments: tuple[float, float]

    def of_round(self, number: int) -> list[str]:
        """The command line of a round: nothing of its cells is in the store before."""
        targets = [round(target + 0.001 * number, 4) for target in self.targets]
        changes = [*self.settings, f"name=kills-{number}", f"targets={targets}"]
        return ["run", self.sweep, *(part for change in changes for part in ("--set", change))]


def setting_r(data: Path) -> Setting:
    files = (
        f"calibration.corpus.files=[{data / 'calibration.txt'}]",
        f"evaluation.perplexity[0].corpus.files=[{data / 'test.txt'}]",
    )
    return Setting(str(HERE / "setting_r.yaml"), files, (0.3, 0.5), (3, 60))


TINY = Setting("smoke", (), tuple(round(0.05 * k, 2) for k in range(2, 18)), (1, 25))


def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    return {**kept, "SECATEUR_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def start(home: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(
        command, env=environment(home), stdout=subprocess.DEVNULL, start_new_session=True
    )


def finish(home: Path, setting: Setting, rounds: int) -> bool:
    return all(start(home, setting.of_round(n)).wait() == 0 for n in range(rounds))


def figures(home: Path, rounds: int) -> list[tuple]:
    found = []
    for number in range(rounds):
        rows = read_results(home / "sweeps" / f"kills-{number}")
        measured = [name for name in rows[0] if name.startswith("perplexity/")]
        found += [tuple(row[name] for name in (*FIGURES, *measured)) for row in rows]
    return found


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


def asked(database: Path, query: str) -> list[tuple]:
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


def kill(folder: Path, setting: Setting, count: int, seed: int) -> dict:
    """Kill so often, and keep what was killed after how long beside what former calls did."""
    state, home = folder / "state.json", folder / "killed"
    known = json.loads(state.read_text()) if state.exists() else {"rounds": 1, "moments": []}
    moments = random.Random(seed + len(known["moments"]))
    killed = 0
    while killed < count:
        process = start(home, setting.of_round(known["rounds"] - 1))
        moment = moments.uniform(*setting.moments)
        try:
            status = process.wait(moment)
            print(f"ended with {status} before the kill", flush=True)
            known["rounds"] += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            known["moments"].append(round(moment, 1))
            print(f"killed after {moment:.1f} s", flush=True)
        state.write_text(json.dumps(known))
    return known


def checked(calm: Path, home: Path, setting: Setting, rounds: int) -> dict[str, bool]:
    """What must hold once every round has come to its end."""
    ended = finish(home, setting, rounds) and finish(calm, setting, rounds)
    time.sleep(8)
    gc = [sys.executable, "-m", "flows.cli", "gc"]
    subprocess.run(gc, env=environment(home), check=True, stdout=subprocess.DEVNULL)
    expected, found = figures(calm, rounds), figures(home, rounds)
    runs, rows = asked(
        home / "mlflow.db",
        "select count(*), count(distinct p.value || t.value) from runs r"
        " join tags t using (run_uuid) join tags p using (run_uuid) where"
        " t.key = 'secateur.row' and p.key = 'mlflow.parentRunId'"
        " and r.lifecycle_stage = 'active'",
    )[0]
    open_there = asked(home / "mlflow.db", "select name from runs where status = 'RUNNING'")
    open_here = asked(
        home / "prefect" / "prefect.db",
        "select name from flow_run where state_type in ('RUNNING', 'PENDING', 'CANCELLING')",
    )
    return {
        f"{rounds} rounds come to their end": ended,
        f"{len(found)} rows with the figures of the calm runs": found == expected,
        f"{rows} rows in MLflow, each once": runs == rows == len(expected),
        "no run that Prefect shows as running": not open_here,
        "no run that MLflow shows as running": not open_there,
        "no orphaned server": not orphans(home),
        "no temporary folder after gc": not list((home / "tmp").glob("*")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tiny", action="store_true", help="a tiny random model")
    what.add_argument("--data", type=Path, help="setting R: folder with WikiText-2's files")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--latest", type=float, help="second of a kill: more on a busy machine")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where the homes stay; else they go")
    parser.add_argument("--unfinished", action="store_true", help="only kill")
    options = parser.parse_args()
    setting = TINY if options.tiny else setting_r(options.data.absolute())
    if options.latest:
        setting = replace(setting, moments=(setting.moments[0], options.latest))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        known = kill(folder, setting, options.kills, options.seed)
        if options.unfinished:
            return 0
        checks = checked(folder / "calm", folder / "killed", setting, known["rounds"])
    print(f"{len(known['moments'])} kills after {known['moments']} s")
    for name, good in checks.items():
        print(f"{'ok  ' if good else 'FAIL'} {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
