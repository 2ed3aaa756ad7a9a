# `make` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# uv uses pip's folder of local wheels
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# waiting threads sleep, since spinning ones slow small networks tenfold on shared cores
export OMP_WAIT_POLICY ?= passive
# text is UTF-8 in any locale
export PYTHONUTF8 ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-faults test-slurm check lint lint-page format format-page lock docs dag clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: $(STAMP)  ## make the virtual environment from the lock

$(STAMP): requirements.lock
	@command -v $(PYTHON) > /dev/null || { echo "xtalgen needs Python 3.11: install it, or name yours: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock
	@touch $@

demo: $(STAMP)  ## run the whole pipeline on the embedded data set, offline, and print the tables
	@PYTHONPATH=src $(BIN)/snakemake --cores 2 --snakefile Snakefile --directory demo \
	    --rerun-incomplete --logger xtalgen --show-failed-logs \
	    --shared-fs-usage persistence input-output software-deployment sources storage-local-copies
	@cat demo/results/tables.txt
	@echo
	@echo "All tables, with intervals, recipe and definitions:  demo/results/tables.md"
	@echo "The map of all crystals, to open in a browser:       demo/results/explorer.html"
	@echo "Candidates for new crystals, as CIF and CSV:         demo/results/candidates/"
	@echo "Next: your own crystals (docs/guides/own-structures.md), or MP-20 on this machine (examples/)"

test: $(STAMP)  ## run the tests, except those of the three targets below
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-long: $(STAMP)  ## compare thousands of crystals with the original codes, learn crystals by heart, compile every network
	$(BIN)/python -m pytest --numprocesses 2 -m long

test-faults: $(STAMP)  ## inject faults (kills, full disks, truncated, corrupted and hostile files) and compare with an undisturbed run
	$(BIN)/python -m pytest -s -q tests/faults

test-slurm: $(STAMP)  ## run the workflow on a real SLURM of one node (root, Debian; installs it)
	$(BIN)/python -m pytest -s tests/slurm

check: $(STAMP) lint test  ## lint, format check and all tests: what CI runs

lint: $(STAMP)  ## check style, formatting, types, layers, sizes and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python benchmarks/house.py --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint > /dev/null
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory lint-page; \
	    else echo "npm is missing, so the explorer's page was not checked (ESLint, Prettier): install Node.js 20 or later for that"; fi

PAGE := src/xtalgen/explorer/page
PAGE_TOOLS := envs/page/node_modules

lint-page: $(PAGE_TOOLS)/.package-lock.json  ## check style and formatting of the explorer's page (needs npm)
	$(PAGE_TOOLS)/.bin/eslint --config envs/page/eslint.config.js $(PAGE)
	$(PAGE_TOOLS)/.bin/prettier --config envs/page/prettier.json --log-level warn --check $(PAGE)

format-page: $(PAGE_TOOLS)/.package-lock.json  ## format the explorer's page (needs npm)
	$(PAGE_TOOLS)/.bin/eslint --config envs/page/eslint.config.js --fix $(PAGE)
	$(PAGE_TOOLS)/.bin/prettier --config envs/page/prettier.json --log-level warn --write $(PAGE)

$(PAGE_TOOLS)/.package-lock.json: envs/page/package-lock.json
	@command -v npm > /dev/null || { echo "the tools for the page need npm: install Node.js 20 or later"; exit 1; }
	npm ci --prefix envs/page --no-audit --no-fund --silent
	@touch $@

format: $(STAMP)  ## format everything
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/snakefmt Snakefile workflow

lock: $(STAMP)  ## write requirements.lock and envs/ from requirements.in
	$(BIN)/python workflow/lock.py

docs: $(STAMP)  ## write the generated pages of docs/reference
	PYTHONPATH=src $(BIN)/python docs/build.py

clean:  ## remove results of the demo
	rm -rf demo/results demo/logs demo/.snakemake
