# One verb per chore; `make` alone lists them. Everything is created below .venv, .matrix, site and dist, without questions.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:

# The interpreter to use; by default the newest from 3.10 on.
PYTHON =
# With SLOW=1 `make test` also runs the slow tests. ARGS is passed unchanged to pytest, the benchmarks or the matrix.
SLOW =
ARGS =
# The port of the demos' pages.
PORT =

BIN := .venv/bin
# Always write bytecode: otherwise each of the many processes compiles the package again.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile \
	$(if $(SLOW),-m "slow or not slow")
# How many processes run the tests, one file at a time each. Three keep two processors busy, since many tests wait.
PROCESSES = 3

.PHONY: help demo demo-serve demo-fastapi test lint format types docs docs-serve bench matrix build clean same-python

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=/path/to/python chooses the interpreter, SLOW=1 adds the slow tests, ARGS='...' goes to pytest, the benchmarks or the matrix."

demo: .venv/.demo ## Classify 1,452 real e-mails on an embedded server
	@$(BIN)/python example_projects/django_mail/demo.py

demo-serve: .venv/.demo ## Show them on a Django site, on an embedded server
	@$(BIN)/python example_projects/django_mail/demo.py --serve $(if $(PORT),--port $(PORT))

demo-fastapi: .venv/.demo ## Judge e-mails on a page, on an embedded server
	@$(BIN)/python example_projects/fastapi_mail $(if $(PORT),--port $(PORT))

# Coverage slows down the code that it traces: use it only for the tests that count towards the 95 %.
UNCOVERED = tests/unit/generators tests/unit/programs
COVERED = tests/unit tests/contract $(UNCOVERED:%=--ignore=%) \
	$(addprefix tests/integrations/test_,first_executions.py published_batches.py published_calls.py)
test: .venv/.dev ## Run the tests, and check the coverage of the core
ifneq ($(ARGS),)
	$(PYTEST) $(ARGS)
else
	@$(BIN)/coverage erase
	$(PYTEST) --cov --cov-report= $(COVERED)
	@$(BIN)/coverage report --fail-under=95
	$(PYTEST) $(UNCOVERED) tests/integrations tests/e2e $(filter %.py,$(COVERED:%=--ignore=%))
endif

lint: .venv/.dev ## Check style, formatting, import contracts and references
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/check_references.py
	$(BIN)/python .ci/check_words.py

format: .venv/.dev ## Put code into the project's format
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format .

types: .venv/.dev ## Check the types, with mypy and pyright
	$(BIN)/mypy
	$(BIN)/mypy tests/typing benchmarks example_projects/scripts example_projects/fastapi_mail .ci
	$(BIN)/mypy example_projects/django_mail
	$(BIN)/pyright --project tests/typing --pythonpath $(BIN)/python

docs: .venv/.dev ## Build the site of the documentation into site/, and check its links and its reference
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@$(BIN)/python .ci/check_site.py

docs-serve: .venv/.dev ## Show the site at http://127.0.0.1:8000 while you write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: .venv/.dev ## Measure, and compare with baselines of the same run
	@$(BIN)/python -m benchmarks $(ARGS)

matrix: .venv/.dev ## Run the tests on older and newer Pythons and libraries
	@$(BIN)/python .ci/matrix.py $(ARGS)

build: .venv/.dev ## Build sdist and wheel, and try the wheel in a fresh environment
	@rm -rf dist
	$(BIN)/python -m build --quiet
	@.ci/check-wheel $(BIN)/python

clean: ## Remove everything that the other verbs made
	rm -rf .venv .matrix dist build site *.egg-info .coverage .coverage.* htmlcov .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find loopai tests benchmarks example_projects .ci -name __pycache__ -type d -prune -exec rm -rf {} +

# Both stamps share one environment; the larger one includes the smaller.

.venv/.demo: pyproject.toml $(BIN)/python
	@echo "Installing what the demo needs into .venv"
	@.ci/install cli,django,fastapi,server
	@touch $@

.venv/.dev: pyproject.toml $(BIN)/python
	@echo "Installing the development environment into .venv (under a minute)"
	@.ci/install dev
	@touch .venv/.demo $@

# Also recreated if its interpreter was removed, which leaves .venv/bin/python as a broken link.
$(BIN)/python: | $(if $(PYTHON),same-python)
	@python="$(PYTHON)"; \
	python=$${python:-$$(.ci/find-python 3.10+)} || exit 1; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv

same-python:
	@[ ! -x $(BIN)/python ] || [ "$$($(BIN)/python --version)" = "$$($(PYTHON) --version)" ] || { \
		echo ".venv has $$($(BIN)/python --version), not $$($(PYTHON) --version): run 'make clean' first" >&2; exit 1; }
