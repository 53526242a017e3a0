"""Setting R against its reference figures, through the command line as a user would run it.

    python tests/benchmarks/setting_r.py --data FOLDER [--home FOLDER]

FOLDER holds WikiText-2's `calibration.txt` (the validation split) and `test.txt`. Exit status 1
when a figure lies outside its tolerance. Results: setting_r.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tasks.reporting.rows import read_results

CONFIG = Path(__file__).with_name("setting_r.yaml")
# (sweep, method, target) → (reference, relative tolerance); None: an upper bound.
REFERENCES = {
    ("setting-r", "dense", ""): (28.14, 0.005),
    ("setting-r", "magnitude", "0.5"): (510.4, 0.01),
    ("setting-r", "magnitude", "2:4"): (1481.6, 0.01),
    ("setting-r", "wanda", "0.5"): (60.5, 0.01),
    ("setting-r", "wanda", "2:4"): (179.7, 0.02),
    ("setting-r-paper", "swiftprune", "0.5"): (274.7, 0.01),
    ("setting-r-paper", "swiftprune", "2:4"): (991.6, 0.01),
    ("setting-r", "sketched_obs", "0.5"): (51.5, None),
    ("setting-r", "sketched_obs", "2:4"): (92.4, None),
    ("setting-r", "full_obs", "0.5"): (51.5, None),
    ("setting-r", "full_obs", "2:4"): (85.0, None),
    ("setting-r", "sparsegpt", "0.5"): (53.8, None),
    ("setting-r", "sparsegpt", "2:4"): (95.8, None),
}
PAPER = {
    "name": "setting-r-paper",
    "methods": "[swiftprune]",
    "options.swiftprune": "{contribution: weight, selection: exact}",
}


def run(data: Path, home: Path, settings: dict[str, str]) -> None:
    """One sweep through the command line."""
    settings = {
        "calibration.corpus.files": f"[{data / 'calibration.txt'}]",
        "evaluation.perplexity[0].corpus.files": f"[{data / 'test.txt'}]",
        **settings,
    }
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", str(CONFIG), *arguments],
        env={**os.environ, "SECATEUR_HOME": str(home)},
        check=True,
    )


def compare(home: Path) -> bool:
    """Print every reference beside what was measured; whether all agree."""
    agree = True
    print(f"{'method':<28} {'target':>6} {'measured':>10} {'reference':>10}  verdict")
    for (sweep, method, target), (reference, tolerance) in REFERENCES.items():
        rows = read_results(home / "sweeps" / sweep)
        row = next(r for r in rows if (r["method"], r["target"]) == (method, target))
        value = float(str(row["perplexity/wikitext2"]))
        if tolerance is None:
            good, said = value <= reference, f"<= {reference}"
        else:
            deviation = value / reference - 1
            good = abs(deviation) <= tolerance
            said = f"{deviation:+.2%} of at most {tolerance:.1%}"
        label = f"{method} (weight, exact)" if sweep.endswith("paper") else method
        print(f"{label:<28} {target or '-':>6} {value:>10.2f} {reference:>10}  {said}")
        agree &= good
    return agree


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with WikiText-2's files")
    parser.add_argument("--home", type=Path, default=Path("outputs"), help="as SECATEUR_HOME")
    arguments = parser.parse_args()
    data, home = arguments.data.absolute(), arguments.home.absolute()
    run(data, home, {})
    run(data, home, PAPER)
    return 0 if compare(home) else 1


if __name__ == "__main__":
    sys.exit(main())
