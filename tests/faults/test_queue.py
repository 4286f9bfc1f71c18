"""Queues: what is refused, ends early, waits or is lost is said; and the run goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import Run
from queues import connected, words
from small import galbatch, galbatch_process, partitions, write_job
from toy import done_by

from galbatch.cluster import queue
from galbatch.errors import SpecError, TransientError
from galbatch.store.commit import digest_file

pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.timeout(600)

KINDS = ("slurm", "pbs", "sge", "lsf")


def registered(folder: Path, jobs: Iterable[int]) -> bool:
    """Whether the worker of one of these jobs says in its log that it came."""
    logs = [folder / "store.logs" / f"galbatch-worker-{job}.err" for job in jobs]
    return any("Registered to:" in log.read_text() for log in logs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_job_stops_the_run(kind: str, tmp_path: Path, stub: Any, quickly: None) -> None:
    stub(kind).refuse("error: no such partition: nowhere")
    # dask-jobqueue throws away what bsub says.
    reason = "no such partition: nowhere" if kind != "lsf" else "Exit code: 1"
    with (
        pytest.raises(SpecError, match=rf"^cluster \({kind}\): .* refused a job: .*{reason}"),
        connected(kind, tmp_path) as found,
    ):
        done_by(found)
    assert [path.name for path in tmp_path.iterdir()] == ["queue"]


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("slurm", {"options": {"silence_logs": 40}}, "cluster.options.silence_logs: a job of dask-"
         "jobqueue for slurm has no such keyword"),
        ("slurm", {"options": {"job_cpus": 4}}, "cluster.options.job_cpus: .*mean 'job_cpu'"),
        ("slurm", {"options": {"lsf_units": "mb"}}, "cluster.options.lsf_units: a job"),
        ("lsf", {"options": {"use_stdin": True, "lsf_units": "foo"}},
         "cluster.options.lsf_units: dask-jobqueue does not take 'foo': KeyError: 'f'"),
        ("pbs", {"options": {"job_directives_skip": 3}},
         "cluster.options.job_directives_skip: dask-jobqueue does not take 3: TypeError: 'int'"),
        ("slurm", {"interface": "wlan9"}, "cluster.interface: 'wlan9' is not a valid network"),
    ],
)  # fmt: skip
def test_a_setting_that_dask_jobqueue_does_not_take_is_named(
    kind: str, settings: dict[str, Any], said: str, tmp_path: Path, stub: Any
) -> None:
    """Before Dask is started, which would wait for ever, and before a driver is submitted."""
    found = stub(kind)
    with pytest.raises(SpecError, match=f"^{said}"), connected(kind, tmp_path, **settings):
        pass
    assert not (tmp_path / "logs").exists()
    if "options" in settings:
        job = write_job(tmp_path, cluster=words(kind, **settings))
        done = galbatch("submit", job, cwd=tmp_path)
        assert done.returncode == 2
        assert re.match(f"error: {said}", done.stderr), done.stderr
    assert found.submitted() == []


def test_a_port_that_is_in_use_is_named(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(SpecError, match=rf"^cluster.scheduler_port: port {port} is in use"),
            connected("slurm", tmp_path, scheduler_port=port),
        ):
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_that_end_at_once_stop_the_run(
    kind: str, tmp_path: Path, stub: Any, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(kind)
    monkeypatch.setattr(queue, "_SHOWS_WITHIN", 0.5)
    broken = ["echo no such module >&2; exit 3"]
    with (
        pytest.raises(SpecError, match=r"job.* ended before a worker came") as caught,
        connected(kind, tmp_path, workers=2, prologue=broken) as found,
    ):
        done_by(found)
    logs = [path for path in (tmp_path / "logs").iterdir() if path.stat().st_size]
    assert len(logs) == 2
    assert any(f"{log} ends: no such module" in str(caught.value) for log in logs)


def test_jobs_that_end_without_a_word(tmp_path: Path, stub: Any, quickly: None) -> None:
    stub("slurm")
    with (
        pytest.raises(SpecError, match=r"\(FAILED .*\), its log \S+ is empty: does 'prologue'"),
        connected("slurm", tmp_path, prologue=["exit 3"]) as found,
    ):
        done_by(found)


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_are_waited_for_and_replaced(
    kind: str, tmp_path: Path, stub: Any, quickly: None
) -> None:
    jobs = stub(kind)
    jobs.hold()
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 1:
            jobs.release()

    with connected(kind, tmp_path) as found:
        state = {"slurm": "PENDING Resources", "pbs": "Q", "sge": "qw", "lsf": "PEND"}[kind]
        while not found._why_none().endswith(state):  # why is said once: by then it must be known
            assert list(found._replace_lost()) == []
            time.sleep(0.05)
        first = done_by(found, say)
        assert said[0].startswith("no progress and no workers for ")
        assert said[0].endswith(f" s: job 101 {state}")
        assert said[1:] == ["workers came, going on"]
        jobs.kill()
        while found.threads():
            time.sleep(0.01)
        assert done_by(found, say) != first
        state = {"slurm": "CANCELLED", "lsf": "EXIT"}.get(kind, "the queue has forgotten")
        assert any(text.startswith(f"job 101 lost ({state})") for text in said)
    assert jobs.submitted() == [101, 102]
    assert jobs.all_end()


def test_a_queue_is_not_waited_for_for_ever(tmp_path: Path, stub: Any, quickly: None) -> None:
    stub("slurm").hold()
    with (
        pytest.raises(SpecError, match=r"no worker came within 1 s: job 101 PENDING Resources"),
        connected("slurm", tmp_path, timeout=1) as found,
    ):
        done_by(found)


def test_a_queue_that_cannot_be_asked(tmp_path: Path, stub: Any, quickly: None) -> None:
    jobs = stub("slurm")
    jobs.hold()
    (jobs.bin / "squeue").write_text("#!/bin/bash\necho slurmctld is away >&2\nexit 1\n")
    with (
        pytest.raises(SpecError, match=r"the queue cannot be asked: squeue: slurmctld is away"),
        connected("slurm", tmp_path, timeout=1) as found,
    ):
        done_by(found)


def test_workers_that_end_again_and_again_stop_the_run(
    tmp_path: Path, stub: Any, quickly: None
) -> None:
    jobs = stub("slurm")
    with connected("slurm", tmp_path) as found:
        done_by(found)
        jobs.refuse("error: no more jobs today")
        jobs.kill()
        while found.threads():
            time.sleep(0.01)
        said: list[str] = []
        with pytest.raises(TransientError, match="refused a job: error: no more jobs today"):
            done_by(found, said.append)
    assert sum("refused a job" in text and "replaced" in text for text in said) == 2


def without_dashboard(said: str) -> list[str]:
    """The lines of a run, but for the one that says where Dask's dashboard is, if it has one."""
    return [line for line in said.splitlines() if ": dashboard: ssh -L " not in line]


