"""Runs on a real Grid Engine end with the bytes of a serial run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults.campaign import Run
from sge.service import GridEngine
from slurm.runs import begun_at, digests, fits, run_serially, until, write_small
from small import galbatch_process

pytestmark = pytest.mark.timeout(300)
CLUSTER = {
    "kind": "sge",
    "workers": 2,
    "memory": "2 GiB",
    "interface": "lo",
    "queue": "main",
    "directives": ["-V"],
}


@pytest.fixture(scope="session")
def reference(grid_engine: GridEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small job of `slurm.runs` has run, serially."""
    return run_serially(tmp_path_factory.mktemp("reference"))


def running(grid_engine: GridEngine) -> int:
    return sum(job.state == "r" for job in grid_engine.jobs())


def test_two_jobs_make_what_one_process_makes(
    reference: Path, grid_engine: GridEngine, tmp_path: Path
) -> None:
    write_small(tmp_path, CLUSTER)
    run = Run(tmp_path)
    until(lambda: running(grid_engine) == 2, run)
    assert run.wait() == 0, run.said
    assert digests(tmp_path) == digests(reference)
    until(lambda: not grid_engine.jobs(), run)


def test_jobs_that_are_deleted_are_replaced(
    reference: Path, grid_engine: GridEngine, tmp_path: Path
) -> None:
    folder = begun_at("train", reference, tmp_path / "run", cluster=CLUSTER)
    run = Run(folder)
    until(lambda: fits(folder), run)
    grid_engine.cancel(*grid_engine.jobs())
    assert run.wait() == 0, run.said
    assert any(" lost (" in line and line.endswith("; replaced") for line in run.said), run.said
    assert digests(folder) == digests(reference)


def test_a_queue_that_is_not_there_is_refused(grid_engine: GridEngine, tmp_path: Path) -> None:
    write_small(tmp_path, CLUSTER | {"queue": "nowhere"})
    began = time.monotonic()
    done = galbatch_process("run", "job.yaml", cwd=tmp_path)
    assert time.monotonic() - began < 60
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: cluster (sge): qsub refused a job: ")
    assert 'unknown queue "nowhere"' in line
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
