# What people type. `make help` lists it.
SHELL := /bin/bash
GO ?= go
BIN := bin
PYTHON ?= python3
VENV := .venv
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Debian packages: what a build needs, and what runs and tests need besides.
BUILD_PACKAGES := gcc pkg-config libzmq3-dev
RUN_PACKAGES := postgresql redis-server python3
TEST_PACKAGES := $(RUN_PACKAGES) python3-venv etcd-server

.DEFAULT_GOAL := help
.PHONY: help build up test lint arrows bench bench-scheduler cluster scale faults simulate deps-build deps-run deps-test deps-cluster clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: deps-build ## build bin/backend.ai and bin/backend.ai-agent
	$(GO) build -o $(BIN)/backend.ai ./cmd/backend.ai
	$(GO) build -o $(BIN)/backend.ai-agent ./cmd/agent

up: build deps-run ## build, start a whole cluster on this machine, run a first session, keep serving
	$(BIN)/backend.ai up --check

test: deps-build deps-test $(VENV)/.ready ## run all tests, with real PostgreSQL, Redis, etcd, ZeroMQ and the official client
	BACKENDAI_TEST_PYTHON=$(CURDIR)/$(VENV)/bin/python $(GO) test -race -p 2 -timeout 18m ./...

lint: arrows ## vet, staticcheck, format and the direction of imports
	$(GO) vet ./...
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

arrows: ## check that imports only point down: cmd, api, actors, cluster and persistence, config, words
	@$(GO) run ./test/arrows

bench: build deps-test $(VENV)/.ready ## measure sessions/s, latencies and memory against real servers on this machine
	$(GO) run ./test/load bench

bench-scheduler: ## measure the scheduler's core: decisions/s, gangs, parked sessions, a trace under each policy; plots to docs/plots
	$(GO) run ./test/schedbench

SEEDS ?= 10000
FAULTS ?= 300
cluster: build deps-cluster $(VENV)/.ready ## run three managers behind a balancer, kill each of them under load, and use the official client meanwhile
	$(GO) run ./test/faults cluster

scale: build deps-cluster ## measure one, two and three nodes at the same work on this machine (4 minutes)
	$(GO) run ./test/faults scale

faults: build deps-cluster ## break things around three managers, FAULTS=300 of them at random, and check that nothing is lost (40 minutes)
	$(GO) run ./test/faults --faults $(FAULTS)

simulate: ## simulate whole clusters in virtual time, SEEDS=10000 of them, and show that a planted bug is found
	$(GO) run ./test/simulation/cmd --seeds $(SEEDS)
	$(GO) test -tags plantedbug ./test/simulation

deps-build:
	@./test/packages.sh $(BUILD_PACKAGES)

deps-run:
	@./test/packages.sh $(RUN_PACKAGES)

deps-test:
	@./test/packages.sh $(TEST_PACKAGES)

deps-cluster:
	@./test/packages.sh $(TEST_PACKAGES) haproxy

# The official client of this generation, with the versions of its dependencies that it works with.
$(VENV)/.ready: test/client/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r test/client/requirements.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps backend.ai-cli==0.6.0 backend.ai-client==22.3.2
	touch $@

clean: ## remove what was built
	rm -rf $(BIN) $(VENV)
