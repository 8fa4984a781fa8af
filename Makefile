PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo
# Files of tests are spread over processes of one thread each: together they wait less than one process with two.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

.PHONY: demo test test-all check bench docs clean

## make demo: set up, then the main job on synthetic radiographs (or on yours: make demo RECORDS=films.csv)
demo: .venv/ready
	$(BIN)/hilum demo --out $(OUT) $(if $(RECORDS),--records $(RECORDS))

## make test: set up, then formatting, lint, types and every test that is not marked slow
test: check
	$(PYTEST) -m "not slow"

test-all: check
	$(PYTEST) -m "" --timeout 7200

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## make bench: every claim of speed, measured here
bench: .venv/ready
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv demo

## make docs: the pages of the commands, from their --help, and the table of checkpoints' families
docs: .venv/ready
	$(BIN)/python docs/commands.py
	$(BIN)/python docs/families.py
