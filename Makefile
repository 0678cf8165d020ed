# Every target makes the virtual environment when it is missing. `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
ASSETS := book/vendor/.ready
SITE := _build/html/book/index.html
JB := PYTHONHASHSEED=0 PYTHONPATH="$(CURDIR):$(CURDIR)/tools" $(BIN)/jupyter-book build . -q -W -n --keep-going
# One thread a process: tests and kernels run side by side on few cores.
QUIET_THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
LIBRARY := $(shell find v2v_lite book/results data -type f -not -name '*.pyc' 2>/dev/null)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.DEFAULT_GOAL := help
.PHONY: help venv assets book site zip test demo bench gpu execute stamp lint api clean

help:  ## list the targets
	@echo "v2v_lite: a textbook that runs. Targets:"
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | \
	    sed -E 's/^([a-z]+):.*## (.*)/  make \1 | \2/' | column -t -s '|' 2>/dev/null || \
	    grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST)

$(READY): requirements.txt pyproject.toml
	@echo "== venv: installing the exact set of requirements.txt into $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@# torch first and exactly: a bare 'torch' may resolve to several GB of other builds.
	@$(PY) -m pip install -q $$(grep -m1 '^torch==' requirements.txt)
	@$(PY) -m pip install -q -r requirements.txt
	@$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

venv: $(READY)  ## make the virtual environment .venv

$(ASSETS): tools/assets.py tools/assets.json $(READY)
	@echo "== assets: MathJax for an offline book, axe-core for its tests"
	@$(PY) tools/assets.py

assets: $(ASSETS)  ## bring the scripts that the built book needs

# The execution cache looks at a notebook's own code only: when the library, the
# data or the results change, everything executes again.
_build/.library: $(LIBRARY) $(READY)
	@mkdir -p _build && rm -rf _build/.jupyter_cache _build/.doctrees && touch $@

book: $(ASSETS) _build/.library  ## execute what changed and build the whole book
	@echo "== book: executing changed notebooks (cached) and building the pages"
	@$(QUIET_THREADS) $(JB)
	@echo "The book's first page: $(SITE)"

site: $(ASSETS)  ## build the book from the committed outputs (about a minute)
	@echo "== site: building the pages from the committed outputs"
	@mkdir -p _build
	@sed 's/execute_notebooks: .*/execute_notebooks: "off"/' _config.yml > _build/site.yml
	@$(JB) --config _build/site.yml
	@echo "The book's first page: $(SITE)"

test: site  ## all tests: library, notebooks, the built site in a browser
	@echo "== test: pytest over library, tools, notebooks and site, $(JOBS) workers"
	@$(QUIET_THREADS) $(PY) -m pytest -n $(JOBS) --dist loadscope --doctest-modules \
	    --nbval-lax --nbval-current-env --nbval-cell-timeout 300 v2v_lite tests book

demo: $(READY)  ## align MiniLM with Granite without a pair, from the bundled vectors
	@echo "== demo: two encoders, no pairs"
	@$(BIN)/v2v demo

bench: $(READY)  ## measure a costly table: NAME=align [QUICK=1] [RECHECK=1] [ONLY=part] [WRITE=1]
	@PYTHONPATH=book $(PY) -m experiments $(NAME) --jobs $(JOBS) \
	    $(if $(QUICK),--quick) $(if $(RECHECK),--recheck) $(if $(WRITE),--write) \
	    $(if $(ONLY),--only $(ONLY)) $(foreach S,$(SET),--set '$(S)')

gpu: $(READY)  ## measure what a CUDA GPU gives, MINUTES=8 at most; DRY=1 tries it without
	@PYTHONPATH=book $(PY) -m experiments.gpu $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(DRY),--dry-run) $(if $(WORK),--work $(WORK))

execute: $(READY)  ## run the notebooks and write their outputs in place
	@echo "== execute: running $(or $(NOTEBOOKS),all notebooks) in place"
	@$(QUIET_THREADS) $(PY) tools/execute.py $(NOTEBOOKS)

stamp: $(READY)  ## write the repository's address everywhere: ADDRESS=https://github.com/me/book
	@echo "== stamp: Colab cells and links"
	@$(PY) tools/stamp.py $(if $(ADDRESS),--address $(ADDRESS))

zip: site  ## the built pages in one file, to be read offline
	@rm -rf _build/translating-embeddings && cp -r _build/html _build/translating-embeddings
	@cd _build && rm -f translating-embeddings.zip && \
	    ../$(PY) -m zipfile -c translating-embeddings.zip translating-embeddings
	@rm -rf _build/translating-embeddings
	@echo "One file: _build/translating-embeddings.zip"

lint: $(READY)  ## check the style of code and notebooks, and the library's types
	@echo "== lint: ruff, mypy"
	@$(BIN)/ruff check .
	@$(PY) -m mypy

api: $(READY)  ## list the public names that changed since the last release
	@$(PY) tools/api.py

clean:  ## remove what was built (not .venv)
	@echo "== clean: removing _build and book/vendor"
	@rm -rf _build book/vendor build dist .pytest_cache .ruff_cache .mypy_cache
