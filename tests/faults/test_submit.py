"""`galbatch submit`: the driver as a job, what befalls it, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import begin_at, contents
from queues import StubQueue, words
from slurm.runs import write_small
from small import galbatch
from toy import site as toy_site

from galbatch.cluster.driver import DriverQueue
from galbatch.run.drive import BARREN, Driver
from galbatch.run.store import opened
from galbatch.spec.cluster import QueueCluster
from galbatch.store.fence import Occupied
from galbatch.store.layout import Layout
from galbatch.store.queue_jobs import (
    DRIVER,
    begin_drivers,
    cancel_drivers,
    read_drivers,
    record_job,
    recorded_jobs,
)

pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.timeout(300)


def submit(folder: Path) -> str:
    done = galbatch("submit", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(holds: Callable[[], Any], folder: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, said(folder)
        time.sleep(0.1)


def said(folder: Path) -> str:
    """What the drivers have said, and those behind them."""
    logs = sorted((folder / "store.logs").glob("galbatch-driver*"))
    return "".join(log.read_text() for log in logs)


def is_over(found: StubQueue, folder: Path) -> None:
    """Wait until no job is left; a driver hands over the next one before it ends."""
    until(lambda: found.all_end(0), folder)


def test_a_driver_that_is_killed_is_submitted_again(
    reference: Path, tmp_path: Path, stub: Any
) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm"))
    assert submit(tmp_path).startswith("job 101 drives small; ")
    until(lambda: "galbatch ingest: done" in said(tmp_path), tmp_path)
    done = galbatch("submit", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: small: job 101 RUNNING drives this job already ('galbatch cancel' ends it)\n"
    )
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert "queue: driver, job 101 RUNNING\nqueue: worker, job 102 RUNNING" in done.stdout
    found.kill()
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert (
        "note: the driver, job 101, is over (CANCELLED) and the run has not ended: " in done.stdout
    )
    submit(tmp_path)
    is_over(found, tmp_path)
    assert contents(tmp_path) == contents(reference), said(tmp_path)
    assert [(job.number, job.what) for job in recorded_jobs(Layout(tmp_path / "store"))] == [
        ("101", "driver"), ("102", "worker"), ("103", "driver"), ("104", "worker")
    ]  # fmt: skip
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert "queue: none of 4 jobs is left" in done.stdout
    done = galbatch("logs", "job.yaml", "--lines", "3", cwd=tmp_path)
    logs = tmp_path / "store.logs"
    assert re.search(rf"^driver, job 103: {logs}/galbatch-driver-103\.err$", done.stdout, re.M)
    assert re.search(rf"^worker, job 104: {logs}/galbatch-worker-104\.err$", done.stdout, re.M)
    assert "job 101" not in done.stdout
    assert "job 101" in galbatch("logs", "job.yaml", "--all", cwd=tmp_path).stdout


def test_drivers_follow_each_other(reference: Path, tmp_path: Path, stub: Any) -> None:
    """The first waits for workers until its time is up; the second has to give way."""
    found = stub("slurm")
    folder = tmp_path / "run"
    begin_at(reference, folder, "ingest")
    driver = {"walltime": "00:03:00", "lifetime": 0.05}
    write_small(folder, words("slurm", driver=driver))
    submit(folder)
    until(lambda: (found.folder / "101.began").exists(), folder)
    found.hold()
    until(lambda: " goes on\n" in said(folder), folder)
    write_small(folder, words("slurm", driver=driver | {"lifetime": 0.95}))
    second = int(re.findall(r"job (\d+) goes on", said(folder))[0])
    found.release()
    until(lambda: second + 1 in found.running(), folder)
    found.kill(second, by=signal.SIGTERM)
    is_over(found, folder)
    assert contents(folder) == contents(reference), said(folder)
    assert "galbatch driver: the time of this job is nearly up" in said(folder)
    assert "galbatch driver: this job has to end (SIGTERM)" in said(folder)
    assert "Traceback" not in said(folder)
    assert not read_drivers(Layout(folder / "store")).ended


def test_a_run_is_cancelled(tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    write_small(tmp_path, words("slurm"))
    submit(tmp_path)
    until(lambda: (found.folder / "101.began").exists(), tmp_path)
    found.hold()
    until(lambda: len(recorded_jobs(Layout(tmp_path / "store"))) == 2, tmp_path)
    done = galbatch("cancel", "job.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "driver, job 101: cancelled\nworker, job 102: cancelled\n"
    is_over(found, tmp_path)
    done = galbatch("cancel", "job.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "small: no job is in the queue\n")
    said_then = galbatch("status", "job.yaml", cwd=tmp_path).stdout
    assert "note: cancelled; 'galbatch submit' goes on where it was" in said_then
    (found.bin / "squeue").write_text("#!/bin/bash\necho slurmctld is away >&2\nexit 1\n")
    done = galbatch("status", "job.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert [one["state"] for one in json.loads(done.stdout)["queue"]["jobs"]] == ["unknown"] * 2
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert "note: the queue cannot be asked: squeue: slurmctld is away" in done.stdout
    assert "queue: worker, job 102 unknown\n" in done.stdout


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_a_refused_submission_is_one_line(kind: str, tmp_path: Path, stub: Any) -> None:
    stub(kind).refuse("error: no such partition: nowhere")
    write_small(tmp_path, words(kind), store="new/folder/store")
    done = galbatch("submit", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    command = {"slurm": "sbatch", "lsf": "bsub"}.get(kind, "qsub")
    assert done.stderr == (
        f"error: cluster ({kind}): {command} refused a job: error: no such partition: nowhere "
        "(change what the queue does not take: 'cluster.driver.walltime', 'cluster.driver.queue' "
        "or another setting of 'cluster.driver' in the job)\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "queue"]


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_every_queue_takes_and_cancels_a_driver(kind: str, tmp_path: Path, stub: Any) -> None:
    found = stub(kind)
    found.hold()
    write_small(tmp_path, words(kind))
    assert submit(tmp_path).startswith("job 101 drives small")
    state = {"slurm": "PENDING Resources", "pbs": "Q", "sge": "qw", "lsf": "PEND"}[kind]
    done = galbatch("status", "job.yaml", cwd=tmp_path)
    assert f"queue: driver, job 101 {state}\n" in done.stdout
    done = galbatch("cancel", "job.yaml", cwd=tmp_path)
    assert done.stdout == "driver, job 101: cancelled\n", done.stderr
    assert found.all_end()


SCRIPTS = {
    "slurm": ["#SBATCH -t 24:00:00", "#SBATCH --mem=4G", "#SBATCH -p long", "#SBATCH -A survey",
              "#SBATCH --requeue", "#SBATCH --signal=B:USR1@120", "#SBATCH -J galbatch-driver"],
    "pbs": ["#PBS -l walltime=24:00:00", "#PBS -q long", "#PBS -N galbatch-driver",
            "#PBS -l select=1:ncpus=1:mem=4096MB", "#PBS -A survey"],
    "sge": ["#$ -l h_rt=24:00:00", "#$ -q long", "#$ -P survey", "#$ -N galbatch-driver"],
    "lsf": ["#BSUB -W 24:00", "#BSUB -q long", '#BSUB -P "survey"', "#BSUB -J galbatch-driver"],
    "htcondor": ["batch_name = galbatch-driver", "accounting_group = survey", "Queue"],
}  # fmt: skip


@pytest.mark.parametrize("kind", SCRIPTS)
def test_scripts_are_printed_and_tell_nothing_of_the_environment(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    queue = {} if kind == "htcondor" else {"queue": "long"}
    prologue = ["module load python"]
    path = write_small(tmp_path, words(kind, account="survey", prologue=prologue, **queue))
    done = galbatch("submit", "job.yaml", "--set", "store=new/other", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: sge is not asked for memory" if kind == "sge" else "")
    assert done.stderr.count("\n") == (kind == "sge")
    driver, worker = done.stdout.split("# --- worker, 1 x\n")
    for line in SCRIPTS[kind]:
        assert f"{line}\n" in driver, driver
    command = f"cd {tmp_path} && exec {sys.executable} -m galbatch.cli drive {path} --set"
    assert f"{command} store=new/other" in driver
    assert driver.index("module load python") < driver.index(command)
    assert "distributed.cli.dask_worker" in worker
    assert not any(value in done.stdout for value in ("hush", os.environ["PATH"]))
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_the_driver_has_what_the_job_gives_it(tmp_path: Path) -> None:
    driver = {"queue": "service", "walltime": "48:00:00", "memory": "8 GiB", "prologue": ["one"],
              "directives": ["--qos=driver"]}  # fmt: skip
    write_small(tmp_path, words("slurm", queue="long", prologue=["two"], driver=driver))
    done = galbatch("submit", "job.yaml", "--dry-run", cwd=tmp_path)
    script, worker = done.stdout.split("# --- worker")
    for line in ("-p service", "-t 48:00:00", "--mem=8G", "--qos=driver"):
        assert f"#SBATCH {line}\n" in script
    assert "\none\n" in script and "\ntwo\n" not in script
    assert "#SBATCH -p long" in worker and "\ntwo\n" in worker


def test_a_job_without_a_queue_is_not_submitted(tmp_path: Path) -> None:
    write_small(tmp_path, {"kind": "serial"})
    for command in ("submit", "cancel"):
        done = galbatch(command, "job.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: cluster: 'serial' is no queue: ")
    done = galbatch("logs", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "no job of a queue is on record" in done.stderr


@pytest.mark.parametrize(
    ("line", "cancelled"),
    [
        ("slurmstepd-n1: error: *** JOB 6 ON n1 CANCELLED AT 2026-11-28T05:48:25 ***", True),
        ("slurmstepd: error: *** JOB 6 ON n1 CANCELLED AT 2026-11-28T05:48:25 DUE TO PREEMPTION"
         " ***", False),
        ("slurmstepd: error: *** JOB 6 ON n1 CANCELLED AT 2026-11-28T05:48:25 DUE TO TIME LIMIT"
         " ***", False),
    ],
)  # fmt: skip
def test_slurm_tells_in_the_log_who_was_cancelled(
    tmp_path: Path, stub: Any, line: str, cancelled: bool
) -> None:
    stub("slurm")
    (tmp_path / "galbatch-driver-6.err").write_text(f"galbatch scan: 1 to do\n{line}\n")
    spec = QueueCluster.model_validate(words("slurm"))
    assert DriverQueue(spec, tmp_path).is_cancelled("6") is cancelled


class Paper:
    """A queue that only writes down what it is given."""

    begins_again = False
    own_number = "100"

    def __init__(self, lifetime: float | None) -> None:
        self.lifetime = lifetime
        self.given = 0
        self.taken_back: list[str] = []
        self.cancelled = False

    def is_over(self, number: str) -> bool:
        return False

    def is_cancelled(self, number: str) -> bool:
        return self.cancelled

    def submit(self, script: Path) -> str:
        self.given += 1
        return f"{200 + self.given}"

    def cancel(self, number: str) -> None:
        self.taken_back.append(number)


class Drive:
    """A driver whose run is a line of shell."""

    def __init__(self, folder: Path, shell: str, lifetime: float | None = None) -> None:
        self.layout = Layout(folder / "store")
        self.said: list[str] = []
        self.queue = Paper(lifetime)
        command = ["bash", "-c", shell]
        self.driver = Driver(self.layout, "slurm", self.queue, command, self.said.append)

    def __call__(self) -> int:
        return self.driver.drive()


STOPS = "trap 'kill $!; exit 130' TERM; sleep 60 & wait"
WORKS = "mkdir -p store/receipts; mktemp store/receipts/XXXXXX.json >/dev/null; "


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_nobody_follows_a_run_that_has_ended(tmp_path: Path, code: int) -> None:
    drive = Drive(tmp_path, f"exit {code}", 60)
    assert drive() == code
    assert (drive.queue.given, drive.said) == (0, [])
    assert bool(read_drivers(drive.layout).ended) == (code > 1)


def test_drivers_that_get_nothing_done_are_followed_a_few_times(tmp_path: Path) -> None:
    drive = Drive(tmp_path, STOPS, 0.3)
    codes = [drive() for _ in range(BARREN)]
    assert codes == [0] * (BARREN - 1) + [3]
    assert drive.queue.given == BARREN - 1
    reason = "3 drivers in a row have finished nothing"
    assert drive.said[-1] == f"{reason}; 'galbatch submit' goes on where it was"
    assert read_drivers(drive.layout).ended == reason
    begin_drivers(drive.layout)
    assert drive() == 0


def test_drivers_that_get_something_done_are_followed_for_ever(tmp_path: Path) -> None:
    drive = Drive(tmp_path, WORKS + STOPS, 0.3)
    assert [drive() for _ in range(BARREN + 2)] == [0] * (BARREN + 2)
    numbers = [job.number for job in recorded_jobs(drive.layout) if job.what == DRIVER]
    assert numbers == ["201", "202", "203", "204", "205"]


def test_a_run_that_is_killed_is_followed(tmp_path: Path) -> None:
    drive = Drive(tmp_path, "kill -9 $$", 60)
    assert drive() == 0
    assert drive.said == ["the run was ended (exit code -9)", "job 201 goes on"]


def test_the_run_does_not_hear_what_a_queue_says_to_all(tmp_path: Path) -> None:
    drive = Drive(tmp_path, f"kill -USR1 $$; kill -USR2 $$; kill -USR1 $PPID; {STOPS}")
    assert drive() == 0
    assert drive.said == ["this job has to end (SIGUSR1)", "job 201 goes on"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_hands_over_at_once(tmp_path: Path, number: int) -> None:
    drive = Drive(tmp_path, f"kill -{number} $PPID; {STOPS}")
    assert drive() == 0
    assert drive.queue.given == 1
    assert drive.queue.taken_back == []


def test_who_follows_a_run_that_ended_meanwhile_is_taken_back(tmp_path: Path) -> None:
    drive = Drive(tmp_path, "trap 'exit 1' TERM; kill -TERM $PPID; sleep 60 & wait")
    assert drive() == 1
    assert drive.queue.taken_back == ["201"]


def test_nobody_follows_a_driver_that_was_cancelled(tmp_path: Path) -> None:
    for ends in (STOPS, "kill -TERM $$"):
        drive = Drive(tmp_path, f"kill -TERM $PPID; {ends}")
        drive.queue.cancelled = True
        assert drive() == 3
        assert drive.queue.given == 0
    drive = Drive(tmp_path, f"touch store.logs/cancelled; {STOPS}", 0.3)
    drive.layout.logs.mkdir()
    assert drive() == 0
    assert drive.queue.given == 0
    cancel_drivers(drive.layout)
    assert drive() == 0
    assert drive.said[-1] == "cancelled: nothing is done"


def test_a_driver_gives_way_to_one_that_was_submitted_after_it(tmp_path: Path) -> None:
    drive = Drive(tmp_path, "exit 1")
    record_job(drive.layout, "slurm", "100", DRIVER)
    assert drive() == 1
    record_job(drive.layout, "slurm", "101", DRIVER)
    assert drive() == 0
    assert drive.said == ["job 101 drives this run"]


def test_a_run_waits_for_another(tmp_path: Path) -> None:
    site = toy_site(tmp_path)
    begun, left = threading.Event(), threading.Event()

    def work() -> None:
        with opened(site):
            begun.set()
            time.sleep(0.5)
            left.set()

    other = threading.Thread(target=work)
    other.start()
    begun.wait()
    with pytest.raises(Occupied, match="another run works on this store"), opened(site):
        pass
    with opened(site, patience=30):
        assert left.is_set()
    other.join()
