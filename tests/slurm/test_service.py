"""The SLURM of the tests does what they need of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm.service import GPU_NODES, NODES, Slurm

WITHIN = 30.0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def on(slurm: Slurm, tmp_path: Path, script: str, *options: str) -> str:
    """What a job prints."""
    out = tmp_path / "out"
    slurm.submit(script, f"-o {out}", *options)
    until(lambda: not slurm.jobs())
    return out.read_text()


def test_jobs_are_spread_listed_and_cancelled(slurm: Slurm) -> None:
    jobs = [slurm.submit("sleep 60", "-o /dev/null", "-J two", "-p cpu") for _ in range(2)]
    until(lambda: len(slurm.jobs("RUNNING")) == 2)
    assert [job.number for job in slurm.jobs()] == jobs
    assert {job.node for job in slurm.jobs()} == {"n1", "n2"}
    assert {(job.name, job.partition) for job in slurm.jobs()} == {("two", "cpu")}
    slurm.cancel(jobs[0])
    until(lambda: [job.number for job in slurm.jobs()] == jobs[1:])
    assert jobs[0] in [job.number for job in slurm.jobs("CANCELLED")]


def test_gpus_are_given_to_jobs(slurm: Slurm, tmp_path: Path) -> None:
    said = on(slurm, tmp_path, "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES", "--gres=gpu:2")
    node, devices = said.split()
    assert node in GPU_NODES
    assert devices == "0,1"
    with pytest.raises(RuntimeError, match="node configuration is not available"):
        slurm.submit("true", "-p cpu", "--gres=gpu:1")


def test_more_time_than_a_partition_allows_is_refused(slurm: Slurm) -> None:
    with pytest.raises(RuntimeError, match="time limit is invalid"):
        slurm.submit("true", "-p short", "-t 3")


def test_a_node_that_dies_takes_its_processes_along(slurm: Slurm, tmp_path: Path) -> None:
    pulse = tmp_path / "pulse"
    script = f"setsid sh -c 'while :; do echo >>{pulse}; sleep 0.05; done' & wait"
    job = slurm.submit(script, "-o /dev/null", "-w n2")
    until(pulse.exists)
    slurm.node_down("n2")
    beats = pulse.stat().st_size
    time.sleep(0.3)
    assert pulse.stat().st_size == beats
    assert [(job.number, job.state) for job in slurm.jobs()] == [(job, "PENDING")]
    slurm.cancel(job)
    slurm.node_up("n2")
    assert on(slurm, tmp_path, "echo $SLURMD_NODENAME", "-w n2", "-n 4") == "n2\n"


def test_a_node_may_have_a_disk_of_its_own(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    look = f"ls {tmp_path / 'folder'}"
    with slurm.disk_of_its_own("n3", tmp_path / "folder"):
        assert on(slurm, tmp_path, look, "-w n3") == ""
        assert on(slurm, tmp_path, look, "-w n4") == "file\n"
    assert on(slurm, tmp_path, look, "-w n3") == "file\n"


def test_what_outlives_its_job_is_found(slurm: Slurm, tmp_path: Path) -> None:
    on(slurm, tmp_path, "setsid sleep 61 & sleep 0.2")
    assert [*slurm.processes().values()] == ["sleep 61"]
    slurm.clear()
    until(lambda: not slurm.processes())


def test_it_is_started_once_and_stops_what_it_started(tmp_path: Path) -> None:
    """By the command line, beside the one that the other tests use."""
    folder = Path(tempfile.mkdtemp(prefix="galbatch-slurm-", dir="/tmp"))
    pids = []
    try:
        for _ in range(2):
            subprocess.run([sys.executable, "-m", "slurm.service", "up", str(folder)], check=True)
            pids.append({file.name: file.read_text() for file in (folder / "run").glob("*.pid")})
        assert pids[0] == pids[1]
        assert len(pids[0]) == len(NODES) + 2
        Slurm(folder).submit("sleep 60", "-o /dev/null")
    finally:
        for _ in range(2):
            subprocess.run([sys.executable, "-m", "slurm.service", "down", str(folder)], check=True)
    assert not list((folder / "run").glob("*.pid"))
    assert not Slurm(folder).processes()
    shutil.rmtree(folder)
