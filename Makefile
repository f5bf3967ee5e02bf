PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# Tests without a service, a browser and a lake; they run every library written in C. 40 s of one core.
FAST_TESTS := tests/docs/test_reference.py tests/cli/test_settings.py tests/lake/test_row_rules.py tests/lake/serving/parts \
	tests/lake/serving/text tests/lake/serving/vectors tests/lake/serving/table_log tests/lake/serving/sql/test_statement.py

# The first Python 3.13 that starts; a shim of pyenv may not.
PYTHON_313 = $(firstword $(foreach python,$(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13) python3.13,$(shell \
	$(python) -c 'import sys; print(sys.executable)' 2>/dev/null)))

.PHONY: help setup demo up test test-313 check coverage lint fix docs lock clean

help:  ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(VENV)/.complete  ## build the environment (.venv) from the lock file

# Written last, so that an interrupted setup is repeated.
$(VENV)/.complete: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"akosha needs Python 3.11 or later, found {sys.version.split()[0]}: run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: setup  ## Dagster, the API, a simulated fleet and a search; Ctrl-C stops
	$(BIN)/akosha demo

up: setup  ## the same services without the simulated fleet
	$(BIN)/akosha up

test: setup  ## linters, import contracts, all tests; a lint error does not hide a failing test
	@status=0; $(MAKE) --no-print-directory lint || status=$$?; \
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile || status=$$?; exit $$status

# A second version of Python. The environment has the same packages as $(VENV): the lock file is universal.
test-313: setup  ## a part of the tests with Python 3.13, where it is installed
	@if [ -z "$(PYTHON_313)" ]; then echo "Python 3.13 is not installed; its tests are skipped"; exit 0; fi; \
	$(BIN)/uv venv --quiet --allow-existing --python $(PYTHON_313) $(VENV)-313 && \
	$(BIN)/uv pip install --quiet --python $(VENV)-313/bin/python --require-hashes -r requirements.lock && \
	$(BIN)/uv pip install --quiet --python $(VENV)-313/bin/python --no-deps --editable . && \
	$(VENV)-313/bin/python -m pytest --numprocesses auto --dist loadfile $(FAST_TESTS)

check: lint  ## linters, types, contracts and the fast tests, in under a minute
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/test_house.py $(FAST_TESTS)

coverage: setup  ## all tests, with their coverage of lines and branches in build/coverage
	mkdir -p build
	COVERAGE_FILE=build/.coverage $(BIN)/python -m pytest --numprocesses auto --dist loadfile --cov=akosha_assets --cov=akosha_api --cov-branch \
		--cov-report=term:skip-covered --cov-report=html:build/coverage

lint: setup  ## linters, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fix: setup  ## apply the fixes of the linter and the formatter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## regenerate the generated passages of docs/
	$(BIN)/python -m akosha_assets.reference

lock: setup  ## update requirements.lock from pyproject.toml
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
		--no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

clean:  ## remove the environment and local state
	rm -rf $(VENV) $(VENV)-313 .akosha
