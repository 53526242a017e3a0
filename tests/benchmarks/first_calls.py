"""Processor seconds of a refusal in a fresh process, by what it takes to know.

    python tests/benchmarks/first_calls.py [--times 3]

Of each the least of some runs, for other work on the machine only adds. Beside them what importing
torch, and transformers' code of one model, takes alone. Results: bad_inputs.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.models.sources import random_model

SWEEP = """
name: x
models: [./model]
methods: [wanda]
targets: ['0.5']
calibration: {corpus: {source: files, files: [text.txt]}, samples: 2, sequence_length: 32}
evaluation:
  perplexity:
    - {name: t, corpus: {source: files, files: [text.txt]}, sequence_length: 32, windows: 2}
"""
PLAN = ("-m", "flows.cli", "plan", "sweep.yaml")
REFUSED = {
    "YAML that is none": ("-m", "flows.cli", "plan", "broken.yaml"),
    "a model that is not there": (*PLAN, "--set", "models=[./nothing]"),
    "an adapter's folder": (*PLAN, "--set", "models=[./adapter]"),
    "a misspelt method": (*PLAN, "--set", "methods=[wandaa]"),
    "a text that is not there": (*PLAN, "--set", "calibration.corpus.files=[no.txt]"),
    "a type that is no language model's": (*PLAN, "--set", "models=[./vision]"),
    "shapes that config.json does not have": (*PLAN, "--set", "models=[./shapes]"),
    "a pattern of exclude that names nothing": (*PLAN, "--set", "exclude=[nothing]"),
    "a window longer than the model's": (*PLAN, "--set", "calibration.sequence_length=513"),
}
ALONE = {
    "import torch": ("-c", "import torch"),
    "import of LlamaForCausalLM": ("-c", "from transformers import LlamaForCausalLM"),
}


def write(folder: Path) -> None:
    """The sweep and its models."""
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "broken.yaml").write_text("name: [")
    (folder / "text.txt").write_text("the quick brown fox " * 100)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    for name, changed in (
        ("model", {}),
        ("shapes", {"intermediate_size": 96}),
        ("vision", {"model_type": "clip"}),
    ):
        random_model.write(folder / name)
        config = folder / name / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | changed))


def seconds(arguments: tuple[str, ...], status: int, folder: str) -> float:
    """Processor seconds of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "SECATEUR_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert ended.returncode == status, ended.stderr.decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for kinds, status in ((REFUSED, 2), (ALONE, 0)):
            for name, arguments in kinds.items():
                taken = min(seconds(arguments, status, folder) for _ in range(times))
                print(f"{name:<42} {taken:5.2f} s", flush=True)


if __name__ == "__main__":
    main()
