# `make run` and `make test` are all that a fresh machine needs: they fetch uv if it is missing,
# build the locked environment and go.
SHELL := /bin/bash
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run --frozen

# uv keeps a cache in the user's home: where that cannot be written, in .tools.
ifneq ($(shell [ -n "$$HOME" ] && mkdir -p "$${XDG_CACHE_HOME:-$$HOME/.cache}" 2>/dev/null && echo y),y)
export UV_CACHE_DIR ?= $(CURDIR)/.tools/cache
endif

# The tests start some hundred processes: where this is set, each would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# A file's tests stay together, since they share its fixtures; the order of files is conftest's.
TWO_WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup run test lint bench faults slurm sge broken cases surroundings schemas clean

run: .venv/ready
	$(RUN) galbatch run jobs/quickstart.yaml

setup: .venv/ready

# A SLURM on this machine, which its tests bring up, leaves no room for other tests beside it.
test: .venv/ready
	$(RUN) pytest $(TWO_WORKERS) --durations=10 -m "not slurm and not sge and not faults"
	$(RUN) pytest tests/slurm -m "not slow" --durations=10

lint: .venv/ready
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

bench: .venv/ready
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(RUN) python $$script || exit 1; done

faults: .venv/ready
	$(RUN) python tests/faults/campaign.py --moments 50
	PYTHONPATH=tests $(RUN) python tests/faults/lost_workers.py
	$(RUN) pytest tests -m faults

# All tests on a real SLURM, also those that take minutes.
slurm: .venv/ready
	$(RUN) pytest tests/slurm --durations=10

# A few of them on a real Grid Engine.
sge: .venv/ready
	$(RUN) pytest tests/sge

broken: .venv/ready
	$(RUN) python tests/broken/campaign.py --files 2000

cases: .venv/ready
	$(RUN) python benchmarks/cases.py

# The tests in surroundings that are all unusual at once.
surroundings: .venv/ready
	bash tests/faults/surroundings.sh .venv/bin/python -m pytest

schemas: .venv/ready
	$(RUN) python -m galbatch.spec.jsonschema schemas

.venv/ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen
	touch $@

.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

clean:
	rm -rf .venv .tools stores dist
