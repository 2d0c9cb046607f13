# Everything a fresh machine needs: `make run` and `make test` set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install run test check format screens bench-peers clean

install: $(STAMP)

# torch first and pinned: a range would pull the CUDA build, several GB.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

# A demonstration (demo/ holds its settings): market time runs 60 times faster, a cycle lasts a quarter of a (market)
# day, and a small network learns from two weeks of history, so that all of it is seen within minutes.
run: install
	mkdir -p run
	$(BIN)/aml100-console run --config demo --speed 60 --warmup-bars 20000 --state run/state.db

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n auto

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The projects that `aml100-console bench` measures against, each in an environment of its own (several GB).
bench-peers: install
	$(BIN)/python -m aml100.bench.environments .bench-peers

# The pictures of docs/operating.md, taken of the real console on a real engine; some minutes.
screens: install
	$(BIN)/python tests/tui/pictures.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
