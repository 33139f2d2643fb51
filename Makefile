# Two commands do everything on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
#
#   make demo        .venv, then all tasks on the shipped samples: pictures and tables in demo-output/
#   make test        .venv with the test tools, then ruff, mypy, import-linter and pytest
#   make lint        the checks without pytest
#   make benchmark   times and memory on this machine: tables, and JSON in build/
#   make clean       removes what these made
#
# Variables: PYTHON=/usr/bin/python3.12 chooses the interpreter, VENV=/somewhere the environment, and
# PYTEST_ARGS="-k sampler" the tests; without it all run, in a process for each core.

SHELL := /bin/bash
VENV ?= .venv
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 4 --dist loadfile

# PyPI's PyTorch for Linux brings several gigabytes of CUDA libraries. The version with "+cpu" exists only as a CPU
# build, so nothing else can be installed by accident; it comes from PyTorch's own index, or from a folder that pip
# knows (PIP_FIND_LINKS). For a GPU: make demo TORCH=torch==2.13.0
TORCH ?= torch==2.13.0+cpu
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
PIP_INSTALL = $(PIP) install --quiet --constraint Testing/constraints.txt
RUN = $(VENV)/bin/python

.PHONY: demo test lint benchmark clean

demo: $(VENV)/installed
	$(RUN) -m MRDiffusionLib demo --out demo-output

test: lint
	$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/installed-tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

benchmark: $(VENV)/installed
	$(RUN) Testing/Benchmarks/superresolution.py --json build/superresolution.json
	$(RUN) Testing/Benchmarks/synthesis.py --json build/synthesis.json
	$(RUN) Testing/Benchmarks/quality.py --json build/quality.json
	$(RUN) Testing/Benchmarks/panel.py --json build/panel.json

clean:
	rm -rf $(VENV) .venv-panel-* build demo-output MRDiffusion.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	.ci/make-venv $(VENV) $(PYTHON)

$(VENV)/torch: $(VENV)/bin/python
	@echo "Installing $(TORCH)"
	@# Without its dependencies, which come from PyPI below: an index that is out of reach is asked once, not for each.
	@$(PIP) install --quiet --no-deps --extra-index-url $(TORCH_INDEX) "$(TORCH)"
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml Testing/constraints.txt
	@echo "Installing MRDiffusion and what it needs"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/installed-tests: $(VENV)/installed
	@echo "Installing the test tools"
	@$(PIP_INSTALL) --editable ".[test]"
	@touch $@
