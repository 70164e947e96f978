# make demo: the whole loop on this clone.   make test: the whole suite.   The rest is for developers.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# what `make bench` builds data from: make bench REPOS="../requests ../flask"
REPOS ?= .
# options of the demo: make demo DEMO="--repo ../requests"
DEMO ?=

.PHONY: demo test check lint types imports docs bench bench-gpu clean

demo: $(STAMP)
	$(BIN)/finetune demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest

check: lint types imports docs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m pytest -q tests/house

bench: $(STAMP)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/data_build.py $(REPOS)

# on a machine with a GPU and flash-linear-attention: memory against the plan, speed, exactness, in ten minutes
bench-gpu: $(STAMP)
	PYTORCH_ALLOC_CONF=expandable_segments:True $(BIN)/python bench/gpu.py --out gpu.json

# --no-build-isolation: setuptools comes from the lock, so nothing is resolved a second time
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

clean:
	rm -rf .venv .finetune
