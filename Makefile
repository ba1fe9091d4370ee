# make demo   set up, then watch lsn learn and score on real images (offline, half a minute)
# make test   set up, lint, then the whole test suite
# make check  lint, types and the fast tests, under a minute
# make docs   the documentation site, in site/
# make test-hard     the suite beside busy loops, on one core, with AVX2 only and in random order
# make test-robust   kills, faults, hostile and damaged files, full disks: about an hour
# make test-lowest   the suite with the oldest releases that pyproject.toml allows
# Everything lives in .venv; set PYTHON to choose the interpreter (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
CONSTRAINTS ?= constraints-cpu.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check test-slow test-hard test-robust test-lowest lint format docs screenshots bench clean

demo: $(READY)
	$(BIN)/lsn demo

test: lint
	$(BIN)/python -m pytest -W error -n 2 --dist worksteal

# what needs neither a model nor a process of its own
check: lint
	$(BIN)/python -m pytest -W error -n 2 --dist worksteal tests/scores tests/store tests/artefacts tests/reference \
	  tests/test_architecture.py tests/test_metrics.py tests/test_intervals.py \
	  tests/test_threshold.py tests/test_validation.py tests/test_files.py tests/test_config.py

test-slow: $(READY)
	$(BIN)/python -m pytest -W error -m slow

# ROBUST="-k kills" does a part of it; tests/robustness/README.md has them all
test-robust: $(READY)
	$(BIN)/python -m pytest -W error -m slow --durations 0 tests/robustness $(ROBUST)

# half an hour or more on two cores; HARD="--only random --seed 7 tests/store" does a part of it
test-hard: $(READY)
	$(BIN)/python -m tests.robustness.hard $(HARD)

# In a folder of its own, because it brings a torch of its own: 3 GB of downloads where that is a CUDA build.
test-lowest:
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  -r pyproject.toml --extra demo --extra parquet --extra plots --extra dev
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps -e .
	$(LOWEST)/bin/python -m pytest -W error -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check lsncli tests benchmarks examples docs/*.py
	$(BIN)/ruff format --check lsncli tests benchmarks examples docs/*.py
	$(BIN)/mypy
	$(BIN)/mypy examples/score_folder.py

format: $(READY)
	$(BIN)/ruff check --fix lsncli tests benchmarks examples docs/*.py
	$(BIN)/ruff format lsncli tests benchmarks examples docs/*.py

# docs/cli.md from the commands, the picture of the rooms from the imports, then the site: open site/index.html
# (its search needs a server: python -m http.server -d site)
docs: $(VENV)/.docs-ready
	$(BIN)/python docs/cli_reference.py
	$(BIN)/python docs/draw_rooms.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# docs/images: the report in Chromium, and a terminal
screenshots: $(READY)
	$(BIN)/python docs/screenshots.py

# every ratio with its goal in one table, under 15 minutes; LSN_IMAGES names the folder of photos-original.tar
bench: $(READY)
	$(BIN)/python -m benchmarks.all

clean:
	rm -rf $(VENV) $(LOWEST) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The constraint goes through the environment so that isolated builds see it, too: without it a second
# install step would swap the CPU torch for a CUDA one of several GB.
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lsn needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT="$(abspath $(CONSTRAINTS))" $(BIN)/python -m pip install --quiet \
	  --disable-pip-version-check -e '.[demo,parquet,plots,dev]'
	touch $@

$(VENV)/.docs-ready: $(READY)
	PIP_CONSTRAINT="$(abspath $(CONSTRAINTS))" $(BIN)/python -m pip install --quiet \
	  --disable-pip-version-check -e '.[docs]'
	touch $@
