# `make` lists the targets. `make demo` and `make test` set up what they need first; neither needs a GPU.

# cpu or gpu: which build of torch and vLLM to install. They exclude each other in one environment.
EXTRA ?= cpu
# A Python 3.11 or later, if you want to choose it yourself.
PYTHON ?=
# For more or other pytest arguments: make test PYTEST_ARGS="-k store -x"
PYTEST_ARGS ?=

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(EXTRA)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_CPU = $(shell sed -nE 's/^cpu = .*"(torch==[0-9.]+)".*/\1+cpu/p' pyproject.toml)

# Nothing calls home.
export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

setup: $(READY) ## everything into .venv (done by the others when needed); EXTRA=gpu for CUDA builds

demo: $(READY) ## the whole way, small, on a film that it makes itself; FOOTAGE=DIR for yours, MODEL=DIR to caption by
	$(BIN)/python -m jobs.demo $(if $(FOOTAGE),--footage "$$FOOTAGE") $(if $(MODEL),--model "$$MODEL")

# FOOTAGE and MODEL reach the recipe through the environment, so that a space or a quote in it does no harm.
export FOOTAGE MODEL

# One step after another, also after a failure; a summary; the exit code says whether all passed.
define run_steps
status=0; summary=; \
step() { \
	name=$$1; shift; began=$$SECONDS; printf '\n=== %s\n' "$$name"; \
	if "$$@"; then verdict='ok    '; else verdict=FAILED; status=1; fi; \
	summary+=$$(printf '\n  %s  %-12s %4d s' "$$verdict" "$$name" $$((SECONDS - began))); \
}; \
$(1) \
printf '\n=== summary%s\n' "$$summary"; \
exit $$status
endef

lint_steps = \
	step 'ruff check' $(BIN)/ruff check .; \
	step 'ruff format' $(BIN)/ruff format --check .; \
	step pyright $(BIN)/basedpyright;

test: export HF_HUB_OFFLINE := 1
test: $(READY) ## lint, then the tests; PYTEST_ARGS="…" to choose among them
	@$(call run_steps,$(lint_steps) step pytest $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(PYTEST_ARGS);)

lint: $(READY) ## ruff and pyright only
	@$(call run_steps,$(lint_steps))

format: $(READY) ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and the caches (not what the demo made)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml .ci/mend_cpu_builds.py
	@for other in $(VENV)/.ready-*; do \
		if [ -e "$$other" ] && [ "$$other" != $(READY) ]; then \
			echo "$(VENV) was set up with EXTRA=$${other#*.ready-}, which excludes EXTRA=$(EXTRA): make clean first" >&2; exit 1; \
		fi; \
	done
	@python=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3.12 python3.13 python3); do \
		if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or later with venv and pip found$(if $(PYTHON), at $(PYTHON))." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	[ -x $(BIN)/python ] || { echo "making $(VENV) with $$("$$python" --version) (a first set-up takes some minutes)"; "$$python" -m venv $(VENV); }
ifeq ($(EXTRA),cpu)
	@# CPU builds of torch are not on PyPI: from where this machine's pip is set to look, else from PyTorch's own index.
	@$(BIN)/pip install -qq '$(TORCH_CPU)' 2>/dev/null || { \
		echo "torch for CPU from $(TORCH_CPU_INDEX)"; \
		$(BIN)/pip install -qq --index-url $(TORCH_CPU_INDEX) '$(TORCH_CPU)' torchvision torchaudio torchcodec; \
	}
endif
	@echo "installing dailies[$(EXTRA),dev] and what it needs (about 5 GB)"
	@$(BIN)/pip install -qq -e '.[$(EXTRA),dev]'
ifeq ($(EXTRA),cpu)
	@$(BIN)/python .ci/mend_cpu_builds.py
endif
	@touch $@
	@echo "ready: $(VENV)"
