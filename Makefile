# Every target sets up what it needs in .venv by itself; a second call installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo
COVERED ?= -m ""
# Tests run in as many processes as there are cores, four at most: each imports torch, and some need gigabytes.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal

.PHONY: browser demo test test-slow lint format coverage dist clean

demo: $(VENV)/.ready-sample
	$(BIN)/cdl demo --out $(OUT)

# Chromium for the tests of pages, on Debian and Ubuntu; elsewhere install it by hand, or name it in CDL_CHROMIUM.
browser:
	command -v chromium > /dev/null || command -v google-chrome > /dev/null || \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core)

test: $(VENV)/.ready-test
	CDL_REQUIRE_REFERENCE=1 $(BIN)/python -m pytest $(PARALLEL)

test-slow: $(VENV)/.ready-test
	CDL_REQUIRE_REFERENCE=1 $(BIN)/python -m pytest $(PARALLEL) -m slow

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# COVERED is what pytest is told: all tests, unless it says otherwise, as `make coverage COVERED=tests/latents` does.
# The reports come whether or not a test fails. numba compiles anew, since what writes instructions runs only then. A
# process that a test killed may leave half a file of data, which `combine` names and leaves out.
coverage: $(VENV)/.ready-test
	rm -rf build/coverage
	mkdir -p build/coverage
	CDL_REQUIRE_REFERENCE=1 NUMBA_CACHE_DIR=$(CURDIR)/build/coverage/numba $(BIN)/python -m coverage run \
		-m pytest -p tests.support.measured_workers $(COVERED) || touch build/coverage/failed
	-$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage html --quiet
	$(BIN)/python -m coverage report
	test ! -e build/coverage/failed

# The wheel is built from the source distribution, so nothing of an earlier build gets into it.
dist: $(VENV)/.ready-test
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# The stamps hold what is installed: the demo needs less than the tests, so these satisfy both.
$(VENV)/.ready-sample: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sample]'
	touch $@

$(VENV)/.ready-test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.ready-sample

clean:
	rm -rf $(VENV) out build dist *.egg-info
