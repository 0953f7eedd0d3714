# Each target creates the virtual environment that it needs; `make demo` and `make test` are all the set-up there is.
VENV ?= .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin

.PHONY: help install demo test test-all lint format docs clean

help:
	@echo "make demo   pretrain, submit, fine-tune and rank on generated data (about 12 minutes on 2 CPU cores)"
	@echo "make test   the test suite; make test-all adds its slow tests"
	@echo "make lint   ruff and mypy"
	@echo "make format ruff format"
	@echo "make docs   the documentation, into build/docs"

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "DenseBench needs Python 3.11 or 3.12: install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	$(BIN)/densebench demo

# A process a core, each test file in one of them; each computes on one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --durations=25

test: install
	$(PYTEST)

test-all: install
	$(PYTEST) -m ""

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
