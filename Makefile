# make check: set up a private environment and check the patch, the merged design and ours.
# make test:  set it up and run every test, the formatter, the linter and the type checker.
# make baseline: the verdicts of every design against the recorded ones.
# make kernel: a real Linux in an emulator, and random scenarios against it.
# make nightly: ten times as many random scenarios on the reference machine.
# make venv:  set the environment up, and nothing else.
PYTHON ?= python3
VENV := .venv
CHECKED := v1 linux-6.12 proposed
RECORDED := v1 linux-6.12
STAMP := $(VENV)/.installed

.PHONY: check venv test baseline kernel nightly lint corpus bench clean

check: $(STAMP)
	$(VENV)/bin/shstk check $(CHECKED) --hostile || test $$? -eq 1

venv: $(STAMP)

test: $(STAMP) lint
	$(VENV)/bin/python -m pytest

# The verdicts of every design against baseline/verdicts.txt.
baseline: $(STAMP)
	$(VENV)/bin/shstk baseline

# The reference machine against a real kernel, fetched and booted in Bochs.
kernel: $(STAMP)
	$(VENV)/bin/python -m shstk.kernel
	$(VENV)/bin/shstk conform --scenarios 300

# A long campaign of random scenarios on the reference machine, against the finite model.
nightly: $(STAMP)
	SHSTK_PROFILE=nightly $(VENV)/bin/python -m pytest tests/shstk/test_refine.py

lint: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# Record the corpus again: one trace per violated property, design and environment.
corpus: $(STAMP)
	rm -f counterexamples/corpus/*.itf.json
	$(VENV)/bin/shstk check $(RECORDED) --bounded --no-depends --hostile --pivot --out counterexamples/corpus >/dev/null || test $$? -eq 1

bench: $(STAMP)
	$(VENV)/bin/python -m benchmarks
	$(VENV)/bin/python -m benchmarks.reference

$(STAMP): pyproject.toml requirements.txt shstk/engine/engine.c
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info shstk/engine/*.so .cache
