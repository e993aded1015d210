# Everything here works on a fresh Linux machine that has Python 3.11 or newer, make, and nothing else.
#   make PYTHON=python3.12 ...      another interpreter
#   make test ARGS="-k packing -x"  further options for pytest
#   make quickstart ARGS="quickstart.scale=4 seed=1"  settings of conf/experiment/quickstart.yaml

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FRESH := build/constraints
NEW_ENOUGH = @$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  echo "PYTHON=$(PYTHON): Python 3.11 or newer is needed, found: $$($(PYTHON) --version 2>&1 | head -1)" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help quickstart test docs lint install bubblewrap constraints clean

help:  ## Show this
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(INSTALLED)  ## The paper in miniature: mine, pre-train, tune, GRPO, measure (some 10 minutes on two CPU cores)
	$(BIN)/python -m dsm experiment=quickstart $(ARGS)

# Files start in the order of tests/conftest.py, in one worker more than there are cores, as many a test waits. A worker
# that crashes, or is ten minutes in one test, is a failure: in its place pytest-xdist would start another one, and then
# wait for ever for what the first one did not do.
test: $(INSTALLED)  ## Run the tests
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1)) --maxprocesses 4 \
	  --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
	  -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true $(ARGS)

docs: $(INSTALLED)  ## Build the documents into build/site
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

lint: $(INSTALLED)  ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(INSTALLED)  ## Make .venv with pinned dependencies and dsm itself

$(INSTALLED): pyproject.toml constraints.txt
	$(NEW_ENOUGH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(MAKE) --no-print-directory bubblewrap
	touch $@

bubblewrap:  ## Install bubblewrap, which jails model-written programs (or say how); nothing else needs root
	@command -v bwrap > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  { apt-get install -y -qq bubblewrap || { apt-get update -qq && apt-get install -y -qq bubblewrap; }; }; } || \
	  echo "bubblewrap is missing: model-written programs will not run. Install it: sudo apt-get install bubblewrap" >&2

constraints:  ## Raise all pins in constraints.txt to the newest versions that fit together
	$(NEW_ENOUGH)
	rm -rf $(FRESH)
	$(PYTHON) -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]' setuptools
	{ sed -n '/^#/p' constraints.txt; \
	  $(FRESH)/bin/python -m pip freeze --all --exclude pip --exclude-editable \
	  | sed 's/+.*//' | grep -Ev '^(nvidia|cuda|triton)' | tr A-Z_ a-z- | LC_ALL=C sort; } > $(FRESH).txt
	mv $(FRESH).txt constraints.txt

clean:  ## Remove .venv, caches and builds; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
