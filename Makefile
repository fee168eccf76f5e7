# The daily commands. A fresh clone needs Python 3.11+ (with venv) and a Rust toolchain; everything else is set up here.
#
# The extension is built once, in release mode, and shared by the demo, the checks and the tests. The Rust tests
# and clippy run in the same profile, so that they reuse its dependencies and build scripts.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTENSION := python/penstock/_core.abi3.so
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust \( -name '*.rs' -o -name Cargo.toml \) -print)
PACKAGE_SOURCES := pyproject.toml README.md LICENSE $(shell find python -type f -not -name '*.pyc' -not -name '*.so')
WHEEL := dist/.made
CHECKED := python tests examples benches tools

# One interpreter for every cargo call: another one would rebuild the bindings.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export VIRTUAL_ENV := $(abspath $(VENV))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo build test check check-format check-lint check-types check-stub check-rust
.PHONY: rust-test python-test simulate bench bench-rust wheel format clean
.DEFAULT_GOAL := help

help: ## Show these commands.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# An editable install: the package is used in place, the extension stands beside it.
$(EXTENSION): $(RUST_SOURCES) pyproject.toml | $(VENV)/.made
	$(BIN)/maturin develop --release --locked --quiet --group build
	@touch $@

build: $(EXTENSION) ## Make .venv and build the extension, in release mode.

demo: build ## Verify every Python distribution of this machine with a durable workflow.
	$(BIN)/python -m examples.verify_packages

# The tests run on SQLite and on a PostgreSQL: the server of PENSTOCK_TEST_POSTGRES, else the machine's binaries in a
# private directory, else a wheel's. Their summary names what was used.
test: build wheel $(VENV)/.dev ## Run make check, the Rust tests and the Python tests; end with a summary.
	@$(BIN)/python tools/run_tests.py

check: check-format check-lint check-types check-stub check-rust ## Format, lints, types, stub: what pre-commit and CI run.

check-format: $(VENV)/.dev
	$(BIN)/ruff format --check $(CHECKED)

check-lint: $(VENV)/.dev
	$(BIN)/ruff check $(CHECKED)

check-types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy tests/support tests/acceptance examples benches tools

check-stub: build $(VENV)/.dev
	$(BIN)/stubtest --mypy-config-file pyproject.toml penstock._core

check-rust:
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

rust-test: ## Run the Rust tests alone.
	cargo test --release --locked --package penstock-core

python-test: build wheel $(VENV)/.dev ## Run the Python tests alone.
	$(BIN)/python -m pytest

# Their figures stand in docs/design; CI runs a short form of each.
simulate: ## Run the long form of the simulations and of the model: hours of random flows, crashes and operations.
	PENSTOCK_LONG_TESTS=1 cargo test --release --locked --package penstock-core

bench: build ## Measure a chain of no-op steps on a SQLite file.
	$(BIN)/python benches/python/bench_chain.py

bench-rust: ## Measure the parts of the core.
	cargo bench --locked --package penstock-benches

wheel: $(WHEEL) ## Build the wheel into dist/.

# Made from what the extension's build left: nothing is compiled again.
$(WHEEL): $(EXTENSION) $(PACKAGE_SOURCES)
	@rm -rf dist
	$(BIN)/maturin build --release --locked --quiet --out dist
	@touch $@

format: $(VENV)/.dev ## Rewrite the sources in the house's format.
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)
	cargo fmt --all

clean: ## Remove everything that was built, the environment too.
	rm -rf $(VENV) target dist $(EXTENSION) .pytest_cache .mypy_cache .ruff_cache .hypothesis
