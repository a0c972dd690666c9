# fphojax: every target builds or refreshes .venv by itself
#
#   make demo       simulate a blend of galaxies, fit it, show truth beside estimate: 3 minutes, once installed
#   make test       the unit tests
#   make test-slow  tests that take longer: whole runs, kills, clusters
#   make test-browser  the explorer's notebook in JupyterLab, Notebook 7 and voila, in Chromium if it is installed
#   make notebooks  all tutorials, with few draws
#   make docs       the documentation, build/docs/index.html, with all tutorials executed; needs no network
#   make lint       style, formatting and types
#   make bench      benchmarks (tests/benchmarks)
#   make validate   longer studies (tests/validation), and all tutorials as they are
#   make binder     the environment of Binder in an empty folder, and all tutorials in it, in 2 GB
#   make clean      remove .venv, caches and what the demo wrote

BIN := .venv/bin
STAMP := .venv/stamp

NOTEBOOKS := $(wildcard notebooks/*.ipynb)
EXECUTED := docs/tutorials/.executed

.PHONY: help demo test test-slow test-browser notebooks docs lint bench validate binder clean

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

# The first of these that is new enough; under pyenv, .python-version decides what they are.
$(STAMP): pyproject.toml
	@echo "Installing fphojax and what it needs into .venv: some minutes, and about 2 GB."
	@found=; if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
	    for python in python3 python3.13 python3.12; do \
	        if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "fphojax needs Python 3.12 or newer; found $$(python3 --version 2>&1 | head -n 1)" >&2; exit 1; \
	    fi; \
	    $$found -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cluster]'
	@touch $@

demo: $(STAMP)
	$(BIN)/fphojax demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow'

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

# Named browser_*.py, so that `make test` does not collect it.
test-browser: $(STAMP)
	$(BIN)/python -m pytest -q -o python_files='browser_*.py' tests/figures/explorer/browser_explorer.py

notebooks: $(STAMP)
	$(BIN)/python tests/run_notebooks.py --few --jobs 2 --out docs/tutorials
	@touch $(EXECUTED)

# Tutorials that are newer than their executed copies, which `make notebooks` makes anew in any case.
$(EXECUTED): $(NOTEBOOKS) | $(STAMP)
	$(BIN)/python tests/run_notebooks.py --few --jobs 2 --out docs/tutorials $?
	@touch $@

docs: $(STAMP) $(EXECUTED)
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs
	@echo "wrote build/docs/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	@set -e; for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

# Studies of their own, named validate_*.py so that `make test` does not collect them; one that finds fault ends with
# status 1.  validate_products.py wants the folders of runs, and is left to whoever has some.
validate: $(STAMP)
	$(BIN)/python tests/validation/validate_truth.py
	$(BIN)/python tests/validation/validate_optimize.py
	$(BIN)/python tests/validation/validate_bare_images.py
	$(BIN)/python tests/validation/validate_calibration.py
	$(BIN)/python tests/validation/validate_noise.py
	$(BIN)/python -m pytest -q -s tests/validation/validate_exposures.py tests/validation/validate_workers.py
	$(BIN)/python tests/run_notebooks.py
	$(BIN)/python tests/validation/validate_bare_mocks.py

binder:
	binder/check.sh

clean:
	rm -rf .venv build dist demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf docs/generated docs/pictures docs/tutorials/*.ipynb $(EXECUTED)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
