.DEFAULT_GOAL := help
PORT ?= 7071
SAMPLE ?= complete_journey
DATA ?= .data
WEEK ?=
PY := .venv/bin/python

.PHONY: help setup run test check format screenshots sample clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv and the storage emulator (the other commands do this themselves)
	@scripts/setup.sh

run: setup ## The whole system on this machine; ONCE=1 ends after the summary, SAMPLE=local_testing is small, PORT=, WEEK=
	@$(PY) -m samples.demo --sample "$(SAMPLE)" --week "$(WEEK)" --data "$(DATA)" --port "$(PORT)" $(if $(ONCE),--once)

test: setup ## All tests, on real processes (ARGS='-k name' chooses)
	@$(PY) -m pytest $(ARGS)

check: setup ## Lint, types, dependency rules
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: setup ## Mend what ruff can mend
	@.venv/bin/ruff check --fix .

screenshots: setup ## Take the README's pictures of a running `make run` (needs Chromium)
	@$(PY) -m dashboard.screenshots --data "$(DATA)/$(SAMPLE)" --out docs/images

sample: setup ## Make the local testing data set anew
	@$(PY) -m samples.local_testing --out samples/local_testing/data

clean: ## Forget everything that runs left in DATA
	@rm -rf "$(DATA)"
