# Everything a newcomer needs: `make run`, and `make check` and `make test` for changes. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := $(VENV)/.compiled
PEERS := .venv-bench
CORE_TESTS := tests/core
WORKERS := 2
# A file's tests run in one worker, in the order in which tests/conftest.py puts the files.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder -p no:benchmark
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

.PHONY: help run check test faults soak bench bench-quick calibrate lint format lock servers clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(COMPILED) ## Run everything on simulated traffic and open the page; Ctrl-C stops, again goes on (ARGS="--rate 50")
	@$(BIN)/monitor run $(ARGS)

check: $(COMPILED) lint ## Check style, types and imports, and test the core: about a minute
	$(BIN)/python -m pytest $(PARALLEL) $(CORE_TESTS)

test: $(COMPILED) lint ## Check and test everything, on real Kafka, KairosDB and Chromium where they are there (ARGS="tests/core -k x")
	@if [ -n "$$CI" ]; then $(BIN)/python -m tests.support.browser install; fi
	$(BIN)/python -m pytest $(or $(ARGS),$(PARALLEL))
	$(if $(ARGS),,$(BIN)/python -m pytest $(PARALLEL) -p tests.support.interpreted_core $(CORE_TESTS))

faults: $(COMPILED) ## Play SEEDS=20 scenarios of faults, each from a seed of its own, against the whole job
	$(BIN)/python -m tests.support.faults --seeds $(or $(SEEDS),20) $(ARGS)

soak: $(COMPILED) ## Run the job under load for MINUTES=10 and hold memory, files and lag against bounds
	$(BIN)/python -m tests.support.soak --minutes $(or $(MINUTES),10) $(ARGS)

bench: $(COMPILED) $(PEERS)/.ready ## Measure everything, beside the peers: about a quarter of an hour
	BENCH_SPARK_PYTHON=$(PEERS)/bin/python $(BIN)/python -m bench.run $(ARGS)
	$(BIN)/python -m pytest bench/test_pure.py

bench-quick: $(COMPILED) ## Measure most of it, smaller: about 2 minutes
	$(BIN)/python -m bench.run --quick $(ARGS)

calibrate: $(READY) ## Measure the verdicts' false alarms and times to detect on WEEKS=100 simulated weeks: some minutes
	$(BIN)/python -m bench.calibrate --weeks $(or $(WEEKS),100) $(ARGS)

lint: $(READY) ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY) ## Pin the newest dependencies that fit pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile --group pyproject.toml:bench --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements-bench.lock

servers: $(COMPILED) ## Run a real Kafka and KairosDB in the foreground (needs Java 17 and Maven); Ctrl-C stops them
	@$(BIN)/python -m tests.support.servers run

clean: ## Remove the environment, what was compiled, and what `make run` has stored
	rm -rf $(VENV) $(PEERS) var monitor/core/*.so

# The first suitable interpreter makes the environment; requirements.lock pins it, hashes and all.
$(READY): requirements.lock pyproject.toml
	@for python in $(PYTHON) python3.12 python3.11 python3 python; do \
	  if $$python -c '$(SUITABLE)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "This needs Python 3.11 or 3.12: Bytewax 0.21.1 has no wheels for others. Found: $$(python3 --version 2>&1)." >&2; \
	  echo "Install one of them, or name it: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12" >&2; \
	  exit 2; \
	fi; \
	echo "Making the environment with $$($$found --version)"; \
	[ -x $(BIN)/python ] && $(BIN)/python -c '$(SUITABLE)' || $$found -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The core as machine code, where there is a C compiler.
$(COMPILED): $(READY) hatch_build.py $(wildcard monitor/core/*.py)
	@echo "Compiling the core"
	@$(BIN)/python hatch_build.py > $(VENV)/compile.log
	@touch $@

# What the peers of the benchmarks need is large, and nothing that the monitor needs.
$(PEERS)/.ready: requirements-bench.lock $(READY)
	@[ -x $(PEERS)/bin/python ] || $(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@
