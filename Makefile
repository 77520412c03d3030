.DEFAULT_GOAL := help
PORT ?= 7071
SAMPLE ?= complete_journey
DATA ?= .data
WEEK ?=
ENVIRONMENT ?= dev
EFFORT ?= standard
KIND ?= validate
DIST ?= dist
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup run test check notebooks format screenshots sample clean \
	ci compliance coverage validate-models fuzz audit package deploy post-deploy publish-scoring start-run drill maturity scale

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv and the storage emulator (the other commands do this themselves)
	@scripts/setup.sh

run: setup ## The whole system on this machine; ONCE=1 ends after the summary, SAMPLE=local_testing is small, PORT=, WEEK=
	@$(PY) -m samples.demo --sample "$(SAMPLE)" --week "$(WEEK)" --data "$(DATA)" --port "$(PORT)" $(if $(ONCE),--once)

test: setup ## All tests, on real processes (ARGS='-k name' chooses)
	@$(PYTEST) $(ARGS)

check: setup ## Lint, types, dependency rules
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m scripts.export_notebooks --check

notebooks: setup ## Write the modules that notebooks export
	@$(PY) -m scripts.export_notebooks

format: setup ## Mend what ruff can mend
	@.venv/bin/ruff check --fix .

screenshots: setup ## Take the README's pictures of a running `make run` (needs Chromium)
	@$(PY) -m dashboard.screenshots --data "$(DATA)/$(SAMPLE)" --out docs/images

sample: setup ## Make the local testing data set anew
	@$(PY) -m samples.local_testing --out samples/local_testing/data

ci: AUDIT := --if-reachable
ci: check compliance audit coverage validate-models fuzz drill package ## What the pipelines do before they deploy, in their order

compliance: setup ## No secret, no personal data in fixtures, allowed licences only, rules of infra/
	@$(PY) -m scripts.compliance
	@$(PY) -m pytest -q tests/infra

coverage: setup ## All tests with coverage; results in DIST
	@mkdir -p "$(DIST)"
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-report=xml:"$(DIST)/coverage.xml" --junitxml="$(DIST)/tests.xml" $(ARGS)

validate-models: setup ## Data, training and scoring end to end on the local testing data; EFFORT=quick|standard
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && TRAIN_EFFORT="$(EFFORT)" \
	    $(PY) -m samples.demo --sample local_testing --once --port 0 --data "$$folder"

fuzz: setup ## Call every route of the OpenAPI document with right and wrong values (about two minutes)
	@$(PY) -m scripts.fuzz $(ARGS)

audit: setup ## Known vulnerabilities of the installed packages (asks PyPI; what it cannot look up is a failure)
	@$(PY) -m scripts.audit $(AUDIT)

package: setup ## functions.zip, ml.zip, manifest and bill of materials into DIST
	@$(PY) -m scripts.package --out "$(DIST)"

deploy: setup ## Bring ENVIRONMENT to the package in DIST, in full (needs az login)
	@$(PY) -m scripts.deploy --environment "$(ENVIRONMENT)" --dist "$(DIST)" $(ARGS)

post-deploy: setup ## What azd cannot do: components, database access, event subscriptions, Data Factory
	@$(PY) -m scripts.deploy --environment "$(ENVIRONMENT)" --steps components,access,events,pipelines

publish-scoring: setup ## Publish the scoring mechanism: components by version, pipelines, triggers
	@$(PY) -m scripts.deploy --environment "$(ENVIRONMENT)" --dist "$(DIST)" --steps verify,infrastructure,components,pipelines

start-run: setup ## Start a run of KIND on the app of FUNCTION_APP_URL, wait, fail unless it ends well; WEEK=
	@$(PY) -m scripts.start_run --kind "$(KIND)" --week "$(WEEK)" --outputs "$(DIST)/outputs.json" $(ARGS)

drill: setup ## Disaster recovery: lose results, task hub, curated zone; rebuild; compare bytes
	@$(PY) -m scripts.disaster_drill $(ARGS)

scale: setup ## The whole chain on synthetic data; ARGS='--stores 56 --products 10 --weeks 30' is small
	@$(PY) -m scripts.scale $(ARGS)

maturity: setup ## Where this repository stands on the MLOps maturity levels, with evidence
	@$(PY) -m scripts.maturity

clean: ## Forget everything that runs left in DATA
	@rm -rf "$(DATA)"
