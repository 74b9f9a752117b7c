# Every verb sets up what is missing. Needs python3.11 with venv, git and make; everything lands in .venv.
PYTHON ?= python3.11
# The index that torch is taken from; empty: the ordinary one (on Linux the CUDA build).
# The small CPU build: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

# The environment of the packages that `make peers` compares with.
FORCEFOUNDRY_PEERS ?= .peers

BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PEERS_PIP := $(FORCEFOUNDRY_PEERS)/bin/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test peers check ui serve stop bench clean again
.DEFAULT_GOAL := help

help:  ## list these verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

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
