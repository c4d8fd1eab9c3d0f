PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python

.PHONY: demo test test-slow docs lint format mutants faults bench replicate container transcript

# Installed once from the lock; touch requirements-lock.txt to renew. incense asks for JupyterLab
# without importing it, so it is installed without its dependencies, which the lock has. Tests,
# documentation and the notebook need more, which is in a lock of its own.
.venv/.installed: requirements-lock.txt setup.cfg
	$(PYTHON) -m venv .venv
	grep -v ^incense requirements-lock.txt | $(BIN)/pip install --quiet -r /dev/stdin
	grep ^incense requirements-lock.txt | $(BIN)/pip install --quiet --no-deps -r /dev/stdin
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev-lock.txt
	$(BIN)/pip install --quiet -r requirements-dev-lock.txt
	touch $@

demo: .venv/.installed
	$(RUN) experiments/liu_toy.py with cpu
	$(RUN) analysis/liu_run.py

test: .venv/.installed-dev
	$(RUN) -m pytest -n 2 --cov=grok --cov-report=term:skip-covered

test-slow: .venv/.installed-dev
	$(RUN) -m pytest -m slow

# site/index.html opens in a browser; its search needs a server (python -m http.server -d site).
# A page that is not current, one that the site does not list, or a dead link is an error.
docs: .venv/.installed-dev
	$(RUN) -m tools.docs --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy grok analysis experiments tools benchmarks

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutants: .venv/.installed-dev
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2
	$(RUN) tools/mutants.py

# About 30 minutes on two cores; --only KIND and --trials N for a part of it.
faults: .venv/.installed-dev
	$(RUN) -m tools.faults

replicate: .venv/.installed
	$(BIN)/grok replicate

container: .venv/.installed
	$(RUN) -m tools.container

transcript: .venv/.installed
	$(RUN) -m tools.transcript

bench: .venv/.installed-dev
	$(RUN) -m benchmarks.toy
	$(RUN) -m benchmarks.steps
	$(RUN) -m benchmarks.transformer
	$(RUN) -m benchmarks.queries
	$(RUN) -m benchmarks.endpoint
	$(RUN) -m benchmarks.board
