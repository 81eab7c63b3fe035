# One verb a chore; `make` alone lists them. Everything is made below .venv, .matrix and dist, and needs no questions answered.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:

# An interpreter of your choice; without it the newest from 3.10 up is taken.
PYTHON =
# With SLOW=1 `make test` runs the slow tests too. ARGS goes as it stands to pytest, the benchmarks or the matrix.
SLOW =
ARGS =
# Where the demos show their pages.
PORT =

BIN := .venv/bin
# With bytecode, whatever the machine says: without it each of the many processes compiles the package anew.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile \
	$(if $(SLOW),-m "slow or not slow")
# How many processes run the tests: a file of tests is run by one of them. Three keep two processors busy, as many wait.
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

# Coverage slows what it traces: it looks at the tests that the 95 % are for, and not at the others.
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

clean: ## Remove whatever the other verbs made
	rm -rf .venv .matrix dist build site *.egg-info .coverage .coverage.* htmlcov .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find loopai tests benchmarks example_projects .ci -name __pycache__ -type d -prune -exec rm -rf {} +

# Both stamps share one environment; the larger one covers the smaller.

.venv/.demo: pyproject.toml $(BIN)/python
	@echo "Installing what the demo needs into .venv"
	@.ci/install cli,django,fastapi,server
	@touch $@

.venv/.dev: pyproject.toml $(BIN)/python
	@echo "Installing the development environment into .venv (under a minute)"
	@.ci/install dev
	@touch .venv/.demo $@

# Also made anew when its interpreter has been removed: then the link .venv/bin/python leads nowhere.
$(BIN)/python: | $(if $(PYTHON),same-python)
	@python="$(PYTHON)"; \
	python=$${python:-$$(.ci/find-python 3.10+)} || exit 1; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv

same-python:
	@[ ! -x $(BIN)/python ] || [ "$$($(BIN)/python --version)" = "$$($(PYTHON) --version)" ] || { \
		echo ".venv has $$($(BIN)/python --version), not $$($(PYTHON) --version): run 'make clean' first" >&2; exit 1; }
