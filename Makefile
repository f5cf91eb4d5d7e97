# The doors of the project. `make help` lists them. Everything but `gpu` works without a GPU.

PYTHON ?= python3
TORCH_VERSION ?= 2.13.0
PROMPT ?= a large red circle moves to the right on a navy background
OUT ?= outputs
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input -qq
NATIVE := setup.py pyproject.toml CMakeLists.txt $(shell find csrc -type f -not -path 'csrc/tests/*')

.DEFAULT_GOAL := help
.PHONY: help build run test sanitize lint format typecheck bench gpu train-tiny train-tiny-hc clean

help: ## say what each door does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: $(VENV)/.built ## make .venv, install what is pinned, build the native extension

run: build ## generate a video with the shipped tiny model (PROMPT="...")
	@$(VENV)/bin/opensora-fast generate "$(PROMPT)" --out "$(OUT)/$(shell date +%Y%m%d-%H%M%S).mp4" $(ARGS)

test: $(VENV)/.test ## run everything that must pass without a GPU (ARGS="-k name")
	@$(PY) -m pytest -m "not sanitizer" $(ARGS)

sanitize: $(VENV)/.test ## run the C++ tests under the address sanitizer
	@$(PY) -m pytest -m sanitizer tests/csrc $(ARGS)

lint: $(VENV)/.lint ## ruff, clang-format, codespell
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@git ls-files -z 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs -0 -r $(VENV)/bin/clang-format --dry-run --Werror
	@$(VENV)/bin/codespell

format: $(VENV)/.lint ## rewrite the sources in the house style
	@$(PY) -m ruff check --fix-only -q .
	@$(PY) -m ruff format .
	@git ls-files -z 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' | xargs -0 -r $(VENV)/bin/clang-format -i

# The rooms lie beside the package in a checkout, which type checkers cannot follow: show them the
# tree that a wheel installs.
typecheck: $(VENV)/.lint ## mypy --strict on the tree as a wheel installs it
	@rm -rf build/typing && mkdir -p build/typing/opensora_fast
	@ln -s $(CURDIR)/opensora_fast/* $(CURDIR)/kernels $(CURDIR)/models $(CURDIR)/train $(CURDIR)/bench build/typing/opensora_fast/
	@cd build/typing && $(CURDIR)/$(PY) -m mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p opensora_fast

bench: $(VENV)/.bench ## measure against peers (ARGS="vae-hunyuan --json out.jsonl", ARGS=list)
	@$(PY) -m opensora_fast.bench $(or $(ARGS),cpu-smoke)

train-tiny: $(VENV)/.test ## train the tiny model again; a second call resumes
	@$(PY) -m opensora_fast.train tiny $(ARGS)

train-tiny-hc: $(VENV)/.test ## train the tiny model's high-compression twin; a second call resumes
	@$(PY) -m opensora_fast.train tiny-hc $(ARGS)

# With the machine's own Python, so that its CUDA build of torch serves. Nothing is installed.
gpu: ## on a machine with a GPU: build, doctor, ceilings, conformance, benches (OUT=folder)
	@$(PYTHON) -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else 1)' 2>/dev/null \
	  || { echo "make gpu: $(PYTHON) has no torch that sees a CUDA device"; exit 2; }
	@PYTHONPATH="$(CURDIR)" $(PYTHON) -m opensora_fast.bench gpu \
	  $(if $(filter file,$(origin OUT)),,--out "$(OUT)") $(ARGS)

clean: ## remove what was built, but not .venv
	rm -rf build dist outputs .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info opensora_fast/_C*.so
	rm -f $(VENV)/.built

$(PY):
	@$(PYTHON) -c 'import sys; raise SystemExit(0 if sys.version_info >= (3, 10) else 1)' \
	  || { echo "make build: $(PYTHON) is older than Python 3.10; name another one: make build PYTHON=python3.12"; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make build: $(PYTHON) cannot make virtual environments (on Debian: apt-get install python3-venv)"; exit 2; }

# torch first, then everything else under a constraint that keeps torch as it is. The plain build on
# PyPI brings gigabytes of CUDA libraries, so a machine without a GPU looks for the CPU build first:
# in the configured index, then in PyTorch's own.
$(VENV)/.torch-$(TORCH_VERSION): | $(PY)
	@if nvidia-smi >/dev/null 2>&1; then \
	  echo "installing torch $(TORCH_VERSION) (CUDA build)"; \
	  $(PIP) install -c requirements.txt "torch==$(TORCH_VERSION)"; \
	else \
	  echo "installing torch $(TORCH_VERSION) (CPU build)"; \
	  $(PIP) install -c requirements.txt "torch==$(TORCH_VERSION)+cpu" 2>/dev/null \
	  || $(PIP) install -c requirements.txt --timeout 15 --retries 1 "torch==$(TORCH_VERSION)+cpu" \
	       --extra-index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
	  || { echo "no CPU build is within reach: taking PyPI's plain build"; \
	       $(PIP) install -c requirements.txt "torch==$(TORCH_VERSION)"; }; \
	fi
	@$(PY) -c 'from importlib import metadata; print("torch==" + metadata.version("torch"))' > $(VENV)/constraints.txt
	@touch $@

$(VENV)/.deps: requirements.txt requirements-build.txt $(VENV)/.torch-$(TORCH_VERSION)
	@echo "installing the pinned requirements"
	@$(PIP) install -c $(VENV)/constraints.txt -r requirements.txt -r requirements-build.txt
	@touch $@

$(VENV)/.built: $(NATIVE) $(VENV)/.deps
	@echo "building the native extension"
	@$(PIP) install --no-build-isolation --no-deps -e .
	@ls opensora_fast/_C*.so >/dev/null 2>&1 \
	  || echo "no C++ compiler was found: the reference, torch and Triton backends serve (opensora-fast doctor says more)"
	@touch $@

$(VENV)/.test: requirements-test.txt requirements-triton.txt $(VENV)/.bench
	@$(PIP) install -c $(VENV)/constraints.txt -r requirements-test.txt
	@$(PY) -c 'import triton' 2>/dev/null || $(PIP) install --no-deps -r requirements-triton.txt
	@touch $@

$(VENV)/.bench: requirements-bench.txt $(VENV)/.built
	@$(PIP) install -c $(VENV)/constraints.txt -r requirements-bench.txt
	@touch $@

$(VENV)/.lint: requirements-lint.txt $(VENV)/.test
	@$(PIP) install -c $(VENV)/constraints.txt -r requirements-lint.txt
	@touch $@
