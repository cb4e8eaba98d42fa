# Hotseat's workshop. `make` alone lists what there is; the same checks run in CI (`.ci/run`) and here (`make check`).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
CHAOS_FAULTS ?= 200
# One process for each core, four at most: every process starts servers of its own. `make test` has lanes (tests/lanes.py).
TEST_PROCESSES ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ "$$n" -le 1 ] && echo 0 || { [ "$$n" -gt 4 ] && echo 4 || echo "$$n"; })
SIDE_BY_SIDE = -n $(TEST_PROCESSES) --dist worksteal
NOT_IN_CI = -m "not chaos and not long"
LOCKED := runtime demo dev
DOWNLOAD_runtime := 40 MB
DOWNLOAD_demo := 350 MB, 240 MB of them the first model
DOWNLOAD_dev := 400 MB
SOURCES = $(wildcard hotseat broker gpu_worker hooks schemas simulator harness tests bench)
PACKAGES = $(wildcard hotseat broker gpu_worker hooks schemas simulator harness bench)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------------------------- install
$(BIN)/python:
	@echo "· creating $(VENV)"
	@deploy/find-python -m venv $(VENV) || { rm -rf $(VENV); echo "Could not create a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# One stamp per lock file: a second `make up` installs nothing and starts at once. The dev set includes the demo set.
$(VENV)/.installed-%: requirements/%.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "· installing the locked $* packages, hashes checked (once; about $(DOWNLOAD_$*) to download)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/$*.txt \
	  | sed -un 's/^ *Downloading \([^ ]*\)\(.*\)/    downloading \1\2/p; s/^Installing collected packages.*/    installing/p'
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: install
install: $(VENV)/.installed-dev ## everything for working on Hotseat, into .venv

# ----------------------------------------------------------------------------------------------------------- run
.PHONY: up
up: $(VENV)/.installed-demo ## start everything and watch three agents take turns (NO_DEMO=1: no agents)
	@exec $(BIN)/hotseat up $(if $(NO_DEMO),--no-demo) $(ARGS)

# -------------------------------------------------------------------------------------------------------- checks
.PHONY: check
check: format-check lint types floors generated plugin test-all ## all that CI checks

.PHONY: format
format: install ## rewrite the code in the house style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only --quiet .

.PHONY: format-check
format-check: install ## is the code in the house style?
	@$(BIN)/ruff format --check .

.PHONY: lint
lint: install ## ruff, every rule
	@$(BIN)/ruff check .

.PHONY: types
types: install ## mypy --strict
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))

.PHONY: floors
floors: install ## who may import whom
	@$(BIN)/lint-imports

.PHONY: generated
generated: install ## are the generated schemas in step with the code?
	@$(BIN)/hotseat export-schemas --check

# Where there is no npm the built plugin cannot be checked; CI has one.
.PHONY: plugin
plugin: ## the OpenClaw plugin: generated types in step, built, tested
	@if ! command -v npm >/dev/null; then echo "no npm here: the OpenClaw plugin is neither built nor tested"; exit 0; fi; \
	  cd hooks/openclaw/plugin && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error && npm run --silent generated \
	  && npm run --silent types && npm run --silent build && npm test --silent

