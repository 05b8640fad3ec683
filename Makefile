# Every target runs in .venv, which is made from requirements-dev.lock when it is not there.
PYTHON := .venv/bin/python
SOURCES := monitoring exporter telemetry demo tests

.PHONY: mutate check lint format types test tools bench gpu-check golden lock clean

check: lint types test  ## What CI runs.

.venv: requirements-dev.lock pyproject.toml
	@bin/bootstrap --dev
	@touch .venv

lint: .venv
	$(PYTHON) -m ruff check $(SOURCES)
	$(PYTHON) -m ruff format --check $(SOURCES)

format: .venv
	$(PYTHON) -m ruff check --fix $(SOURCES)
	$(PYTHON) -m ruff format $(SOURCES)

types: .venv
	$(PYTHON) -m mypy

tools: .tools/bookworm/.packages .tools/sid/.packages  ## The servers and their tools that the tests use, without root.

.tools/%/.packages: | .venv
	$(PYTHON) -m ds01_monitoring.runtime.packages $* --into .tools

# Those that need the Docker Engine share it, one after the other. Code 5 is pytest's for "no test was chosen".
test: .venv tools  ## The whole test suite; ARGS passes options to pytest.
	$(PYTHON) -m pytest -n auto -m "not engine" $(ARGS) || [ $$? -eq 5 ]
	$(PYTHON) -m pytest -m engine $(ARGS) || [ $$? -eq 5 ]

golden: .venv  ## Rewrites the golden files; read the diff.
	$(PYTHON) -m pytest --update-golden $(ARGS)

mutate: .venv  ## Changes the rules one place at a time and asks whether their tests notice; ARGS="gpu waste" for some files.
	nice $(PYTHON) -m tests.rules.mutate $(ARGS)

bench: .venv  ## Prints the table of measured figures.
	$(PYTHON) -m tests.bench $(ARGS)

gpu-check: .venv  ## Runs gpu-telemetry on the GPUs of this machine; ends with 3 where there is none.
	$(PYTHON) -m tests.gpu_check $(ARGS)

lock:  ## Renews both lock files; needs uv.
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --group build pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --group build --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv .venv.lock .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
