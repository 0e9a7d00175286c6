# On a machine with Python 3.11, 3.12 or 3.13, pip and make:
#   make sweep       set up, then run an experiment   (EXPERIMENT=file.yaml  ARGS="--seeds 0,1,2")
#   make test        set up, then run the tests       (ARGS="-k captions")
#   make test-fast   the tests without those that start Ray, a browser or training processes, and without other long ones
# All can be repeated: packages are not installed again, finished cells are not trained again. `make sweep` installs no test tools.

PYTHON ?= python3
EXPERIMENT ?= experiments/prec_recall.yaml
ARGS ?=
BIN := .venv/bin

.PHONY: sweep test test-fast check setup setup-dev clean

sweep: setup
	$(BIN)/python -m tadp_ray.sweep $(EXPERIMENT) $(ARGS)

# Two processes, a file of tests at a time, the longest files first. The many programs that tests start begin sooner with compiled
# files, even where the environment wants none.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup-dev
	$(PYTEST) $(ARGS)

test-fast: setup-dev
	$(PYTEST) -m "not (cluster or web or slow)" $(ARGS)

# .pre-commit-config.yaml runs it before each commit.
check: setup-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/deptry . && $(BIN)/pyrefly check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The packages of a sweep, and those of tests and checks.
setup: .venv/installed
setup-dev: .venv/installed-dev

PIP := $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable

.venv/installed: pyproject.toml constraints.txt
	@echo "Setting up .venv, once: torch, Ray, MLflow and what they need. pip names each download with its size."
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) .
	@echo "Trying it: a plan of prec_recall, whose checks and count of a step later commands need not repeat."
	env -u RAY_ADDRESS -u MLFLOW_TRACKING_URI $(BIN)/tadp-ray sweep prec_recall --dry-run
	@echo "Set up: .venv has $$(du -sh .venv | cut -f1)."
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Adding the packages of tests and checks."
	$(PIP) '.[dev]'
	@echo "Set up: .venv has $$(du -sh .venv | cut -f1)."
	touch $@

clean:
	rm -rf .venv build *.egg-info
