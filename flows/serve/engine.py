"""Prefect's engine, as the worker starts it for a run: it reads no stored result."""

from __future__ import annotations

import runpy

from tasks.steps.results import read_no_stored_results

if __name__ == "__main__":
    read_no_stored_results()
    runpy.run_module("prefect.engine", run_name="__main__")
