# make env    set up .venv from requirements.lock         make demo   make results/digits_table.csv from nothing
# make test   run the tests                               make lint   check style and types, without changing anything
# make verify   whether this machine gives the published bytes: about three minutes
# make coverage   run the quick tests, and show which lines they do not reach
# make docs   build the documentation into site/, without the network
# make generated   renew the files that are made from the code
# make test-cluster   the pipeline on a Slurm of this machine, for which it installs Debian's packages, as root
PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
BIN := .venv/bin
# A file's tests share what they build; tests/conftest.py puts the files in order.
TESTS := pytest -n $(CORES) --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env demo verify test test-all test-cluster lint coverage docs format generated lock

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

env: $(BIN)/.installed

# uv lives inside .venv, since many systems' Python refuses packages outside one.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "dacsm needs Python 3.11 or newer; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Each job starts a Python of its own: compiling its imports here, once, saves every job seconds.
$(BIN)/.installed: requirements.lock pyproject.toml | $(BIN)/uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

demo: env
	@snakemake --cores $(CORES) --quiet host reason
	@dvc repro --quiet
	@cat results/digits_table.md
	@echo "results/digits/report.html shows this and more in a browser."

verify: env
	@dacsm verify --cores $(CORES)

test: env lint
	@$(TESTS) -m "not long"

# What CI runs: also the published datasets' look-alikes, from download to table.
test-all: env lint
	@$(TESTS)

# Needs Debian and root; docs/clusters.md says what it does.
test-cluster: env
	@VIRTUAL_ENV=.venv uv pip install --quiet --editable ".[slurm]"
	@python -m benchmarks.cluster

lint: env
	@ruff check --quiet .
	@ruff format --check --quiet .
	@snakefmt --check Snakefile workflow/rules
	@snakemake --lint
	@mypy

# The lines that the quick tests reach, and those that they do not: coverage/index.html.
coverage: env
	@$(TESTS) -m "not long and not slow" --cov --cov-report=term --cov-report=html

# Warnings end it, broken links and anchors among them. It fetches nothing, and the pages fetch nothing either.
docs: env
	@NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict
	@echo site/index.html

format: env
	ruff check --quiet --fix .
	ruff format --quiet .
	snakefmt Snakefile workflow/rules

# Renew the files that are made from the code: what editors check params.yaml against, and dvc.yaml.
generated: env
	@dacsm schema > workflow/schemas/.params.partial && mv workflow/schemas/.params.partial workflow/schemas/params.schema.json
	@dacsm dvc-file > .dvc.partial && mv .dvc.partial dvc.yaml

# Renew the lock after a change to the dependencies in pyproject.toml, then the Conda environment that is made from it.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev --extra docs --extra onnx \
	    pyproject.toml --output-file requirements.lock
	$(BIN)/python workflow/envs/make_conda_env.py