def test_a_run_that_a_queue_refuses_is_one_line(tmp_path: Path, stub: Any) -> None:
    stub("slurm").refuse("sbatch: error: no such partition")
    done = galbatch_process("run", write_job(tmp_path, cluster=words("slurm")), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert without_dashboard(done.stderr) == [
        "galbatch scan: 1 to do",
        "error: cluster (slurm): sbatch refused a job: sbatch: error: no such partition "
        "(see the settings of 'cluster' in the job)",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "queue"]


@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "background"])
def test_a_queue_ends_with_the_same_words(tmp_path: Path, stub: Any, ignored: bool) -> None:
    """Ctrl-C in a terminal; or SIGTERM to what a script started, which does not hear Ctrl-C."""
    found = stub("slurm")
    found.hold()
    job = write_job(tmp_path, cluster=words("slurm"))
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    with subprocess.Popen(
        [sys.executable, "-m", "galbatch.cli", "run", job],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    ) as process:
        assert process.stderr is not None
        assert "galbatch scan" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        if ignored:
            time.sleep(1)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert without_dashboard(rest) == ["stopped; run the same command to go on where it was"]
    assert found.all_end()


@pytest.mark.faults
def test_all_workers_lost_in_two_stages(finished: Path, tmp_path: Path, stub: Any) -> None:
    """`make faults` loses them in every stage, in every kind of queue."""
    found = stub("slurm")
    job = write_job(tmp_path, cluster=words("slurm"))
    assert job == str(tmp_path / "job.yaml")
    run = Run(tmp_path)
    stages = ("ingest", "predict")
    for stage in stages:
        assert run.reach(stage), run.said
        until = time.monotonic() + 120
        while not registered(tmp_path, found.running()):
            assert time.monotonic() < until, run.said
            time.sleep(0.1)
        found.kill()
    assert run.wait() == 0, run.said
    for stage in stages:
        lost_then = re.compile(rf"galbatch {stage}: job \d+ lost \(CANCELLED\).*; replaced")
        assert any(map(lost_then.match, run.said)), run.said
    assert not any("Traceback" in line for line in run.said)
    for table in ("catalogue", "predictions/photometric", "predictions/thesis"):
        ours, theirs = partitions(finished, table), partitions(tmp_path, table)
        assert [path.name for path in ours] == [path.name for path in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            assert digest_file(mine) == digest_file(other), mine.name
    assert found.all_end()
