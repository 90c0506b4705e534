# The doors of the repository. `make demo` and `make test` work on a fresh clone.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
JOBS ?= 2

.PHONY: help demo test check soak interop conformance bench docs generate clean

help:
	@echo "make demo      five-minute tour: cloud, edge node, pod, device, pulled plug"
	@echo "make test      unit, contract and component tests in short form"
	@echo "make check     formatting, lint, types, import rules, generated files, docs"
	@echo "make soak      the long forms of the tests"
	@echo "make interop   tests with foreign binaries: every kubectl that is found"
	@echo "make conformance LIST=A   one list of upstream's conformance tests, A to D; SKERRY_E2E_TEST, SKERRY_AGNHOST"
	@echo "make bench     measurements, written to bench/results"
	@echo "make docs      the generated part of the reference"
	@echo "make generate  every generated file"

$(VENV)/.run: pyproject.toml tools/venv.sh
	@sh tools/venv.sh "$(PYTHON)" "$(VENV)" all
	@touch $@

$(VENV)/.dev: pyproject.toml tools/venv.sh
	@sh tools/venv.sh "$(PYTHON)" "$(VENV)" dev
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run
	@$(BIN)/skerry demo $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check -q src tests tools bench
	$(BIN)/ruff check -q src tests tools bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/gen_schema.py --check
	$(BIN)/python tools/gen_pb.py --check
	$(BIN)/python tools/gen_crds.py --check
	$(BIN)/python tools/gen_docs.py --check
	$(BIN)/python tools/check_docs.py

test: $(VENV)/.dev
	@$(BIN)/python -m tests.parts --announce
	$(PYTEST) -q -n $(JOBS) --dist loadgroup -m "not slow and not interop" $(ARGS)

soak: $(VENV)/.dev
	$(PYTEST) -q -m "slow and not interop" $(ARGS)

interop: $(VENV)/.dev
	$(PYTEST) -q -m "" tests/component/test_kubectl.py tests/component/test_kubectl_verbs.py tests/interop $(ARGS)

conformance: $(VENV)/.dev
	$(BIN)/python -m tests.interop.conformance --group $(LIST) $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python bench/run.py $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python tools/gen_docs.py

generate: docs
	$(BIN)/python tools/gen_schema.py
	$(BIN)/python tools/gen_pb.py
	$(BIN)/python tools/gen_crds.py

clean:
	rm -rf $(VENV) .parts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
