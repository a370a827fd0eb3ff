# `make` alone lists what can be made. Only Python 3.11 or newer, git and make are needed; everything else is
# installed into .venv, at the exact versions of constraints.txt.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(if $(shell command -v $(name) 2>/dev/null),$(name))))
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8000
# one torch thread a process is faster for small networks, and the tests use both cores themselves
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help book test test-kernels lint serve clean

help:  ## list what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(STAMP)  ## run the chapters, judge their claims, build the pages
	@$(BIN)/repro build

test: $(STAMP)  ## run all tests, every chapter in its smoke profile included
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-kernels: $(STAMP)  ## run what computes numbers as on other processors (an hour or two)
	@$(BIN)/python tests/kernels.py

lint: $(STAMP)  ## check style, layering and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

serve: book  ## build the book and serve it at http://localhost:8000 (PORT=...)
	@echo "Serving http://localhost:$(PORT)/ (stop with Ctrl-C)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean:  ## remove what was built and run (the virtual environment stays)
	rm -rf _build .repro build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks \
		.import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# installed again only when what it depends on has changed
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or newer, or say PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@
