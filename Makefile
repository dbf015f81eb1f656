# The two commands of the README are `make demo` and `make test`; each does all its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# "yes" if this machine has a Node of version 18 or later, and npm; else both come from PyPI.
NODE := $(shell node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null && npm --version >/dev/null 2>&1 && echo yes)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench clean

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.ready  ## Install everything into the project

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Passbook needs Python 3.11 to 3.13; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Installing into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
ifeq ($(NODE),)
	@echo "No Node 18 with npm on this machine; taking it from PyPI …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-node.lock
endif
	@touch $@

demo: setup  ## Start everything with a sample institution and watch it work (ONCE=1 ends by itself)
	@$(BIN)/passbook demo $(if $(ONCE),--once)

test: setup check  ## Run all checks and tests
	@$(BIN)/python -m pytest $(ARGS)

check: setup  ## Lint and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

docs: setup  ## Make the reference pages anew from the code
	@$(BIN)/python -m tests.reference

bench: setup  ## Measure (see benchmarks/README.md)
	@$(BIN)/python -m benchmarks.projection --clients 1000

clean:  ## Remove what was installed and the demo's data
	rm -rf $(VENV) .passbook node_modules clients/node_modules passbook/embedded/couch_server/node_modules
