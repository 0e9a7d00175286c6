# Two commands do everything on a machine with Python >= 3.11, pip and make:
#   make sweep   set up, then answer an experiment   (EXPERIMENT=file.yaml  ARGS="--seeds 0,1,2")
#   make test    set up, then run the tests          (ARGS="-k captions")
# Both can be repeated: what is installed stays, what is finished is not run again.

PYTHON ?= python3
EXPERIMENT ?= experiments/prec_recall.yaml
ARGS ?=
BIN := .venv/bin

.PHONY: sweep test setup check clean

sweep: setup
	$(BIN)/python -m tadp_ray.sweep $(EXPERIMENT) $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
