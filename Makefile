# `make demo` and `make test` set up all that they need in .venv on a machine that has only Python 3.11+ and make.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
LOCK_ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test check sanitize bench bench-server lock format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(INSTALLED)  ## set up .venv with the locked packages and this project (editable)

demo: $(INSTALLED)  ## run the demo; DEMO_ARGS="..." is passed on
	$(BIN)/zeptodb demo $(DEMO_ARGS)

test: $(INSTALLED)  ## run the tests; TEST_ARGS="-k asof" is passed on
	$(BIN)/python -m pytest -q $(TEST_ARGS)

check: $(INSTALLED)  ## lint, format, types, layers and (with nvcc, NVRTC) CUDA kernels, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python ci/kernels

sanitize: $(INSTALLED)  ## run the emulated CUDA kernels under g++'s ASan, UBSan and TSan (2-5 minutes)
	@$(BIN)/python ci/sanitize

bench-server: $(INSTALLED)  ## measure the server over the loopback; BENCH_ARGS="..." is passed on
	$(BIN)/python -m bench.server $(BENCH_ARGS)

bench: $(INSTALLED)  ## run the benchmarks; BENCH_ARGS="..." is passed on
	$(BIN)/python -m bench $(BENCH_ARGS)

format: $(INSTALLED)  ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock:  ## resolve requirements/dev.lock anew; LOCK_ARGS=--upgrade takes newer versions
	@command -v $(UV) >/dev/null || { \
	  echo "error: 'make lock' needs uv, which is not on the PATH. Install it (pip install uv) or pass UV=path/to/uv." >&2; exit 1; }
	$(UV) pip compile pyproject.toml --extra dev --extra server --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet $(LOCK_ARGS) --output-file requirements/dev.lock

clean:  ## remove .venv, caches and builds
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed lock makes a fresh environment, so that no package of an older lock stays behind.
$(DEPENDENCIES): requirements/dev.lock
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: no '$(PYTHON)' on the PATH. Install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: ZeptoDB needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "Install a newer Python, or name one that is there: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "error: '$(PYTHON) -m venv' failed. On Debian and Ubuntu: sudo apt install python3-venv. Then run make again." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock || { \
	  echo "error: installing requirements/dev.lock failed; pip's message is above. Check the network (or pip's proxy and index" >&2; \
	  echo "settings) and the free disk space (about 1.5 GB), then run make again." >&2; exit 1; }
	@touch $@

$(INSTALLED): $(DEPENDENCIES) pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . || { \
	  echo "error: installing this project into $(VENV) failed; pip's message is above. 'make clean' starts over." >&2; exit 1; }
	@touch $@
