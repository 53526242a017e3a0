"""What the command prints where the terminal knows few characters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["plan", "smoke"], 0, "6 cells"),
        (
            ["plan", "smoke", "--set", "models=[./mod\u00e8le\u00d7]"],
            2,
            "there is no file or folder",
        ),
    ],
)
def test_output_that_is_not_utf8_is_no_reason_to_fail(
    arguments: list[str], status: int, said: str, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LC_")},
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "LANG": "C",
        "SECATEUR_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        env=environment,
        capture_output=True,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode == status, told
    assert said in told
    assert "Traceback" not in told
    assert "fault of secateur" not in told


@pytest.mark.parametrize("reader", ["left", "full disk"])
def test_output_that_cannot_be_written_is_no_fault_of_secateurs(
    reader: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "flows.cli", "measures"]
    environment = {**os.environ, "SECATEUR_HOME": str(tmp_path)}
    if reader == "left":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full", os.O_WRONLY)
    try:
        done = subprocess.run(
            command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert "fault of secateur" not in done.stderr
    if reader == "left":
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    else:
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
