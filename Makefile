# make book    build the book: _build/html/book/index.html
# make test    run the tests
# make lint    unused names, long lines and the like
# Each makes its environment (.venv) first. It needs Python 3.11 or newer and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

# Threads that wait for each other sleep. By default they spin, and on a busy machine a notebook of half a minute takes ten.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: env book test lint check-book check-package check-links check-colab pairs hashes clean
.DEFAULT_GOAL := book

env: $(READY)

$(READY): requirements.txt requirements-hashes.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "The book needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes --no-deps --requirement requirements-hashes.txt
	$(PIP) install --quiet --requirement requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# --all: every page is written, so that a warning is given each time and not only the first.
# Notebooks come from their cache unless they, the library or the environment changed.
book: $(READY)
	$(BIN)/jupyter-book build . --path-output . --all -W -n --keep-going

# Two processes, since most tests use one thread; a file stays in one of them.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not browser"

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# The built book, and JupyterLab, in a real browser (Chromium). CI=1: a missing book is a failure, not a skip.
check-book: $(READY)
	CI=1 $(BIN)/python -m pytest -m browser tests/test_book.py tests/test_book_widgets.py tests/test_book_limits.py tests/test_live.py tests/test_jupyter.py

# Build wheel and sdist, install the one and run tests from the other.
check-package: $(READY)
	$(BIN)/python .ci/check_package.py

# Do the addresses that the book names answer? Needs the network; once a week in the workflow.
check-links: $(READY)
	MODLIB_SCALE=smoke $(BIN)/jupyter-book build . --path-output _build/links --builder linkcheck --keep-going

# Each .ipynb alone, with the packages that Colab has: pinned in .ci/colab.txt. Once a week in the workflow.
check-colab:
	$(PYTHON) .ci/colab.py

# Write each notebook's .ipynb from its .md, which is the source: as JupyterLab and Colab show it.
pairs: $(READY)
	$(BIN)/python book/_ext/editions.py notebooks/*.md

# Write requirements-hashes.txt after a version in requirements.txt changed.
hashes:
	$(PYTHON) -m venv _build/tools && _build/tools/bin/pip install --quiet pip-tools
	sed -n '/^[A-Za-z]/{/^torch/!p}' requirements.txt > _build/pinned.in
	sed '/^[^#]/,$$d' requirements-hashes.txt > _build/hashes.txt
	_build/tools/bin/pip-compile --quiet --generate-hashes --no-header --no-annotate --allow-unsafe --no-emit-index-url \
		--no-emit-find-links --strip-extras --no-config --output-file - _build/pinned.in >> _build/hashes.txt
	mv _build/hashes.txt requirements-hashes.txt

clean:
	rm -rf _build
