# Two commands are enough: `make demo` shows spanpost at work, `make test` tests it. Both make .venv first, once: each installs what
# it needs, and the tests need all that the demo does.
VENV  := .venv
PY    := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO  := $(VENV)/.ready-for-demo

.PHONY: help demo test test-fast test-pythons test-postgres image-test lint soak bench reference pictures docs lock release clean
help:
	@echo "make demo       a real agent, followed live, with its own PostgreSQL (add ARGS=... for options)"
	@echo "make test       all tests, with lint, types and import rules among them (ARGS=... for pytest)"
	@echo "make test-fast  the tests that take a moment each: no servers, no processes, no type check"
	@echo "make test-pythons  the fast tests against the installed wheels, with every Python that is found here"
	@echo "make image-test  builds the container image without a daemon, and tests it in containers (root; buildah, mmdebstrap, umoci, runc)"
	@echo "make test-postgres  the tests of the store on PostgreSQL 14, 15, 16, 17 and 18, one after the other (ARGS=16 for one)"
	@echo "make lint       ruff, mypy and import-linter alone"
	@echo "make soak       real processes under faults of a seed's plan, and a checker at the end (ARGS=\"--seed 7 --seconds 120\")"
	@echo "make bench      the benchmarks in bench/"
	@echo "make reference  write the generated pages of docs/reference again"
	@echo "make docs       build the documentation site into docs/_build/html; a warning is an error"
	@echo "make pictures   take the pictures of the board, of Slack and of the examples in docs/images again (ARGS=\"--all DIRECTORY\" for every page and state)"
	@echo "make release    build spanpost and its plugins into dist/, checked, with bill of materials and provenance (ARGS=--tag=v...)"
	@echo "make lock       write both lock files again (needs uv)"
	@echo "make clean      remove .venv and caches"

$(READY): pyproject.toml $(wildcard plugins/*/pyproject.toml) requirements-dev.lock requirements-demo.lock scripts/make-venv
	@scripts/make-venv $(VENV)

$(DEMO): pyproject.toml requirements-demo.lock scripts/make-venv
	@scripts/make-venv $(VENV) demo

demo: $(DEMO)
# With job control, Ctrl-C goes to the demo and not to make too, which would call it an error.
	@if [ -t 0 ]; then set -m; fi; $(VENV)/bin/spanpost demo $(ARGS) || exit $$?

test: $(READY)
	@$(PY) -m pytest -q -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

test-fast: $(READY)
	@TEST_EXAMPLES=few $(PY) -m pytest -q -n auto --dist loadscope -m "not slow and not acceptance" $(ARGS)

test-pythons: $(READY)
	@$(PY) scripts/test-pythons $(ARGS)

image-test: $(READY)
	@scripts/build-image dist/spanpost-image.tar
	@SPANPOST_TEST_IMAGE=$(abspath dist/spanpost-image.tar) $(PY) -m pytest -q tests/acceptance/test_image.py $(ARGS)

test-postgres: $(READY)
	@$(PY) scripts/test-postgres $(ARGS)

lint: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

soak: $(READY)
	@$(PY) -m tests.faults.soak $(ARGS)

bench: $(READY)
	@set -e; for file in bench/yardstick.py bench/hotpath.py bench/outage.py bench/hostile_bodies.py bench/read.py bench/fold.py bench/store.py bench/deliveries.py bench/latency.py bench/control.py bench/metrics.py; do \
	  echo "== $$file"; $(PY) "$$file"; \
	done

reference: $(READY)
	@$(PY) scripts/write_reference.py

docs: $(READY)
	@$(PY) -m sphinx -n -W --keep-going -q -b html docs docs/_build/html $(ARGS)

pictures: $(READY)
	@$(PY) scripts/picture_board.py $(ARGS)
	@if [ -z "$(ARGS)" ]; then $(PY) scripts/picture_slack.py; fi

release: $(READY)
	@$(PY) scripts/release $(ARGS)

# The demo's packages are those of the tests in the same versions.
LOCKS := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet --no-emit-index-url --no-emit-find-links \
  --no-emit-package spanpost --no-emit-package spanpost-webhook --custom-compile-command "make lock"
lock:
	@$(LOCKS) --all-extras --group dev --output-file requirements-dev.lock
	@$(LOCKS) --extra demo --group build --constraints requirements-dev.lock --output-file requirements-demo.lock

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
