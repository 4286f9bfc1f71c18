"""Runs on a real SLURM: whatever befalls their workers, they end with the bytes of a serial run."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.campaign import Moment, Run
from slurm.runs import begun_at, digests, write_small
from slurm.service import Slurm
from small import galbatch_process

pytestmark = pytest.mark.timeout(300)
SAID_WITHIN = 60.0
ENDS_WITHIN = 20.0
"""Seconds that workers may live on when their driver was killed."""


def until(holds: Callable[[], bool], run: Run, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, run.said
        time.sleep(0.1)


def working(slurm: Slurm, folder: Path) -> dict[str, int]:
    """The jobs whose workers have come, by node."""
    found = {}
    for job in slurm.jobs("RUNNING"):
        log = folder / "store.logs" / f"dask-worker-{job.number}.err"
        if log.exists() and "Registered to:" in log.read_text():
            found[job.node] = job.number
    return found


def fits(folder: Path) -> bool:
    """Whether a fit is under way: it has left a checkpoint."""
    return any((folder / "store" / "work" / "staging").rglob("state.npz"))


def kept(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the store that is not temporary."""
    store = folder / "store"
    files = (path for path in store.rglob("*") if path.is_file())
    names = {path.relative_to(store).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not name.startswith("work/")
    }


def refused(folder: Path) -> str:
    """The line that a run ends with which must change something; nothing else may be left."""
    began = time.monotonic()
    done = galbatch_process("run", "job.yaml", cwd=folder)
    assert time.monotonic() - began < SAID_WITHIN
    assert done.returncode == 2, done.stderr
    first, line = done.stderr.splitlines()
    assert first == "galbatch scan: 1 to do"
    return line


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_nodes_make_what_one_process_makes(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    write_small(tmp_path)
    run = Run(tmp_path)
    until(lambda: sorted(working(slurm, tmp_path)) == ["n1", "n2"], run)
    assert run.wait() == 0, run.said
    assert digests(tmp_path) == digests(reference)
    assert not slurm.jobs()
    assert not slurm.processes()


def test_workers_that_are_cancelled_are_replaced(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    """One of two as ingest begins, and all in the midst of a fit."""
    folder = begun_at("train", reference, tmp_path / "run")
    run = Run(folder)
    until(lambda: len(working(slurm, folder)) == 2, run)
    until(lambda: fits(folder), run)
    slurm.cancel(*slurm.jobs())
    assert run.wait() == 0, run.said
    assert any(re.search(r"2 jobs .* lost \(CANCELLED\).*; replaced$", line) for line in run.said)
    assert digests(folder) == digests(reference)


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
    assert f"{tmp_path}/store.logs/dask-worker-" in line
    assert "ends: no such module" in line
    assert left(tmp_path) == ["job.yaml", "store.logs"]


def test_a_node_that_does_not_share_the_store_is_named(slurm: Slurm, tmp_path: Path) -> None:
    write_small(tmp_path)
    (tmp_path / "store").mkdir()
    with slurm.disk_of_its_own("n2", tmp_path / "store"):
        line = refused(tmp_path)
    assert re.match(rf"error: worker \S+ on n2: does not see .* {tmp_path}/store ", line)
    assert "store: must be on a disk that all workers share" in line
    assert [*(tmp_path / "store").iterdir()] == []


def test_jobs_that_find_no_folder_for_their_log_are_refused(slurm: Slurm, tmp_path: Path) -> None:
    write_small(tmp_path, {"directives": ["--nodelist=n2"]})
    with slurm.disk_of_its_own("n2", tmp_path):
        line = refused(tmp_path)
    assert re.search(r"2 jobs \(.*\) ended before a worker came \(FAILED JobLaunchFailure\)", line)
    assert left(tmp_path) == ["job.yaml"]
