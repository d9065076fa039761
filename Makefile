# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

# `make test` and `make demo` do everything on a fresh machine. The first of them takes minutes: PyTorch is large.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# What pip is told besides when it installs, for example a file of constraints.
PIP_OPTIONS ?=

# What `make minutes` runs, with budgets in MINUTES. An interrupted run goes on where it was; remove RESULTS to start anew.
DATA ?= datasets/MVTecAD
CATEGORIES ?= [transistor,tile,hazelnut]
RESULTS ?= runs/minutes
MINUTES ?= [1,5]

.PHONY: help test tests slow floor newest lint demo minutes gpu docs linkcheck package clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

# Networks in tests are small: more threads gain little, and lose much where others compute beside. More processes gain.
WORKERS ?= 2
test tests slow: export OMP_NUM_THREADS ?= 1

test: lint tests  ## Check style and types, run all tests but the slow ones and those for a GPU

tests: $(INSTALLED)
	$(BIN)/python -m pytest -m "not gpu and not slow" --numprocesses $(WORKERS) --dist worksteal

slow: $(INSTALLED)  ## Run the slow tests: resuming, several processes, exports, what training is good for
	$(BIN)/python -m pytest -m "slow and not gpu" --numprocesses $(WORKERS) --dist worksteal

floor:  ## Run the tests with the oldest dependencies that are allowed
	$(MAKE) tests VENV=.venv-floor PIP_OPTIONS="--constraint constraints-floor.txt"

newest:  ## Run the tests with the newest dependencies that are allowed
	$(MAKE) tests VENV=.venv-newest PIP_OPTIONS="--upgrade --upgrade-strategy eager"

lint: $(INSTALLED)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(INSTALLED)  ## Train a small model on generated images
	$(BIN)/anomalib-ssl demo

# One process with one thread: a minute is then a minute of one core. Results that are kept stand beside new ones.
minutes: export OMP_NUM_THREADS ?= 1

minutes: $(INSTALLED)  ## Train every model for some minutes (DATA=, CATEGORIES=, MINUTES=) and write docs/results/minutes.md
	-$(BIN)/anomalib-ssl benchmark --config configs/benchmark/cpu.yaml --output "$(RESULTS)" --resume \
	  --data_root "$(DATA)" --categories "$(CATEGORIES)" --minutes "$(MINUTES)"
	sed -n '/./s/^/--notes+=/p' docs/results/minutes/notes.txt | tr '\n' '\0' | xargs -0 \
	  $(BIN)/anomalib-ssl report $(wildcard docs/results/minutes/results.csv) "$(RESULTS)/results.csv" \
	  --output "$(RESULTS)/report" --page docs/results/minutes.md --title "What a minute of training buys"

gpu: $(INSTALLED)  ## On a machine with CUDA: tests, speed, memory and trainings on one page in docs/results/gpu
	$(BIN)/python benchmarks/gpu.py

docs: $(INSTALLED)  ## Build the pages of docs/ into docs/_build; a warning is an error
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

linkcheck: $(INSTALLED)  ## Check every link of docs/ that leads elsewhere
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/sphinx-build -q -W --keep-going -b linkcheck docs docs/_build/linkcheck

# What a user does: the wheel in an environment of its own, with everything else from the index.
package: $(INSTALLED)  ## Build sdist and wheel, check them, install the wheel in a fresh environment and uninstall it
	rm -rf dist .venv-package
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/python -m pip install dist/*.whl
	.venv-package/bin/anomalib-ssl doctor
	.venv-package/bin/python -m pip uninstall --yes anomalib-ssl
	test -z "$$(find .venv-package -name '*anomalib_ssl*' -o -name '*anomalib-ssl*')"

clean:  ## Remove the environment, builds and caches
	rm -rf .venv .venv-floor .venv-newest .venv-package build dist .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --editable ".[dev]"
	touch $@
