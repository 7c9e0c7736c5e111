# One command each, the same on a desk and in CI. Bare `make` explains them.
# Every target makes the virtual environment it needs; nothing has to be installed first but Python 3.11 or newer.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV := .venv
DEMO_VENV := .venv-demo
BENCH_VENV := .venv-bench
PEERS_VENV := .venv-peers
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# For `make chaos` and `make scenario`.
DURATION ?= 600
SEED ?= 1
SMOKE ?=
NAME ?=

# Where the runs of `make demo-cluster` and `make chaos` are: sqlite, postgresql or redis
STORE ?=

# What a run is given on top, such as: make test ARGS="-k retry", make demo ARGS="--folder src"
ARGS ?=

# How long `make fuzz` goes on, in all
SECONDS ?= 60

# Which seeds `make simulate` plays
SEEDS ?= 200
FROM ?= 0

COMPOSE := docker compose --file deploy/compose.yaml --project-name floxide-deploy-demo

.PHONY: rolling-deploy help demo demo-cluster deploy-demo test coverage check lint simulate fuzz bench chaos scenario soak docs format services clean bench-peers

help: ## Explain the targets
	@echo "floxide_amqp: durable, typed workflows on RabbitMQ"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  ARGS=\"…\" hands arguments on (make test ARGS=\"-k retry\"); PYTHON=… names the interpreter to use."

demo: $(DEMO_VENV)/.made ## Run the code census in one process; needs nothing but Python
	@$(DEMO_VENV)/bin/python -m examples.census $(ARGS)

demo-cluster: $(VENV)/.made services ## Run the same on RabbitMQ with three workers, one of them killed; STORE=redis and its server too
	@$(BIN)/python -m examples.census --cluster $(if $(STORE),--store $(STORE)) $(ARGS)

deploy-demo: ## Run the same in containers (deploy/README.md), once in one process and once in workers, and compare
	@set -e; trap '$(COMPOSE) down --volumes' EXIT; \
	$(COMPOSE) build; \
	$(COMPOSE) run --rm --no-deps census --output /data/census-output; \
	$(COMPOSE) up --exit-code-from census; \
	$(COMPOSE) run --rm --no-deps --entrypoint cmp census census-output/report.json census-output/cluster/report.json; \
	echo "exit code 0, and both reports are the same, to the byte"

test: $(VENV)/.made services lint ## Set everything up, check, then run all tests
	$(PYTEST) -n 2 --dist loadgroup --durations=10 $(ARGS)

coverage: $(VENV)/.made services ## Run all tests, traced and so slower, and show which lines none of them reaches
	$(PYTEST) -n 2 --dist loadgroup --cov --cov-report=term $(ARGS)

check: lint ## Lint, formatting, types (mypy and pyright), architecture
	$(PYTEST) -q tests/typing tests/unit/test_architecture.py

lint: $(VENV)/.made ## The same without the tests, which are among all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "mypy and pyright"; $(BIN)/mypy & mypy=$$!; $(BIN)/pyright; found=$$?; wait $$mypy && exit $$found

chaos: $(VENV)/.made services ## Kill, cut, wipe and fill for DURATION=600 s with SEED=1 on STORE=sqlite, then check every run; SMOKE=1 takes 30 s
	@$(BIN)/python -m tests.chaos --duration $(DURATION) --seed $(SEED) $(if $(STORE),--store $(STORE)) $(if $(SMOKE),--smoke) $(ARGS)

rolling-deploy: $(VENV)/.made services ## Replace workers of version 1 by those of version 2 while runs are under way, under each policy: RUNS=40 on STORE=postgresql
	@$(BIN)/python -m examples.rolling_deploy $(if $(STORE),--store $(STORE)) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

scenario: $(VENV)/.made services ## Show one claim about recovery with its figures: NAME=wiped-broker (ARGS=--help lists them)
	@$(BIN)/python -m tests.chaos $(NAME) --seed $(SEED) $(ARGS)

simulate: $(VENV)/.made ## Play SEEDS=200 simulations of random workflows under random faults, from seed FROM=0 on
	@$(BIN)/python -m floxide_amqp.testing.simulation --seeds $(SEEDS) --start $(FROM) $(ARGS)

soak: $(VENV)/.made services ## Run the tests that take minutes: real timeouts, a cluster losing node after node
	$(PYTEST) -m soak --durations=0 $(ARGS)

fuzz: $(VENV)/.made ## Feed every decoder and the command line damaged and made-up input for SECONDS=60 in all, each round another seed
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

bench: $(VENV)/.made services ## Measure chains and fan-outs on every queue and store there is
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(BENCH_VENV)/.made $(PEERS_VENV)/.made services ## Measure chains here and with Celery, Dramatiq, Taskiq, DBOS, LangGraph, Restate and Prefect, on the same servers; fan-outs, long contexts, starts, waiting runs and recovery here (--part, --without, --large-rounds N for 100,000 of each)
	@$(BENCH_VENV)/bin/python -m benchmarks peers --tools $(PEERS_VENV) $(ARGS)

docs: $(VENV)/.made ## Check the examples and links in the documents; write the API reference to build/docs
	$(PYTEST) -q tests/unit/test_documents.py
	$(BIN)/pdoc --docformat google --output-directory build/docs floxide_amqp
	@echo "the API reference is build/docs/index.html"

format: $(VENV)/.made ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

services: $(VENV)/.made ## Make sure that RabbitMQ and the stores' servers can be reached or launched
	@$(BIN)/python -m floxide_amqp.testing.services install

clean: ## Remove the environments and everything made
	rm -rf $(VENV) $(DEMO_VENV) $(BENCH_VENV) $(PEERS_VENV) build dist census-output .coverage .coverage.* \
	    .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) dev
	@touch $@

$(BENCH_VENV)/.made: pyproject.toml scripts/make-venv
	@scripts/make-venv $(BENCH_VENV) bench
	@touch $@

# The other projects have an environment of their own: what they need is none of ours.
RESTATE_SERVER := @restatedev/restate-server@1.7.12

$(PEERS_VENV)/.made: benchmarks/peers/requirements.txt
	@$(or $(PYTHON),python3) -m venv $(PEERS_VENV)
	@$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@command -v npm >/dev/null || echo "There is no npm, from which Restate's server comes: it will not be among the peers." >&2
	@! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(PEERS_VENV)/npm $(RESTATE_SERVER)
	@touch $@

$(DEMO_VENV)/.made: pyproject.toml scripts/make-venv
	@scripts/make-venv $(DEMO_VENV)
	@touch $@
