"""Queues: what is refused, ends early, waits or is lost is said; and the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import Run
from queues import StubQueue
from small import REPOSITORY, galbatch, partitions, write_job
from toy import Heard, site, tasks, toy

from galbatch.cluster import connect, queue, workers
from galbatch.run import distributed
from galbatch.spec.job import QueueCluster
from galbatch.store.commit import digest_file

pytest.importorskip("dask_jobqueue")
pytestmark = pytest.mark.timeout(600)

KINDS = ("slurm", "pbs", "sge", "lsf")


def words(kind: str, **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "workers": 1, "memory": "2 GiB", "interface": "lo", **changes}


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], StubQueue]]:
    made: list[StubQueue] = []

    def make(kind: str) -> StubQueue:
        found = StubQueue(tmp_path / "queue", kind)
        monkeypatch.setenv("PATH", found.path)
        monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        made.append(found)
        return found

    yield make
    for found in made:
        found.kill()


def registered(folder: Path, jobs: Iterable[int]) -> bool:
    """Whether the worker of one of these jobs says in its log that it came."""
    logs = [folder / "store.logs" / f"dask-worker-{job}.err" for job in jobs]
    return any("Registered to:" in log.read_text() for log in logs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_job_is_one_line(kind: str, tmp_path: Path, stub: Any) -> None:
    stub(kind).refuse("error: no such partition: nowhere")
    done = galbatch("run", write_job(tmp_path, cluster=words(kind)), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    *before, line = done.stderr.splitlines()
    assert before == ["galbatch scan: 1 to do"]
    # dask-jobqueue throws away what bsub says.
    reason = "no such partition: nowhere" if kind != "lsf" else "Exit code: 1"
    assert line.startswith(f"error: cluster ({kind}): ")
    assert " refused a job: " in line and reason in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "queue"]


def test_a_job_that_ends_before_its_worker_comes_is_one_line(tmp_path: Path, stub: Any) -> None:
    stub("slurm")
    cluster = words("slurm", workers=2, prologue=["echo no such module >&2; exit 3"])
    done = galbatch("run", write_job(tmp_path, cluster=cluster), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    log = tmp_path / "store.logs" / "dask-worker-102.err"
    assert f"job 102 ended before its worker came (FAILED NonZeroExitCode), {log}" in line
    assert "ends with: no such module" in line
    assert log.exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_queue_gives_workers(
    kind: str, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_and_replace(kind, tmp_path, stub(kind), monkeypatch, lose=False)


def lose_and_replace(
    kind: str, folder: Path, found: StubQueue, patch: pytest.MonkeyPatch, lose: bool
) -> None:
    """Have jobs wait, run, and perhaps be lost, and hear what is said of them."""
    patch.setattr(workers, "SILENCE", 0.5)
    patch.setattr(workers, "EVERY", 0.1)
    patch.setattr(queue, "ASKED_EVERY", 0.2)
    spec = QueueCluster.model_validate(words(kind))
    stage, monitor = toy(folder, seconds=0.1), Heard()
    found.hold()
    with connect(spec, folder / "work", folder / "logs", {"scratch": folder / "token"}) as those:
        results = distributed(those, stage, site(folder), tasks(20), monitor)

        def waiting(text: str) -> None:
            monitor.said.append(text)
            if "no workers" in text and (found.folder / "hold").exists():
                found.release()

        monitor.waiting = waiting  # type: ignore[method-assign]
        assert next(results).error is None
        state = {"slurm": "PENDING", "pbs": "Q", "sge": "qw", "lsf": "PEND"}[kind]
        assert monitor.said[0].startswith("no progress and no workers for ")
        assert f" s: job 101 {state}" in monitor.said[0]
        assert monitor.said[1:] == ["workers came, going on"]
        if lose:
            found.kill()
        assert all(result.error is None for result in results)
        if lose:
            assert any("job 101 was lost" in text for text in monitor.said)
    assert len(stage.done()) == 20
    assert found.submitted() == ([101, 102] if lose else [101])
    assert found.all_end()


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
    assert rest.splitlines() == ["stopped; run the same command to go on where it was"]
    assert found.all_end()


def test_all_workers_lost_in_every_stage(finished: Path, tmp_path: Path, stub: Any) -> None:
    found = stub("slurm")
    job = write_job(tmp_path, cluster=words("slurm", workers=2))
    assert job == str(tmp_path / "job.yaml")
    run = Run(tmp_path)
    lost: dict[str, float] = {}
    for stage in ("scan", "ingest", "train", "predict"):
        assert run.reach(stage), run.said
        while not registered(tmp_path, found.running()):
            time.sleep(0.1)
        found.kill()
        lost[stage] = time.monotonic()
    assert run.wait() == 0, run.said
    for stage in lost:
        assert any(line.startswith(f"galbatch {stage}: job ") for line in run.said), run.said
    assert not any("Traceback" in line for line in run.said)
    for table in ("catalogue", "predictions/photometric", "predictions/thesis"):
        ours, theirs = partitions(finished, table), partitions(tmp_path, table)
        assert [path.name for path in ours] == [path.name for path in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            assert digest_file(mine) == digest_file(other), mine.name
    assert found.all_end()
