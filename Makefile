# Two commands matter: `make demo` (fresh clone to a result) and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed
export HF_HUB_DISABLE_TELEMETRY ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-evidence demo-parsing demo-segmentation demo-all test test-slow check format bench clean

help: ## What each command does
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36mmake %-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt requirements/offline-nodeps.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Primum needs Python 3.11 or newer; say which: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(PY) -m uv pip install --quiet --compile-bytecode -c constraints.txt -e '.[all,dev,peers]'
	$(PY) -m uv pip install --quiet --no-deps -r requirements/offline-nodeps.txt
	@touch $@

setup: $(INSTALLED) ## Make .venv and install everything, nothing else

demo: $(INSTALLED) ## Fine-tune a real 135M model for safety, measure it before and after, show the report
	@bash demos/alignment.sh

demo-evidence: $(INSTALLED) ## The slow proof: three seeds, paired per prompt (about half an hour)
	@bash demos/alignment_evidence.sh

demo-parsing: $(INSTALLED) ## Read a PDF of ours with our own tiny model, plainly and with drafts, and show the report
	@bash demos/parsing.sh

demo-segmentation: $(INSTALLED) ## Cut real photographs into nested regions without a label, show the gallery (a minute)
	@bash demos/segmentation.sh

demo-all: $(INSTALLED) ## The demo of every family, one after another
	@for family in alignment segmentation parsing; do \
	  test ! -f demos/$$family.sh || bash demos/$$family.sh || exit; done

test: $(INSTALLED) ## All tests but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadgroup -m "not slow" --durations=10

test-slow: $(INSTALLED) ## The slow tests, one after another
	$(PY) -m pytest -q -m slow --durations=0

check: $(INSTALLED) ## Format, lint, types, layers and the quick tests, in a minute and a half
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(dir $(PY))lint-imports --no-cache
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 -m "not slow and not process and not seconds"

format: $(INSTALLED) ## Format the code and mend what ruff can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(INSTALLED) ## Training speed against TRL, in turn in one run
	.venv/bin/primum bench train

clean: ## Remove .venv and caches; outputs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
