# Two commands to know: `make demo` and `make test`. Both need Python 3.11+ and make; the web page also Node 20.19+.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
OUT    ?= out/demo
DATA   ?=
PARTS  ?=
FLAGS  ?=
PAGE   := src/cbmir/web/page/index.html
MODULES := frontend/node_modules/.package-lock.json
NODE   := node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null
# What needs Node goes on without it, and says so; under continuous integration it fails.
WITH_NODE = if $(NODE); then $(1); else echo "$(2) needs Node 20.19 or later (https://nodejs.org), and it is not there" >&2; test "$$CI" != true; fi

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install page demo test test-all check format bench clean

help:
	@echo "make demo              index, search and evaluate the DICOM files that come with pydicom"
	@echo "make demo DATA=folder  the same with your folder or manifest.csv; with one folder per class and no manifest:"
	@echo "                       make demo DATA=folder FLAGS=--classes-from-folders"
	@echo "make test              the tests that take seconds (make test-all: the long ones too)"
	@echo "make check             style and types"
	@echo "make page              the web page, into the package (Node 20.19+; install, demo and test call it)"
	@echo "make bench             speed, memory and growth as one table (DATA=folder measures yours; PARTS=search,growth only these)"

install: $(STAMP) page

# torch comes first and alone, from its pin, so that no other package can choose it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "cbmir needs Python 3.11 or later; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up $(VENV) (once; minutes on a slow line)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e '.[torch,openvino,onnx,ann,benchmark,frozen,fetch,parquet,web,dev]'
	@touch $@

page:
	@$(call WITH_NODE,$(MAKE) --no-print-directory --silent $(PAGE),building the web page)

$(PAGE): $(MODULES) $(shell find frontend -name node_modules -prune -o -type f -print)
	@cd frontend && npm run --silent build -- --logLevel warn

$(MODULES): frontend/package.json frontend/package-lock.json
	@cd frontend && npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(STAMP) page
	@$(BIN)/cbmir demo $(if $(DATA),'$(DATA)') --out '$(OUT)' $(FLAGS)

test: $(STAMP) page
	@$(call WITH_NODE,cd frontend && npm test --silent,testing the web page)
	@$(BIN)/python -m pytest -m 'not long'

test-all: $(STAMP) page
	@$(call WITH_NODE,cd frontend && npm test --silent,testing the web page)
	@$(BIN)/python -m pytest

check: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: $(STAMP)
	@$(BIN)/python benchmarks/run.py $(if $(DATA),--data '$(DATA)') $(if $(PARTS),--parts '$(PARTS)')

clean:
	rm -rf $(VENV) out $(dir $(PAGE)) frontend/node_modules .mypy_cache .pytest_cache .ruff_cache
