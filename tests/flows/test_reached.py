"""``secateur up`` beyond loopback: only who brings the authentication string is let in."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import SMALL_YAML, TINY, Up

from flows.serve.auth import kept_in
from flows.serve.gate import basic

pytestmark = pytest.mark.slow


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    up.start("--host", "0.0.0.0")  # noqa: S104
    yield up
    assert up.end() == 0, up.output
    assert up.processes() == []


def status(address: str, auth: str = "") -> int:
    headers = {"Content-Type": "application/json"}
    if auth:
        headers["Authorization"] = basic(auth)
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_string_lets_in_and_our_own_processes_bring_it(up: Up) -> None:
    text = kept_in(up.home).read_text().strip()
    assert up.output.count(text) == 1
    for address in (
        f"{up.prefect}/api/deployments/name/sweep/sweep",
        f"{up.mlflow}/api/2.0/mlflow/experiments/search?max_results=1",
    ):
        assert status(address) == 401
        assert status(address, f"{text}x") == 401
        assert status(address, text) == 200
    (up.folder / "small.yaml").write_text(SMALL_YAML)
    command = [sys.executable, "-m", "flows.cli", "run", "small.yaml"]
    done = subprocess.run(
        command, env=up.environment, cwd=up.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = {"flow_runs": {"name": {"any_": ["small"]}}, "limit": 5}
    assert [run["state_type"] for run in up.call("/flow_runs/filter", named)] == ["COMPLETED"]
    failed = up.run("sweep", TINY | {"targets": ["1.5"]})
    assert (
        "from 0.0001 to 0.9999" in failed["message"]
    )  # the worker, its engine and the flow were let in
