"""A coreset of a pool of 100 000 windows, whole, through ``secateur select``.

    /usr/bin/time -v python tests/benchmarks/pool.py [--clusters 10] [--home FOLDER]

The pool: 32 tokens a window of a tiny random model, four fifths of the standard library's code, the
rest of the Python reference. Prints what each step took and the errors; results: tagcos.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import print_environment

CHARACTERS = 16_000_000


def code() -> str:
    """Of the standard library, its tests included, file after file."""
    found: list[str] = []
    for path in sorted(Path(os.__file__).parent.rglob("*.py")):
        if "site-packages" not in path.parts:
            found.append(path.read_text(encoding="utf-8", errors="ignore"))
            if sum(map(len, found)) > CHARACTERS:
                break
    return "\n\n".join(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--home", type=Path, default=Path("outputs/benchmarks/pool"))
    options = parser.parse_args()
    print_environment()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    (home / "code.txt").write_text(code(), encoding="utf-8")
    files = {"source": "files", "files": ["code.txt"], "share": 4}
    sweep = {
        "name": "pool", "models": ["tiny-random"], "dtype": "float32",
        "methods": ["wanda"], "targets": ["0.5"],
        "calibration": {
            "corpus": [files, {"source": "python-docs", "share": 1}],
            "samples": options.samples, "sequence_length": 32, "sampling": "coreset",
            "coreset": {"pool": options.windows, "clusters": options.clusters},
        },
        "evaluation": {"perplexity": [{
            "name": "docs", "corpus": {"source": "python-docs"},
            "sequence_length": 32, "windows": 2,
        }]},
    }  # fmt: skip
    path = home / "pool.yaml"
    path.write_text(json.dumps(sweep, indent=1), encoding="utf-8")  # JSON is YAML
    (home / "chosen.jsonl").unlink(missing_ok=True)  # of an earlier run
    command = [sys.executable, "-m", "flows.cli", "select", str(path)]
    command += ["--to", str(home / "chosen.jsonl")]
    environment = {**os.environ, "SECATEUR_HOME": str(home)}
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
