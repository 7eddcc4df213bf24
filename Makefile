PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
export HF_HUB_OFFLINE ?= 1
export NO_MKDOCS_2_WARNING = 1

.PHONY: help setup demo test test-fast lint type docs ui

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(STAMP) ## create .venv and install everything

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[flows,histology,serve,dev,docs]'
	touch $(STAMP)

demo: $(STAMP) ## train, fit and evaluate a model of MNIST, in about 14 minutes
	$(BIN)/python -m flows.pipeline configs/mnist-quick.toml

test: $(STAMP) ## the test suite
	$(BIN)/python -m pytest -n 2

test-fast: $(STAMP) ## the quick tests: nothing is trained, served or evaluated; under a minute
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(STAMP) ## style and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(STAMP) ## static types
	$(BIN)/mypy

docs: $(STAMP) ## the documentation as a site in site/; warnings are errors
	$(BIN)/mkdocs build --strict --quiet

ui: $(STAMP) ## a Prefect server on loopback; set PREFECT_API_URL as it says to report to it
	$(BIN)/prefect server start --host 127.0.0.1
