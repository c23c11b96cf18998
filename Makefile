# Podium's commands. `make help` lists them; hack/podium_dev does the work.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
DEV := PYTHONPATH=$(CURDIR)/hack $(PYTHON) -m podium_dev
VENV_PYTHON := $(VENV)/bin/python
DEMO ?=
TESTS ?=
ROUNDS ?= 1
SEED ?=
CHAOS ?=
BENCH ?=
LOAD := PYTHONPATH=services:operator:hack:. $(VENV_PYTHON) -m tests.load

##@ Run it
.PHONY: up
up: ## Cluster, images, operator and sample to Ready (CLUSTER=local|kind|current)
	@$(DEV) up

.PHONY: down
down: ## Remove everything that `make up` made (the cache of compiled tools stays)
	@$(DEV) down

.PHONY: info
info: ## One JSON object: URLs, a client's credentials, kubeconfig (use `make -s info`)
	@$(DEV) info

.PHONY: demo
demo: $(VENV)/.installed ## Players who earn signed points until Ctrl-C (DEMO="--players 50 --seconds 60")
	@$(DEV) info | PYTHONPATH=services $(VENV_PYTHON) -m podium.demo $(DEMO)

.PHONY: kubectl
kubectl: ## kubectl against the instance: make kubectl ARGS="get pods -A"
	@$(DEV) kubectl $(ARGS)

.PHONY: memory
memory: ## Resident memory of the local cluster
	@$(DEV) memory

##@ Parts
.PHONY: cluster-up
cluster-up: ## An empty local cluster; prints the path of its kubeconfig
	@$(DEV) cluster-up

.PHONY: cluster-down
cluster-down: down ## The same as `make down`

.PHONY: images
images: ## Build the images whose content changed, import them if the local cluster runs
	@$(DEV) images

.PHONY: tools
tools: ## Install and compile everything that images and tests need
	@$(DEV) tools

.PHONY: venv
venv: $(VENV)/.installed ## The Python environment of services, operator and tests

$(VENV)/.installed: requirements-dev.lock
	@$(DEV) packages
	@echo "Installing the Python environment into $(VENV) (usually one to two minutes)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

##@ Check it
.PHONY: test
test: $(VENV)/.installed ## Everything: lint, types, charts, unit, integration, operator, end to end (TESTS="--only lint types")
	@$(VENV_PYTHON) hack/checks/suite.py $(TESTS)

.PHONY: chaos
chaos: $(VENV)/.installed ## Every fault at random under load; the ledger must stay clean (ROUNDS=n SEED=n CHAOS="--only nats-away")
	@PYTHONPATH=.:services:hack $(VENV_PYTHON) -m tests.chaos --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(CHAOS)

.PHONY: lint
lint: $(VENV)/.installed ## ruff, mypy --strict, import contracts
	@$(VENV_PYTHON) hack/checks/suite.py --only lint types imports

.PHONY: format
format: $(VENV)/.installed ## Format the Python sources
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

.PHONY: openapi
openapi: $(VENV)/.installed ## Write the published OpenAPI document from the services
	@$(VENV_PYTHON) hack/checks/openapi.py

.PHONY: docs
docs: $(VENV)/.installed ## Write the field tables of docs/resource.md from the CRD
	@$(VENV_PYTHON) hack/checks/reference.py

##@ Measure it
.PHONY: bench
bench: $(VENV)/.installed ## All benches, one after the other; tables, ratios and build/bench/*.json
	@$(LOAD) all $(BENCH)
	@$(LOAD).rebuild
	@$(LOAD).shards

.PHONY: bench-write
bench-write: $(VENV)/.installed ## Score updates beside a Go service (BENCH="--rounds 1 --seconds 3" is short)
	@$(LOAD) write $(BENCH)

.PHONY: bench-read
bench-read: $(VENV)/.installed ## Scoreboard reads beside a plain FastAPI + Redis read
	@$(LOAD) read $(BENCH)

.PHONY: bench-fanout
bench-fanout: $(VENV)/.installed ## One snapshot to 2,000 and 8,000 WebSockets, beside centrifuge and a bare loop of send()
	@$(LOAD).fanout $(BENCH)

.PHONY: bench-cdn
bench-cdn: $(VENV)/.installed ## 2,000 reads/s through Varnish: what the origin sees, how old answers are (BENCH="--url URL")
	@$(LOAD).cdn $(BENCH)

.PHONY: bench-storm
bench-storm: $(VENV)/.installed ## 8,000 watchers through the gateway of a cluster: changes, all cut off at once, a rolling update
	@$(LOAD).storm $(BENCH)

.PHONY: bench-rebuild
bench-rebuild: $(VENV)/.installed ## A million users built anew in a wiped Redis, under load; compared with SQL row by row
	@$(LOAD).rebuild $(BENCH)

.PHONY: bench-shards
bench-shards: $(VENV)/.installed ## What a shard of a board costs, and what 100 million users would need
	@$(LOAD).shards $(BENCH)

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
