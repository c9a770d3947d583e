# Every target prepares the virtual environment it needs, so each works in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test lint format type clean

help:
	@echo "make setup    virtual environment in $(VENV), pinned by constraints.txt"
	@echo "make demo     the patch-selection table on synthetic faces, and a GIF"
	@echo "make test     the tests (PYTEST=... adds arguments)"
	@echo "make lint     ruff's rules and formatting, without changing anything"
	@echo "make format   apply both"
	@echo "make type     mypy --strict, and whether pyright finds all that is imported"
	@echo "make clean    remove what was built"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/facehall demo

# One thread per worker: two workers with two threads each are slower than one.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(READY)
	$(BIN)/mypy -p facehall_env
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
