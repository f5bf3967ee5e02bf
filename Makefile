PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# Tests without a service, a browser or child processes.
FAST_TESTS := tests/docs/test_reference.py tests/lake/serving tests/cli/test_settings.py

.PHONY: help setup demo up test check coverage lint fix docs lock clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(VENV)/.complete  ## build the environment (.venv) from the lock file

# Written last, so an interrupted setup is started again and never taken for a finished one.
$(VENV)/.complete: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"akosha needs Python 3.11 or later, found {sys.version.split()[0]}: run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: setup  ## simulated fleet, ingestion, a search, the Dagster UI and the API; Ctrl-C stops
	$(BIN)/akosha demo

up: setup  ## the same services without the simulated fleet
	$(BIN)/akosha up

test: setup  ## linters, import contracts, all tests; a lint error does not hide a failing test
	@status=0; $(MAKE) --no-print-directory lint || status=$$?; \
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile || status=$$?; exit $$status

check: lint  ## linters, types, contracts and the fast tests, in under a minute
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/test_house.py $(FAST_TESTS)

coverage: setup  ## all tests with the share of lines and branches that they run, in build/coverage
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: setup  ## let the linter and formatter mend what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## write the generated passages of docs/ anew
	$(BIN)/python -m akosha_assets.reference

lock: setup  ## resolve pyproject.toml anew into requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
		--no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

clean:  ## remove the environment and local state
	rm -rf $(VENV) .akosha
