# Two commands on a fresh machine: `make run`, `make test`. Everything lives in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check format chaos bench image-check lock clean

run: $(VENV)/.runtime  ## start on SQLite with the built-in fleet; pages on http://127.0.0.1:8000/
	$(BIN)/headrace serve --demo

test: $(VENV)/.tests  ## every test that is no long run
	$(BIN)/python -m pytest -m "not chaos and not bench" $(WORKERS)

# Most of a test's time is waiting, so more of them than there are cores; one test at a time to whoever is free.
WORKERS ?= -n 4 --dist load --maxschedchunk 1

check: $(VENV)/.tests  ## format, lint, types, import rules, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory test

format: $(VENV)/.tests
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: $(VENV)/.tests  ## the long fault runs: kill -9, full disk, outages, broken streams, five million events
	$(BIN)/python -m pytest -m chaos -s

bench: $(VENV)/.tests  ## the benchmark table, every figure beside its anchor
	$(BIN)/python -m tests.bench

image-check: $(VENV)/.tests  ## build the container image, without a container engine, and run it
	$(BIN)/python -m tests.deploy.image_check

lock: $(VENV)/.tests  ## pin the newest releases that pyproject.toml allows
	$(BIN)/uv pip compile -q --upgrade $(LOCK_OPTIONS) -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile -q --upgrade $(LOCK_OPTIONS) --extra test -c requirements.lock -o requirements-test.lock pyproject.toml

LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Headrace needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.tests: requirements-test.lock $(VENV)/.runtime
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-test.lock
	@touch $@
