"""An allocation: the tasks of `srun` find each other, work, and end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.campaign import begin_at, contents
from slurm.runs import write_small
from small import REPOSITORY, galbatch

from galbatch.cluster.allocation import Place, _put_away

pytestmark = pytest.mark.timeout(300)
CLUSTER = {"kind": "allocation", "memory": "2 GiB", "interface": "lo"}


class Srun:
    """The tasks that `srun` starts, on this machine; without its `-K`."""

    def __init__(self, folder: Path, step: int, tasks: int = 4) -> None:
        known = {"SLURM_NTASKS": str(tasks), "SLURM_JOB_ID": "7", "SLURM_STEP_ID": str(step)}
        path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"
        self.tasks = [
            subprocess.Popen(
                [sys.executable, "-m", "galbatch.cli", "run", "job.yaml"],
                cwd=folder,
                env={**os.environ, **known, "SLURM_PROCID": str(rank), "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            for rank in range(tasks)
        ]

    def wait(self, seconds: float = 120) -> list[tuple[int, str]]:
        """Exit codes, and what was said."""
        until = time.monotonic() + seconds
        found = []
        for task in self.tasks:
            said, _ = task.communicate(timeout=max(until - time.monotonic(), 1))
            found.append((task.returncode, said))
        return found

    def kill(self) -> None:
        for task in self.tasks:
            if task.poll() is None:
                os.killpg(task.pid, signal.SIGKILL)


@pytest.fixture
def started() -> Iterator[list[Srun]]:
    made: list[Srun] = []
    yield made
    for one in made:
        one.kill()


@pytest.mark.parametrize("tls", [True, pytest.param(False, marks=pytest.mark.faults)])
def test_the_tasks_make_what_one_process_makes(
    reference: Path, tmp_path: Path, started: list[Srun], tls: bool
) -> None:
    folder = tmp_path / "run"
    begin_at(reference, folder, "ingest")
    write_small(folder, CLUSTER | {"tls": tls})
    started.append(Srun(folder, 0))
    ended = started[-1].wait()
    assert [code for code, _ in ended] == [0] * 4, ended
    assert not any("Traceback" in said for _, said in ended), ended
    assert contents(folder) == contents(reference)
    started.append(Srun(folder, 1))
    ended = started[-1].wait()
    assert [code for code, _ in ended] == [0] * 4, ended
    assert "nothing to do" in ended[1][1]
    (left,) = (folder / "store.logs").iterdir()
    assert [path.name for path in left.iterdir()] == ["ended"]


def test_a_driver_that_is_killed_leaves_nobody_behind(
    reference: Path, tmp_path: Path, started: list[Srun]
) -> None:
    folder = tmp_path / "run"
    begin_at(reference, folder, "train")
    write_small(folder, CLUSTER | {"death_timeout": 5})
    tasks = Srun(folder, 0, 3)
    started.append(tasks)
    driver = tasks.tasks[1]
    assert driver.stdout is not None
    said = ""
    while "galbatch train: 1 to do" not in said:
        said += driver.stdout.readline()
    time.sleep(1)  # before the scheduler has seen its driver, `-K` alone ends it
    driver.kill()
    ended = tasks.wait(60)
    assert ended[1][0] == -signal.SIGKILL
    assert ended[0][0] == 0


@pytest.mark.parametrize("rank", [0, 2])
def test_an_interface_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """And nobody waits for the scheduler."""
    known = {"PROCID": rank, "NTASKS": 3, "JOB_ID": 7, "STEP_ID": 0}
    for name, value in known.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    write_small(tmp_path, CLUSTER | {"interface": "wlan9"})
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cluster.interface: 'wlan9' is not a valid network inter")
    if rank == 0:
        monkeypatch.setenv("SLURM_PROCID", "1")
        done = galbatch("run", "job.yaml", cwd=tmp_path)
        assert done.returncode == 3
        assert "cluster (allocation): the scheduler has ended (the first task" in done.stderr
        _put_away(Place(0, tmp_path / "none"))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, r"this is no task of srun or mpirun \(start it as 'srun -K -n 10 galbatch run JOB'"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, "this is no task"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7",
          "SLURM_STEP_ID": "4294967290"}, "this is no task"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"},
         "needs 3 tasks, got 2"),
        ({"SLURM_PROCID": "x", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"},
         "SLURM_PROCID: expected a number, got 'x'"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4(x2)", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"},
         r"SLURM_NTASKS: expected a number, got '4\(x2\)'"),
    ],
)  # fmt: skip
def test_what_is_no_allocation_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict[str, str], said: str
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    write_small(tmp_path, CLUSTER)
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(rf"^error: cluster \(allocation\): {said}", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
