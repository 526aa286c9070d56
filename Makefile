# Two commands matter: `make up` starts the whole platform here, `make test` runs every test that needs no cluster.
# Needs a Python from 3.11 to 3.13 and make; everything else is installed into .venv/ from hashed lock files.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Set in many containers; here each of the hundreds of processes that tests start would compile all our code for itself.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv $$([ -t 2 ] || echo --quiet)

FILE ?= k8s/samples/minimal.yaml
PORT ?=
KNOWLEDGE ?=
ENV_FILE ?=
ARGS ?=
SERVICE ?=
PYTEST_ARGS ?= -n 5
E2E_KUBECONFIG ?=
E2E_HELM_ARGS ?=
E2E_ARGS ?=

MEMBERS := resource services/common services/gateway services/auth services/chat services/conversation cli operator
DEPLOYABLES := gateway auth chat conversation
PACKAGES := $(foreach name,resource common gateway auth chat conversation cli operator platform,--no-emit-package chatbot-$(name))
COMPILE := $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(PACKAGES)

# -- Running ----------------------------------------------------------------------------------------------------------

.PHONY: up
up: $(VENV)/.laptop ## Start the platform and wait until it answers (FILE= PORT= KNOWLEDGE= ENV_FILE= ARGS=)
	@$(BIN)/chatbot up -f $(FILE) $(if $(PORT),--port $(PORT)) $(if $(KNOWLEDGE),--knowledge $(KNOWLEDGE)) \
		$(if $(ENV_FILE),--env-file $(ENV_FILE)) $(ARGS)

.PHONY: down
down: $(VENV)/.laptop ## Stop it; what was said is kept (ARGS=--purge removes it)
	@$(BIN)/chatbot down $(ARGS)

.PHONY: restart
restart: down up ## Stop it and start it again

.PHONY: status
status: $(VENV)/.laptop ## Show each process: state, memory, uptime, port
	@$(BIN)/chatbot status $(ARGS)

.PHONY: logs
logs: $(VENV)/.laptop ## Follow the logs (SERVICE=chat for one)
	@$(BIN)/chatbot logs --follow $(SERVICE) $(ARGS)

.PHONY: chat
chat: $(VENV)/.laptop ## Talk to it in the terminal
	@$(BIN)/chatbot chat $(ARGS)

.PHONY: start-all restart-all
start-all: up ## The same as up
restart-all: restart ## The same as restart

# -- A real Kubernetes on this machine: Debian, Go and root, no Docker; see k8s/local/README.md -------------------------

CLUSTER = $(BIN)/python k8s/local

.PHONY: cluster-up
cluster-up: $(VENV)/.laptop ## Start a Kubernetes here with the images of this checkout; the first time this builds it all
	@$(CLUSTER) build kubernetes etcd metrics-server weaviate
	@$(CLUSTER) up
	@$(CLUSTER) images

.PHONY: images
images: $(VENV)/.laptop ## Build the images of this checkout and load them into that cluster (ARGS="chat operator")
	@$(CLUSTER) images $(ARGS)

.PHONY: cluster-down
cluster-down: $(VENV)/.laptop ## Stop that Kubernetes and remove its state; what was built stays
	@$(CLUSTER) down

.PHONY: cluster-status
cluster-status: $(VENV)/.laptop ## Show its processes, node and pods
	@$(CLUSTER) status

.PHONY: cluster-build
cluster-build: $(VENV)/.laptop ## Build its programs, and those its tests need, without starting it
	@$(CLUSTER) build

# No context is ever guessed: it is the cluster above, or the one you name.
.PHONY: e2e
e2e: $(VENV)/.dev ## A user's day on a real cluster (E2E_KUBECONFIG=file for another one, E2E_HELM_ARGS="--set registry=…")
	@$(if $(E2E_KUBECONFIG),,$(CLUSTER) build jaeger && $(CLUSTER) images jaeger && unset KUBECONFIG && \
		settings=$$($(CLUSTER) env) && eval "$$settings" &&) \
		E2E_KUBECONFIG="$(or $(E2E_KUBECONFIG),$$KUBECONFIG)" E2E_HELM_ARGS="$(E2E_HELM_ARGS)" \
		$(BIN)/pytest -m cluster -n 0 tests/e2e/cluster $(E2E_ARGS)

.PHONY: e2e-extra
e2e-extra: $(VENV)/.dev ## What others' controllers make of a bot: Traefik, KEDA, CloudNativePG, built the first time (15 min), no cluster
	@$(CLUSTER) build etcd kubernetes traefik keda cloudnative-pg prometheus
	@CHATBOT_REQUIRE_CLUSTER=1 $(BIN)/pytest -m extra -n 0 tests/e2e/extra $(E2E_ARGS)

.PHONY: cluster-env
cluster-env: $(VENV)/.laptop ## Print what a shell needs to use it, for eval
	@$(CLUSTER) env

.PHONY: kind-up
kind-up: ## Start a kind cluster where there is Docker; then: skaffold run (see k8s/kind/README.md)
	@k8s/kind/up

.PHONY: kind-down
kind-down: ## Remove that kind cluster
	@kind delete cluster --name chatbot

