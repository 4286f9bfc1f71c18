"""`galbatch submit` and an allocation, on a real SLURM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm.runs import begun_at, digests, fits, working, write_small
from slurm.service import NODES, Slurm
from small import galbatch

from galbatch.store.layout import Layout
from galbatch.store.queue_jobs import DRIVER, recorded_jobs

pytestmark = pytest.mark.timeout(300)
AN_HOUR = {"walltime": "01:00:00"}


def said(folder: Path) -> str:
    """What the drivers have said."""
    return "".join(log.read_text() for log in (folder / "store.logs").glob("galbatch-driver*"))


def until(holds: Callable[[], Any], folder: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, said(folder)
        time.sleep(0.1)


def drivers(folder: Path) -> list[int]:
    jobs = recorded_jobs(Layout(folder / "store"))
    return [int(job.number) for job in jobs if job.what == DRIVER]


def submit(folder: Path) -> int:
    done = galbatch("submit", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return drivers(folder)[-1]


def test_a_driver_hands_over_is_cancelled_and_submitted_again(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    """With four workers on four nodes."""
    write_small(tmp_path, {"workers": 4, "driver": AN_HOUR})
    first = submit(tmp_path)
    until(lambda: sorted(working(slurm, tmp_path)) == [*NODES], tmp_path)
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert f"queue: driver, job {first} RUNNING\nqueue: worker, 4 jobs (" in done.stdout
    # As SLURM does before the time is up, or when a job has to give way.
    subprocess.run(["scancel", "--batch", "--signal=USR1", str(first)], check=True)
    until(lambda: len(drivers(tmp_path)) == 2, tmp_path)
    second = drivers(tmp_path)[-1]
    assert f"galbatch driver: job {second} goes on" in said(tmp_path)
    until(lambda: fits(tmp_path), tmp_path)
    slurm.cancel(second)
    until(lambda: not slurm.jobs(), tmp_path)
    assert "it was cancelled in the queue: no other follows" in said(tmp_path)
    third = submit(tmp_path)
    until(lambda: not slurm.jobs(), tmp_path)
    assert drivers(tmp_path) == [first, second, third]
    assert "Traceback" not in said(tmp_path)
    assert digests(tmp_path) == digests(reference), said(tmp_path)
    assert not slurm.processes()


@pytest.mark.slow
def test_a_driver_that_slurm_starts_again_gives_way_to_the_next(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    folder = begun_at("ingest", reference, tmp_path / "run", cluster={"driver": AN_HOUR})
    first = submit(folder)
    until(lambda: working(slurm, folder), folder)
    subprocess.run(["scontrol", "requeue", str(first)], check=True)
    until(lambda: [job.number for job in slurm.jobs()] == [first], folder)
    assert len(drivers(folder)) == 2
    assert digests(folder) == digests(reference), said(folder)


@pytest.mark.slow
def test_a_run_on_slurm_is_cancelled(reference: Path, slurm: Slurm, tmp_path: Path) -> None:
    folder = begun_at("train", reference, tmp_path / "run", cluster={"driver": AN_HOUR})
    number = submit(folder)
    until(lambda: fits(folder), folder)
    done = galbatch("cancel", "job.yaml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"driver, job {number}: cancelled\n" in done.stdout
    until(lambda: not slurm.jobs() and not slurm.processes(), folder)
    assert drivers(folder) == [number]


@pytest.mark.slow
def test_an_allocation_makes_what_one_process_makes(
    reference: Path, slurm: Slurm, tmp_path: Path
) -> None:
    folder = begun_at("ingest", reference, tmp_path / "run")
    write_small(folder, {"kind": "allocation", "memory": "2 GiB", "interface": "lo"})
    command = f"srun -K {sys.executable} -m galbatch.cli run job.yaml"
    options = [f"-D {folder}", "-N 4", "-n 6", "--mem-per-cpu=2G"]
    slurm.submit(command, f"-o {folder}/first", *options)
    until(lambda: not slurm.jobs(), folder)
    assert digests(folder) == digests(reference), (folder / "first").read_text()
    assert "Traceback" not in (folder / "first").read_text()
