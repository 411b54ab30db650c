# Every target sets itself up from nothing: all it needs on the machine is Python 3.11 or newer and git,
# and for conformance npm.
# PYTHON=… chooses the interpreter, WORKERS=… the number of processes that run tests, ARGS=… goes to the program,
# REAL=1 lets the demo use a real model (it costs money).

PYTHON ?=
ARGS ?=
REAL ?=
WORKERS ?= 3
KILLS ?= 500
SEED ?= 7
BIN := .venv/bin
SHARED = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
SOURCES := pyproject.toml constraints.txt Makefile
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet

# Virtual environments without pip (another tool made them) and ones whose interpreter is gone are made anew.
define VENV
if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	found=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			found=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "fleet: no $(if $(PYTHON),usable Python at '$(PYTHON)',Python 3.11 or newer with the venv module on PATH)." \
			"Install one (on Debian and Ubuntu: python3 and python3-venv), or say: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "fleet: making .venv with $$("$$found" --version)"; \
	"$$found" -m venv --clear .venv; \
fi
endef

.PHONY: help demo test test-slow coverage check lint format bench chaos conformance hosts docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    watch a whole scout-plan-build against a scripted model, offline and free (REAL=1: a real one; ARGS=--run: no claude -p)"
	@echo "make test    the test suite"
	@echo "make test-slow  the tests that wait much: faults, kills, terminals, checks"
	@echo "make coverage   the test suite again, then lines and branches per package"
	@echo "make check   format, lint, import contracts and types, then the tests"
	@echo "make bench   measure on the real thing (ARGS=--readme writes the figures into README.md)"
	@echo "make chaos   kill everything at random and count what was lost (KILLS=500 SEED=7)"
	@echo "make conformance  the official MCP suite on both wires, and the MCP Inspector (needs npm)"
	@echo "make hosts   other vendors' libraries convert the tools (installs them into .hosts)"
	@echo "make docs    write the tables of docs/guarantees.md (from the ledger), docs/reference.md (from Settings), and schema.sql"
	@echo "make format  fix what ruff can fix"

.venv/.ready: $(SOURCES)
	@$(VENV)
	@echo "fleet: installing its packages (once, about a minute)"
	@$(PIP) install --editable .
	@$(BIN)/python -m compileall -q orchestrator
	@touch $@

.venv/.ready-dev: $(SOURCES)
	@$(VENV)
	@echo "fleet: installing its packages and those of the tests (once, about a minute)"
	@$(PIP) install --editable '.[dev]'
	@$(BIN)/python -m compileall -q orchestrator
	@touch .venv/.ready $@

demo: .venv/.ready
	@$(BIN)/fleet demo $(if $(filter-out 0,$(REAL)),--real) $(ARGS)

test: .venv/.ready-dev
	@$(BIN)/python -m pytest -m "not slow" $(SHARED) $(ARGS)

# The tests run as in `make test`, and every process of ours that they start is measured; no gate.
coverage: .venv/.ready-dev
	@$(BIN)/python -m tests.coverage_report -m "not slow" $(SHARED) $(ARGS)

test-slow: .venv/.ready-dev
	@$(BIN)/python -m pytest -m slow $(SHARED) $(ARGS)

lint: .venv/.ready-dev
	@echo "fleet: format" && $(BIN)/ruff format --check --quiet .
	@echo "fleet: lint" && $(BIN)/ruff check --quiet .
	@echo "fleet: import contracts" && $(BIN)/lint-imports --no-cache
	@echo "fleet: types" && $(BIN)/basedpyright

check: lint
	@$(MAKE) --no-print-directory test

# Kills daemons, doors, supervisors and programs at random; the last line counts what was lost: all must be 0.
chaos: .venv/.ready-dev
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

bench: .venv/.ready-dev
	@$(BIN)/python -m bench $(ARGS)

conformance: .venv/.ready-dev
	@$(BIN)/python -m tests.conformance.run
	@$(BIN)/python -m pytest --quiet tests/hosts/test_inspector.py

.hosts/.ready: tests/hosts/requirements.txt .venv/.ready-dev
	@echo "fleet: installing the libraries of other hosts (once)"
	@$(BIN)/python -m venv --clear .hosts
	@.hosts/bin/python -m pip --disable-pip-version-check --no-input --quiet --quiet install --requirement $<
	@touch $@

hosts: .hosts/.ready
	@$(BIN)/python -m pytest --quiet tests/hosts/libraries.py $(ARGS)

docs: .venv/.ready-dev
	@$(BIN)/python -m tests.guarantees --write
	@$(BIN)/python -m tests.settings_table --write
	@$(BIN)/python -m tests.schema_file --write

format: .venv/.ready-dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

clean:
	rm -rf .venv .hosts .conformance .demo build dist .ruff_cache .hypothesis
