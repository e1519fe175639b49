# Heliograph: the commands of every day. `make` alone prints them.
#
#   PYTHON=python3.12 make install    another interpreter than python3 (at least 3.11)
#   DATA=/srv/mail make run           another data directory than ./data
#   CI=true make test                 every slow suite and many more seeds
#   make sim SEED=1234                repeat one run of the simulator
#   make soak MINUTES=30 SEED=7       random faults on three real nodes, then a tally

SHELL := /bin/bash
PYTHON ?= python3
DATA ?= data
CLUSTER_DATA ?= build/three-nodes
MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Seeds per simulated property; a test reads the number from its environment.
ifeq ($(CI),true)
HELIO_TEST_SEEDS ?= 2000
else
HELIO_TEST_SEEDS ?= 300
endif
export HELIO_TEST_SEEDS

.PHONY: help install run test check check-style check-types check-fast-tests sim soak cluster bench \
	format wheel constraints clean
.DEFAULT_GOAL := help

help:
	@echo 'make run          install, then one node in the foreground on ./$(DATA), with demo accounts'
	@echo 'make test         install, then every test (CI=true: the slow ones too)'
	@echo 'make check        format, lint, types, imports, tidy, unit; no Ray, under 30 s'
	@echo 'make sim SEED=n   one seed of the simulator'
	@echo 'make soak         random faults on three real nodes, under load, for minutes'
	@echo 'make cluster      three nodes on this machine'
	@echo 'make bench        the benchmark, against Postfix and Dovecot'
	@echo 'make install      $(VENV) with everything and the command $(BIN)/helio'
	@echo 'make format       put the code into shape'
	@echo 'make wheel        dist/heliograph-*.whl, for ray_config.yaml'
	@echo 'make constraints  constraints.txt anew, from what pyproject.toml allows today'
	@echo 'make clean        remove $(VENV), caches and builds; never the data directory'

# Installation -----------------------------------------------------------------------------

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'heliograph: Python 3.11 or later is needed, and "$(PYTHON)" is none.' >&2; \
	  echo 'heliograph: name another one:  make install PYTHON=python3.12' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || scripts/debian-packages venv; \
	  echo 'heliograph: making $(VENV)'; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@echo 'heliograph: installing into $(VENV)'
	@$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[test]'
	@touch $@

# Running ----------------------------------------------------------------------------------

# `exec`: signals reach the cluster itself, which then drains and stops.
run: install
	@exec $(BIN)/helio up --data $(DATA) --demo

cluster: install
	@exec $(BIN)/helio up --data $(CLUSTER_DATA) --nodes 3 --demo

bench: install
	sh tests/bench/install_rival.sh
	@exec $(BIN)/python tests/bench/run.py $(if $(PARTS),--parts $(PARTS))

# Testing ----------------------------------------------------------------------------------

# Without CI a machine that cannot install packages still runs the tests; those which miss a
# program then fail and name it.
test: install
	@scripts/debian-packages test || test '$(CI)' != true
	@exec $(BIN)/python -m pytest tests

check: install
	@$(MAKE) --no-print-directory -k -j2 --output-sync=target check-types check-style check-fast-tests

check-style:
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo

check-types:
	$(BIN)/mypy

# Compiled modules are kept, also where the environment says that none are to be left behind: to
# compile everything anew, pytest's rewritten asserts above all, is a third of the time.
check-fast-tests:
	HELIO_CHECK=1 PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/build/bytecode \
	  $(BIN)/python -m pytest -q -n 2 tests/tidy $(wildcard tests/unit)

sim: install
	@test -n '$(SEED)' || { echo 'usage: make sim SEED=1234' >&2; exit 2; }
	@HELIO_SIM_SEED='$(SEED)' exec $(BIN)/python -m pytest tests/sim

soak: install
	@scripts/debian-packages test
	@exec $(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Care -------------------------------------------------------------------------------------

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: install
	@rm -rf build/lib build/bdist.*   # setuptools would pack files that are long gone
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .
	@ls dist/heliograph-*.whl

constraints:
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --upgrade setuptools; \
	"$$scratch/bin/python" -m pip install --quiet --upgrade --no-build-isolation '.[test]'; \
	{ head -n 2 constraints.txt; "$$scratch/bin/python" -m pip freeze --all --exclude pip \
	  --exclude wheel --exclude heliograph | LC_ALL=C sort -f; } > "$$scratch/constraints.txt"; \
	cp "$$scratch/constraints.txt" constraints.txt

clean:
	rm -rf $(VENV) build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache .hypothesis
