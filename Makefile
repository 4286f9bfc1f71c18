# `make run` and `make test` are all that a fresh machine needs: they fetch uv if it is missing,
# build the locked environment and go.
SHELL := /bin/bash
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
RUN := $(UV) run --frozen

# The tests start some hundred processes: where this is set, each would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test lint bench faults schemas clean

run: .venv/ready
	$(RUN) galbatch run jobs/quickstart.yaml

test: .venv/ready
	$(RUN) pytest

lint: .venv/ready
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

bench: .venv/ready
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(RUN) python $$script || exit 1; done

faults: .venv/ready
	$(RUN) python tests/faults/campaign.py --moments 50
	PYTHONPATH=tests $(RUN) python tests/faults/lost_workers.py

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
