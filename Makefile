# Two commands from a fresh clone: `make demo` and `make test`. They need Python 3.11 or later, and make.
#
#   PYTHON=python3.13     the interpreter to use
#   VENV=.venv313         the folder of the virtual environment
#   DJANGO="django>=6.1"  a narrower choice of Django than the newest that PYTHON can run
#   CONSTRAINTS=FILE      versions to keep to, as pip's --constraint takes them
#   ARGS="..."            arguments for the program that a target runs

PYTHON ?= python3
VENV ?= .venv
DJANGO ?= django
CONSTRAINTS ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# The browser tests need Playwright: where there is a browser, or must be one.
BROWSER := $(if $(findstring chromium,$(WELLOS_REQUIRE) $(shell command -v chromium || command -v chromium-browser)),--group browser)
# Installations are made again when pyproject.toml or what was chosen changes.
CHOICE := $(shell printf '%s' '$(DJANGO) $(BROWSER) $(CONSTRAINTS)' | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-$(CHOICE)

BEGUN := $(shell date +%s)

# Python compiles each module once: demo and tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-fast test-all lint bench bench-coordination docs screenshots clean
.DELETE_ON_ERROR:

help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)-example ## Run the example: every kind of job, for real. ARGS=--exit ends it when it is done.
	@WELLOS_MAKE_BEGUN=$(BEGUN) $(BIN)/python manage.py demo $(ARGS)

test: $(STAMP)-test ## Run the tests a change is judged by, on SQLite: about 11 minutes. ARGS="-k retry" picks some.
	@$(BIN)/python -m tests $(ARGS)

test-fast: $(STAMP)-test ## Run the unit tests: no worker process, no browser; about 4 minutes.
	@$(BIN)/python -m tests fast $(ARGS)

test-all: $(STAMP)-test ## Run all tests, on PostgreSQL and MariaDB too. WELLOS_REQUIRE=postgres,mariadb: these must be there.
	@$(BIN)/python -m tests all $(ARGS)

lint: $(STAMP)-lint ## Check style, types and migrations.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py makemigrations --check --dry-run --settings tests.settings

bench: $(STAMP)-test ## Measure throughput, ledger lag and recovery time.
	@$(BIN)/python benchmarks/run.py $(ARGS)

bench-coordination: $(STAMP)-test ## Measure fair turns behind 100,000 jobs, and limits while workers are killed.
	@$(BIN)/python benchmarks/coordination.py $(ARGS)

docs: $(STAMP)-test ## Build the documentation into site/, warnings being errors.
	@$(BIN)/python -m mkdocs build --strict --quiet && echo "site/index.html"

screenshots: $(STAMP)-test ## Take the screenshots in docs/screenshots/ from a running demo. Needs chromium.
	@$(BIN)/python -m example_project.demo.screenshots $(ARGS)

clean: ## Remove what these targets made: the virtual environment, the demo's data, caches.
	rm -rf $(VENV) .demo build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- installation ------------------------------------------------------------------------------------------

$(VENV)/.ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	@echo "Making the virtual environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment (Debian and Ubuntu: apt-get install python3-venv)." >&2; \
	  rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(STAMP)-example: EXTRA :=
$(STAMP)-test: EXTRA := --group databases $(BROWSER)
$(STAMP)-lint: EXTRA := --group example --group databases
$(STAMP)-%: $(VENV)/.ready pyproject.toml
	@echo "Installing what \`$*\` needs ..."
	@$(PIP) install --editable . --group $* $(EXTRA) '$(DJANGO)' $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	@touch $@
