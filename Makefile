# make demo, make test: each does all set-up by itself and is quick the second time. VENV=... to share an environment.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.histodistill-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: demo test test-slow lint setup

demo: setup
	$(BIN)/histodistill run configs/demo.yaml

# One thread: many tests start workers of their own, which would only fight for the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --durations=10

test-slow: setup
	$(BIN)/python -m pytest -m slow --durations=10

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

$(READY):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12 ...' if sys.version_info < (3, 11) else 0)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	rm -f $(VENV)/.histodistill-*
	touch $@
