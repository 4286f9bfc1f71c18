"""Runs on a real SLURM: whatever befalls their workers, they end with the bytes of a serial run."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from faults.campaign import Moment, Run
from slurm.runs import (
    CLUSTER,
    begun_at,
    digests,
    fits,
    kept,
    said_lost,
    until,
    working,
    write_small,
)
from slurm.service import NODES, Slurm
from small import galbatch_process, write_job

pytestmark = pytest.mark.timeout(300)
SAID_WITHIN = 60.0
ENDS_WITHIN = 20.0
"""Seconds that workers may live on when their driver was killed."""


def refused(folder: Path) -> str:
    """The line that a run ends with which must change something; nothing else may be left."""
    began = time.monotonic()
    done = galbatch_process("run", "job.yaml", cwd=folder)
    assert time.monotonic() - began < SAID_WITHIN
    assert done.returncode == 2, done.stderr
    *others, line = done.stderr.splitlines()
    assert others[0] == "galbatch scan: 1 to do"
    # On a machine that is busy it may have been said, too, that workers are waited for.
    assert all(other.startswith("galbatch scan: ") for other in others[1:]), others
    return line


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_nodes_make_what_one_process_makes(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    """Though one of their workers is cancelled as soon as both have come."""
    write_small(tmp_path)
    run = Run(tmp_path)
    until(lambda: sorted(working(slurm, tmp_path)) == ["n1", "n2"], run)
    lost = slurm.jobs()[:1]
    slurm.cancel(*lost)
    assert run.wait() == 0, run.said
    assert said_lost(run, lost), run.said
    assert digests(tmp_path) == digests(reference)
    assert not slurm.jobs()
    assert not slurm.processes()


@pytest.mark.slow
def test_workers_that_are_all_cancelled_are_replaced(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    folder = begun_at("train", reference, tmp_path / "run")
    run = Run(folder)
    until(lambda: len(working(slurm, folder)) == 2, run)
    until(lambda: fits(folder), run)
    lost = slurm.jobs()
    slurm.cancel(*lost)
    assert run.wait() == 0, run.said
    assert said_lost(run, lost), run.said
    assert digests(folder) == digests(reference)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["scan", "ingest", "train", "predict"])
@pytest.mark.parametrize("share", [slice(1), slice(None)], ids=["one", "all"])
def test_workers_are_cancelled_as_a_stage_begins(
    stage: str, share: slice, reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    folder = begun_at(stage, reference, tmp_path / "run")
    run = Run(folder)
    assert run.reach(stage), run.said
    until(lambda: len(working(slurm, folder)) == 2 or stage in run.seconds, run)
    assert stage not in run.seconds, "too late"
    slurm.cancel(*slurm.jobs()[share])
    assert run.wait() == 0, run.said
    assert not any("Traceback" in line for line in run.said)
    assert digests(folder) == digests(reference)


@pytest.mark.slow
def test_four_nodes_make_what_one_process_makes(
    finished: Path, slurm: Slurm, tmp_path: Path
) -> None:
    """A larger job with two models, which the other tests do serially too."""
    write_job(tmp_path, cluster=CLUSTER | {"workers": 4}, sinks=[])
    run = Run(tmp_path)
    until(lambda: sorted(working(slurm, tmp_path)) == [*NODES], run)
    assert run.wait() == 0, run.said
    assert digests(tmp_path) == digests(finished)


@pytest.mark.slow
def test_a_run_goes_on_when_a_node_dies(reference: Path, slurm: Slurm, tmp_path: Path) -> None:
    folder = begun_at("ingest", reference, tmp_path / "run")
    run = Run(folder)
    until(lambda: len(working(slurm, folder)) == 2, run)
    slurm.node_down("n2")
    assert run.wait() == 0, run.said
    assert digests(folder) == digests(reference)


def test_workers_end_when_their_driver_is_killed(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    folder = begun_at("train", reference, tmp_path / "run")
    run = Run(folder)
    until(lambda: fits(folder), run)
    assert run.kill(Moment("train", 0.0, "driver"), 0.0)
    before = kept(folder)
    until(lambda: not slurm.jobs() and not slurm.processes(), run, ENDS_WITHIN)
    assert kept(folder) == before
    again = Run(folder)
    assert again.wait() == 0, again.said
    assert digests(folder) == digests(reference)


def test_a_partition_that_is_not_there_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    write_small(tmp_path, {"queue": "nowhere"})
    line = refused(tmp_path)
    assert line.startswith("error: cluster (slurm): sbatch refused a job: sbatch: error: "), line
    assert "invalid partition specified: nowhere" in line
    assert left(tmp_path) == ["job.yaml"]


def test_a_prologue_that_fails_is_shown(slurm: Slurm, tmp_path: Path) -> None:
    write_small(tmp_path, {"prologue": ["echo no such module >&2; exit 3"]})
    line = refused(tmp_path)
    assert re.match(r"error: cluster \(slurm\): 2 jobs \(.*\) ended before a worker came", line)
    assert f"{tmp_path}/store.logs/" in line
    assert "ends: no such module" in line
    assert left(tmp_path) == ["job.yaml", "store.logs"]


def test_a_node_that_does_not_share_the_store_is_named(slurm: Slurm, tmp_path: Path) -> None:
    # A node that does share it may have done some of the work before.
    write_small(tmp_path, {"directives": ["--nodelist=n2"]})
    (tmp_path / "store").mkdir()
    with slurm.disk_of_its_own("n2", tmp_path / "store"):
        line = refused(tmp_path)
    assert re.match(rf"error: job on n2: does not see .* {tmp_path}/store ", line)
    assert "store: must be on a disk that all workers share" in line
    assert [*(tmp_path / "store").iterdir()] == []


def test_jobs_that_find_no_folder_for_their_log_are_refused(slurm: Slurm, tmp_path: Path) -> None:
    write_small(tmp_path, {"directives": ["--nodelist=n2"]})
    with slurm.disk_of_its_own("n2", tmp_path):
        line = refused(tmp_path)
    assert re.search(r"2 jobs \(.*\) ended before a worker came \(FAILED JobLaunchFailure\)", line)
    # What is kept are the numbers of the two jobs.
    assert left(tmp_path) == ["job.yaml", "store.logs"]
    assert [path.name for path in (tmp_path / "store.logs").iterdir()] == ["jobs"]
