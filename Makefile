# Two commands are enough: `make demo` shows spanpost at work, `make test` tests it. Both make .venv first, once.
VENV  := .venv
PY    := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help demo test test-fast test-pythons test-postgres lint bench reference lock clean
help:
	@echo "make demo       a real agent, followed live, with its own PostgreSQL (add ARGS=... for options)"
	@echo "make test       all tests, with lint, types and import rules among them (ARGS=... for pytest)"
	@echo "make test-fast  the tests that take no seconds each: no servers, no processes, no type check"
	@echo "make test-pythons  the fast tests against the installed wheels, with every Python that is found here"
	@echo "make test-postgres  the tests of the store on PostgreSQL 14, 15, 16, 17 and 18, one after the other (ARGS=16 for one)"
	@echo "make lint       ruff, mypy and import-linter alone"
	@echo "make bench      the benchmarks in bench/"
	@echo "make reference  write the generated pages of docs/reference again"
	@echo "make lock       write requirements-dev.lock again (needs uv)"
	@echo "make clean      remove .venv and caches"

$(READY): pyproject.toml $(wildcard plugins/*/pyproject.toml) requirements-dev.lock scripts/make-venv
	@scripts/make-venv $(VENV)

demo: $(READY)
# With job control, Ctrl-C goes to the demo and not to make too, which would call it an error.
	@if [ -t 0 ]; then set -m; fi; $(VENV)/bin/spanpost demo $(ARGS) || exit $$?

test: $(READY)
	@$(PY) -m pytest -q -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

test-fast: $(READY)
	@$(PY) -m pytest -q -n auto --dist loadscope -m "not slow and not acceptance" $(ARGS)

test-pythons: $(READY)
	@$(PY) scripts/test-pythons $(ARGS)

test-postgres: $(READY)
	@$(PY) scripts/test-postgres $(ARGS)

lint: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

bench: $(READY)
	@set -e; for file in bench/yardstick.py bench/hotpath.py bench/outage.py bench/hostile_bodies.py bench/read.py bench/fold.py bench/store.py bench/deliveries.py bench/latency.py bench/control.py bench/metrics.py; do \
	  echo "== $$file"; $(PY) "$$file"; \
	done

reference: $(READY)
	@$(PY) scripts/write_reference.py

lock:
	@uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes --quiet \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements-dev.lock

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
