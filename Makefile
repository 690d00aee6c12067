# opsbus: two commands matter, `make up` and `make test`. The rest is for who changes the code.
PY := .venv/bin/python
SOURCES := contracts shared services tests bench
INSTALLED := .venv/.installed

.PHONY: up test suite test-cluster check format contracts release conformance bench soak lock clean
up: $(INSTALLED)
	@.venv/bin/opsbus up $(ARGS)

test: suite conformance

suite: $(INSTALLED)
	@.venv/bin/pytest -n $${OPSBUS_TEST_PROCESSES:-3} --dist loadfile -m "not conformance and not cluster" $(ARGS)

conformance: $(INSTALLED)
	@.venv/bin/pytest -m conformance -s $(ARGS)

test-cluster: $(INSTALLED)
	@.venv/bin/pytest tests/cluster -m cluster $(ARGS)

bench: $(INSTALLED)
	@$(PY) -m bench $(ARGS)

check: $(INSTALLED)
	@.venv/bin/ruff check $(SOURCES) && .venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m opsbus_contracts check

format: $(INSTALLED)
	@.venv/bin/ruff check --fix $(SOURCES); .venv/bin/ruff format $(SOURCES)

contracts: $(INSTALLED)
	@$(PY) -m opsbus_contracts write

release: $(INSTALLED)
	@$(PY) -m opsbus_contracts release

soak: $(INSTALLED)
	@$(PY) -m bench.stress.soak $(ARGS)

lock: $(INSTALLED)
	@scripts/lock

clean:
	rm -rf .venv .opsbus .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(INSTALLED): requirements.lock scripts/install pyproject.toml contracts/pyproject.toml shared/pyproject.toml $(wildcard services/*/pyproject.toml)
	@scripts/install && touch $@
