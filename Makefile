# Every verb sets up what is missing. Needs python3.11 with venv, git and make; everything lands in .venv.
PYTHON ?= python3.11
# The index that torch is taken from; empty: the ordinary one (on Linux the CUDA build).
# The small CPU build: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

# The environment of the packages that `make peers` compares with.
FORCEFOUNDRY_PEERS ?= .peers
# The environment of the pair finders that `python -m benchmarks.pairs` is timed against, ours among them.
FORCEFOUNDRY_BENCH_PEERS ?= .peers-bench

BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PEERS_PIP := $(FORCEFOUNDRY_PEERS)/bin/python -m pip install --quiet --disable-pip-version-check
BENCH_PIP := $(FORCEFOUNDRY_BENCH_PEERS)/bin/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test peers check ui serve stop gpu-tests bench bench-peers clean again
.DEFAULT_GOAL := help

help:  ## list these verbs
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(READY)  ## install what requirements.lock says into .venv (TORCH_INDEX=... chooses torch's build)

demo: $(READY)  ## the main job: labelled structures -> trained and reviewed potential
	@$(BIN)/python -m pipeline run

test: $(READY)  ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

peers: $(READY)  ## compare with hippynn, installed for this in .peers (FORCEFOUNDRY_PEERS names another environment)
ifeq ($(wildcard $(FORCEFOUNDRY_PEERS)/lib/python*/site-packages/hippynn/__init__.py),)
	@$(PYTHON) -m venv $(FORCEFOUNDRY_PEERS)
	@$(PEERS_PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch==2.13.0
	@$(PEERS_PIP) hippynn==0.1.3
endif
	@FORCEFOUNDRY_PEERS=$(abspath $(FORCEFOUNDRY_PEERS)) $(BIN)/python -m pytest -m peers tests/peers

# The Triton that goes with the torch of requirements.lock; torch's CUDA build has brought it already.
gpu-tests: $(READY)  ## run the GPU pair finder's tests: on CUDA, or in Triton's interpreter, which is installed for that
	@$(PIP) triton==3.7.1
	@$(BIN)/python -m pytest tests/pairs/test_gpu_finder.py tests/pairs/test_gpu_code.py

check: $(READY)  ## lint, format, who may import whom, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

ui: $(READY)  ## open MLflow on what was tracked (MLFLOW_PORT, default 5000)
	@$(BIN)/python -m pipeline ui

serve: $(READY)  ## start a Prefect server, a worker and MLflow on this machine
	@$(BIN)/python -m pipeline serve

stop: $(READY)  ## end what serve started
	@$(BIN)/python -m pipeline stop

bench: $(READY)  ## list the benchmarks; each says how it is run
	@$(BIN)/python -m benchmarks

bench-peers:  ## install the pair finders of others beside ours into .peers-bench (FORCEFOUNDRY_BENCH_PEERS names another)
	@[ -x $(FORCEFOUNDRY_BENCH_PEERS)/bin/python ] || $(PYTHON) -m venv $(FORCEFOUNDRY_BENCH_PEERS)
	@$(BENCH_PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch==2.13.0
	@$(BENCH_PIP) -c requirements.lock -e . vesin==0.6.2 matscipy==1.3.1 neighborlist-rs==0.1.9 \
		nvalchemi-toolkit-ops==0.5.0 warp-lang==1.19.0 hippynn==0.1.3
	@echo "now: $(FORCEFOUNDRY_BENCH_PEERS)/bin/python -m benchmarks.pairs --quick"

clean:  ## remove results and caches; stay: .venv, DVC's cache, MLflow's records, the machine's pair store
	@if [ -d .forcefoundry/serve ] && [ -x $(BIN)/python ]; then $(BIN)/python -m pipeline stop; fi
	rm -rf artifacts .forcefoundry .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew when the lock or pyproject.toml changed, or when another TORCH_INDEX is named than the last time.
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(shell cat .venv/torch-index 2>/dev/null))
$(READY): again
endif
endif
again:

$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv: about two minutes the first time"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
ifneq ($(TORCH_INDEX),)
	@$(PIP) --no-deps --force-reinstall --index-url "$(TORCH_INDEX)" "$$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.lock)"
	@echo "$(TORCH_INDEX)" > .venv/torch-index
endif
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps -e .
	@touch $@
