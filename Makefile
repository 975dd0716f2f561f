# make demo       install, then from nothing to a results table on synthetic blood cells
# make test       lint, types, layers and the tests that take seconds
# make test-slow  the tests that take minutes: faults, studies, the wheel

VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
# Processes for `make test`.
JOBS ?= 2
TORCH := torch==2.13.0

.PHONY: install install-dev demo demo-data test test-slow lint clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: apt-get install python3.11-venv (or set PYTHON=)"; exit 4; }

# torch goes first: a range in another package would take the newest one with gigabytes of CUDA libraries.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt $(TORCH)
	$(BIN)/pip install -q -c constraints.txt -e ".[all]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/medvq synth smear data/smear --samples 1500
	$(BIN)/medvq shard data/smear datasets/smear --recipe shards/quickstart.yaml
	$(BIN)/medvq run jobs/quickstart.yaml

lint: install-dev
	$(BIN)/ruff format --check medvq tests slurm
	$(BIN)/ruff check medvq tests slurm
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: install-dev
	$(BIN)/pytest -m slow

clean:
	rm -rf $(VENV) build dist *.egg-info
