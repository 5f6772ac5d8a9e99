# make demo        prepare the bundled Wikipedia sample, train three minutes, evaluate, write an article
# make demo WIKI=fr   the same in French (or es)
# make test        tests, lint, types, import contracts      make test-all   the slow tests too
# make notebooks   the chapters of lessons/ as notebooks       make site       the documentation as web pages: build/site/docs/index.html
# make clean       remove .venv (data and models stay)

PYTHON ?= python3
WIKI ?= en
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: demo test test-all notebooks site clean
.DELETE_ON_ERROR:

demo: .venv/installed
	@$(BIN)/wikigpt demo --wiki $(WIKI)
	@[ "$(PWD)" = "$(CURDIR)" ] || echo "(in the folder $(CURDIR))"

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

test-all: .venv/browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "slow or not slow"

# PyTorch first: without an NVIDIA card the small CPU build will do, and the default index may serve a huge CUDA one.
.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "WikiGPT needs Python 3.11 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "Could not make .venv; on Debian or Ubuntu: apt install python3-venv" >&2; exit 2; }
	@command -v nvidia-smi >/dev/null 2>&1 || \
	  $(PIP) install -q --retries 0 --timeout 15 --no-deps --index-url $(CPU_INDEX) \
	    "$$(grep '^torch==' requirements.txt)" 2>/dev/null || \
	  echo "PyTorch's CPU index is out of reach: taking torch from the default index."
	$(PIP) install -q -r requirements.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(PIP) install -q -r requirements-dev.txt
	@touch $@

# Some slow tests open pages in Chromium: the system's, else what playwright downloads, else Debian's package.
.venv/browser: .venv/installed-dev
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	  $(BIN)/playwright install chromium >/dev/null 2>&1 || apt-get install -y -qq chromium >/dev/null 2>&1 || \
	  { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || { \
	  echo "No Chromium: install it, or run .venv/bin/playwright install chromium; until then browser tests are skipped" >&2; exit 2; }
	@touch $@

notebooks: .venv/installed-dev
	@mkdir -p lessons/out/notebooks
	@for path in lessons/[0-9]*.py; do \
	  $(BIN)/jupytext -q --to notebook --set-kernel python3 -o lessons/out/notebooks/$$(basename $$path .py).ipynb $$path || exit 1; done
	@ls lessons/out/notebooks/*.ipynb

# The chapters are run, those that have changed since the last time: ten minutes at first.
site: .venv/installed-dev
	$(BIN)/sphinx-build -q -W --keep-going -j auto -c docs -d build/doctrees . build/site
	@echo "build/site/docs/index.html"

clean:
	rm -rf .venv