BUILT_PLUGIN = $(if $(shell command -v npm),hooks/openclaw/plugin/dist/index.js)
hooks/openclaw/plugin/dist/index.js: $(wildcard hooks/openclaw/plugin/src/*.ts)
	@$(MAKE) plugin

.PHONY: test-openclaw
test-openclaw: install plugin ## a real OpenClaw gateway with the plugin, on loopback (installs Node and OpenClaw into a cache)
	@$(BIN)/python -m tests.openclaw $(ARGS)

.PHONY: test-openclaw-short
test-openclaw-short: install $(BUILT_PLUGIN) ## the short form of it, as in CI: two to three minutes, one more for the first install
	@if ! command -v npm >/dev/null; then echo "no npm here: no OpenClaw to test with"; exit 0; fi; \
	  $(BIN)/python -m tests.openclaw --short $(ARGS)

.PHONY: test
test: install ## all tests but chaos and the long ones
	@$(BIN)/python -m tests.lanes $(NOT_IN_CI) $(ARGS)

.PHONY: test-all
test-all: install $(BUILT_PLUGIN) ## all tests that CI runs: beside `test` the short chaos and a real OpenClaw gateway
	@$(BIN)/python -m tests.lanes --also chaos-short --also test-openclaw-short $(NOT_IN_CI) $(ARGS)

.PHONY: test-long
test-long: install ## the tests that take a minute or more by design
	@$(BIN)/pytest -m long $(ARGS)

.PHONY: search
search: install ## the property tests with twenty times as many examples, drawn anew (SEARCH_TIMES=20)
	@SEARCH_TIMES=$(or $(SEARCH_TIMES),20) $(BIN)/pytest tests/property tests/simulation $(SIDE_BY_SIDE) $(ARGS)

.PHONY: test-short
test-short: install ## the tests that take seconds
	@$(BIN)/pytest -m "not chaos and not slow and not long" $(SIDE_BY_SIDE) $(ARGS)

.PHONY: chaos
chaos: install ## kill, pause and cut off real processes (CHAOS_FAULTS=200, CHAOS_SEED=n to repeat a run)
	@$(BIN)/python -m tests.chaos --faults $(CHAOS_FAULTS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) --real-servers $(ARGS)

.PHONY: chaos-short
chaos-short: install
	@$(BIN)/pytest -m chaos tests/chaos $(ARGS)

.PHONY: data-path
data-path: install ## waits of 90 s for each client profile, 8 clients over 2 real models for 5 minutes
	@$(BIN)/python -m tests.data_path $(ARGS)

.PHONY: demo-fairness
demo-fairness: install ## who waits how long for a busy GPU: Hotseat beside llama-server's router (LLAMA_SERVER=path)
	@$(BIN)/python -m bench.v1_fairness $(if $(LLAMA_SERVER),--llama-server $(LLAMA_SERVER)) $(ARGS)

.PHONY: mutants
mutants: install ## break policy and Lua on purpose: every mutant must be killed by the suite
	@$(BIN)/python tests/mutants/run.py $(ARGS)

.PHONY: soak
soak: install ## the chaos run for hours (CHAOS_FAULTS=5000)
	@$(MAKE) chaos CHAOS_FAULTS=$(if $(filter 200,$(CHAOS_FAULTS)),5000,$(CHAOS_FAULTS))

.PHONY: bench
bench: install ## benchmarks: BENCH=lease_path, grants, fairness, gateway, look_through, false_alarms, load_overhead, poller or simulation (ARGS="--help")
	@$(if $(BENCH),$(BIN)/python -m bench.$(BENCH) $(ARGS),echo "make bench BENCH=…: $(sort $(basename $(notdir $(wildcard bench/[a-z]*.py))))")

# -------------------------------------------------------------------------------------------------------- upkeep
UV_COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras $(ARGS)

.PHONY: lock
lock: install ## resolve again: requirements/*.txt with hashes (ARGS=--upgrade for newer versions)
	@$(UV_COMPILE) requirements/build.in -o requirements/build.txt
	@$(UV_COMPILE) --extra demo --extra dev --extra mcp pyproject.toml -o requirements/dev.txt
	@$(UV_COMPILE) --extra demo -c requirements/dev.txt pyproject.toml -o requirements/demo.txt
	@$(UV_COMPILE) -c requirements/dev.txt pyproject.toml -o requirements/runtime.txt
	@$(UV_COMPILE) --extra mcp -c requirements/dev.txt pyproject.toml -o requirements/mcp.txt

.PHONY: clean
clean: ## remove the environment and every cache; state and models stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	@find . -name __pycache__ -not -path './node_modules/*' -prune -exec rm -rf {} +
