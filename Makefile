# Everything on a fresh machine: each target makes .venv and installs the versions of constraints.txt first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint format bench clean

demo: .venv/.installed
	$(BIN)/nas search

test: .venv/.installed
	$(BIN)/python -m pytest -q -n auto

test-slow: .venv/.installed
	$(BIN)/python -m pytest -q -m slow

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed
	$(BIN)/python benchmarks/screening.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/chain.py

clean:
	rm -rf .venv build *.egg-info

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@
