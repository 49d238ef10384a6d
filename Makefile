# `make demo` and `make test` set everything up in .venv by themselves; a second call installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/.ready-sample
	$(BIN)/cdl demo --out $(OUT)

test: $(VENV)/.ready-test
	CDL_REQUIRE_REFERENCE=1 $(BIN)/python -m pytest

test-slow: $(VENV)/.ready-test
	CDL_REQUIRE_REFERENCE=1 $(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

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
	rm -rf $(VENV) out build *.egg-info
