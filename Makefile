# Everything on a fresh machine: each target makes .venv and installs the versions of constraints.txt first.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: demo test test-slow lint format docs bench clean

demo: .venv/.installed
	$(BIN)/nas search

test: .venv/.installed
	$(BIN)/python -m pytest -q -n auto $(PYTEST_ARGS)

test-slow: .venv/.installed
	$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.installed
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: .venv/.installed
	$(BIN)/python benchmarks/screening.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/chain.py

clean:
	rm -rf .venv build docs/_build *.egg-info

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $@