# -- Working on it ----------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.dev ## Install everything for development into .venv/ (PYTHON= chooses the interpreter)

.PHONY: test
test: $(VENV)/.dev ## Run all tests that need no cluster (PYTEST_ARGS="-n 0 tests/cli")
	@$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: bench-operator
bench-operator: $(VENV)/.dev ## Measure the operator with many resources (ARGS="--sizes 1000 --json FILE"; ARGS=--help)
	@$(BIN)/python benchmarks/operator $(ARGS)

.PHONY: bench-turn
bench-turn: $(VENV)/.dev ## Measure a turn beside LiteLLM and Portkey's gateway (ARGS="--short"; ARGS=--help)
	@$(BIN)/python benchmarks/turn $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style and the walls between the packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev ## Rewrite the code in the one style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.dev ## Check the types of all code, strictly
	@$(BIN)/mypy $(addsuffix /src,$(MEMBERS)) k8s/local charts/chartvalues.py tests/support benchmarks/operator/operatorbench benchmarks/turn/turnbench

.PHONY: generate
generate: $(VENV)/.dev ## Write what is made: crds/, the chart's copy, its dashboard, the reference; schema and table of the chart's values
	@$(BIN)/python -m chatbot_resource.crd
	@$(BIN)/python -m chatbot_operator.reference
	@$(BIN)/python -m chatbot_operator.overview
	@$(BIN)/python charts/chartvalues.py

.PHONY: lock
lock: $(VENV)/.bootstrap ## Choose versions anew and write requirements/*.txt
	@echo "requirements/bootstrap.txt"
	@$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	@echo "requirements/dev.txt"
	@$(COMPILE) pyproject.toml --group dev -o requirements/dev.txt
	@echo "requirements/laptop.txt"
	@$(COMPILE) cli/pyproject.toml --extra laptop -c requirements/dev.txt -o requirements/laptop.txt
	@for name in $(DEPLOYABLES); do echo "requirements/$$name.txt"; \
		$(COMPILE) services/$$name/pyproject.toml --all-extras -c requirements/dev.txt -o requirements/$$name.txt || exit 1; done
	@echo "requirements/operator.txt"
	@$(COMPILE) operator/pyproject.toml --extra controller -c requirements/dev.txt -o requirements/operator.txt
	@echo "requirements/stores.txt"
	@$(COMPILE) requirements/stores.in -c requirements/dev.txt -o requirements/stores.txt

.PHONY: wheels
wheels: $(VENV)/.bootstrap ## Build every package into dist/
	@for member in $(MEMBERS); do $(UV) build --quiet --no-build-isolation --wheel --out-dir dist $$member || exit 1; done
	@ls dist

.PHONY: clean
clean: ## Remove .venv/ and caches; bots and their data stay
	@if [ -x $(BIN)/chatbot ]; then $(BIN)/chatbot down >/dev/null 2>&1 || true; fi
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1mmake %-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# -- The environment --------------------------------------------------------------------------------------------------
# Each stamp is newer than what it was made from, so that a second call costs nothing. What is done is told on standard
# error: what make was asked for may be for a shell to read, such as `eval "$(make cluster-env)"`.

$(VENV)/.bootstrap: requirements/bootstrap.txt
	@if [ ! -x $(BIN)/python ]; then \
		chosen=""; \
		for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
			if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
				chosen=$$candidate; break; \
			fi; \
		done; \
		if [ -z "$$chosen" ]; then \
			echo "No Python from 3.11 to 3.13 was found (looked for: $(or $(PYTHON),python3.13 python3.12 python3.11 python3))." >&2; \
			echo "Install one, or name it: make $(or $(MAKECMDGOALS),up) PYTHON=/path/to/python3" >&2; exit 1; \
		fi; \
		if ! $$chosen -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$chosen cannot make virtual environments: its module ensurepip is missing." >&2; \
			echo "On Debian and Ubuntu: sudo apt install $$(basename $$chosen)-venv" >&2; exit 1; \
		fi; \
		echo "Making .venv/ with $$($$chosen -V)" >&2; \
		$$chosen -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; \
	fi
	@echo "Installing the installer (uv)" >&2
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

$(VENV)/.laptop: $(VENV)/.bootstrap requirements/laptop.txt $(addsuffix /pyproject.toml,$(MEMBERS))
	@if [ -f $(VENV)/.dev ]; then $(MAKE) $(VENV)/.dev; else $(call install,laptop); fi
	@touch $@

$(VENV)/.dev: $(VENV)/.bootstrap requirements/dev.txt $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(call install,dev)
	@touch $@ $(VENV)/.laptop

# Compiled while installing: every process then starts in a second instead of several.
define install
	echo "Installing $$(grep -c '==' requirements/$(1).txt) packages (requirements/$(1).txt); the first time this downloads them" >&2; \
	$(UV) pip install --no-deps --require-hashes --compile-bytecode -r requirements/$(1).txt || exit 1; \
	$(UV) --quiet pip install --no-deps --no-build-isolation $(addprefix -e ,$(addprefix ./,$(MEMBERS)))
endef
