# Everything a contributor or a newcomer runs. Needs Python 3.11 or newer with pip, and make; the rest goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python; do $$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $$p && break; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# pip compiles what it copies, but not sources that it links to. Where Python is told to write no bytecode, every command
# would compile them anew, a third of a second each time.
COMPILE := $(BIN)/python -m compileall -q src/thawline

# The numerical libraries start one thread per core each; the tests are many small jobs, for which that is slower. So
# each core runs tests of its own, and an idle one takes over from another. A process may hold 2 GB: four at most.
test test-all: export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format docs bench bench-gpu constraints extras clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(VENV)/.core  ## the whole path on data that ships: features, head, evaluation, report, prediction
	$(BIN)/thawline demo

test: $(VENV)/.dev  ## the first tier of the tests, with coverage of at least 90 % (about 7 minutes)
	$(PYTEST) --cov --cov-report=term --cov-fail-under=90

test-all: $(VENV)/.extras test  ## both tiers: also whole journeys, sweeps, every backbone, real data (about 20 minutes)
	$(PYTEST) -m 'slow and not gpu and not network'
	$(PYTEST) tests/properties --hypothesis-profile=thorough

extras: $(VENV)/.extras  ## install the libraries of the extras, too: without them their tests are skipped, saying so

check: $(VENV)/.dev  ## lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.dev  ## run every benchmark, and gather them in benchmarks/RESULTS.md (an hour and more)
	@for script in $(filter-out benchmarks/results.py,$(wildcard benchmarks/*.py)) benchmarks/results.py; do \
	  echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

bench-gpu: $(VENV)/.dev  ## the same on a CUDA card, where there is one
	$(BIN)/python benchmarks/gpu/extraction.py

constraints: $(VENV)/.dev  ## choose the newest versions again, and write constraints.txt
	$(BIN)/python -m pip install --quiet uv
	grep -E '^(#|torch(vision)?==)' constraints.txt > $(VENV)/pins.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra hub --extra keras --extra hf --extra export --universal --python-version 3.11 \
	  --no-annotate --no-header --quiet -c $(VENV)/pins.txt -o $(VENV)/pins.compiled.txt --upgrade
	{ grep '^#' $(VENV)/pins.txt; grep -vE '^(nvidia-|cuda-|triton)' $(VENV)/pins.compiled.txt; } > constraints.txt

clean:  ## remove what was built; keeps .venv
	rm -rf build dist site .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { \
	  echo "Thawline needs Python 3.11 or newer; '$(or $(PYTHON),python3)' is not. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "Could not make $(VENV). On Debian and Ubuntu, first install the package python3-venv." >&2; exit 1; }

# Each stamp says: this environment holds what the two files ask for. The larger environment contains the smaller.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Thawline into $(VENV) (once; a few minutes)"
	@$(INSTALL) -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Thawline and its development tools into $(VENV) (once; a few minutes)"
	@$(INSTALL) -e ".[dev,hub]"
	@$(COMPILE)
	@touch $(VENV)/.core $@

$(VENV)/.extras: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Thawline, its development tools and every model library into $(VENV) (once; a few minutes)"
	@$(INSTALL) -e ".[dev,hub,keras,hf,export]"
	@$(COMPILE)
	@touch $(VENV)/.core $(VENV)/.dev $@
