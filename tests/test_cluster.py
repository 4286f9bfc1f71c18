"""Where the work is done: what can be told without a queue or a GPU."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from pydantic import TypeAdapter
from small import REPOSITORY, galbatch, write_job
from toy import Heard, done_by, site, tasks, toy

from galbatch.cluster import connect, disks, workers
from galbatch.cluster.base import Folders
from galbatch.cluster.disks import Disks, tokens
from galbatch.cluster.jobs import worker_keywords
from galbatch.cluster.queue import scheduler_of
from galbatch.cluster.start import CLUSTERS
from galbatch.errors import SpecError, TransientError
from galbatch.run.on_dask import distributed
from galbatch.spec.cluster import (
    Cluster,
    CudaCluster,
    QueueCluster,
    SchedulerCluster,
    SerialCluster,
)

WORDS: TypeAdapter[Cluster] = TypeAdapter(Cluster)


def connected(spec: Cluster, folder: Path) -> Any:
    """Workers whose scratch is in a folder."""
    return connect(spec, folder / "work", folder / "logs", {"scratch": folder / "work" / "token"})


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a while is noticed at once."""
    monkeypatch.setattr(workers, "SILENCE", 0.3)
    monkeypatch.setattr(workers, "EVERY", 0.05)
    monkeypatch.setattr(disks, "PATIENCE", 0.0)


@pytest.fixture
def scheduler() -> Iterator[Any]:
    """A scheduler on this machine whose workers are threads of this process; none at first."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


def joined(cluster: Any) -> Cluster:
    return SchedulerCluster(kind="scheduler", address=cluster.scheduler_address)


def test_what_users_can_write_has_a_function() -> None:
    assert set(WORDS.json_schema()["discriminator"]["mapping"]) == set(CLUSTERS)
    for kind in CLUSTERS.values():
        assert callable(kind())


def test_serial_needs_no_client(tmp_path: Path) -> None:
    with connected(SerialCluster(kind="serial"), tmp_path) as found:
        assert found is None
    assert list(tmp_path.iterdir()) == []


def test_a_local_worker_is_replaced_and_nobody_else_can_reach_it(
    tmp_path: Path, quickly: None
) -> None:
    spec = WORDS.validate_python({"kind": "local", "workers": 1, "memory": "1 GiB"})
    with connected(spec, tmp_path) as found:
        info = found.client.scheduler_info()
        assert info["address"].startswith("tcp://127.0.0.1:")
        assert [w["memory_limit"] for w in info["workers"].values()] == [2**30]
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip == "127.0.0.1", process.cmdline()
        (nanny,) = found._cluster.workers.values()
        first = done_by(found)
        os.kill(first, signal.SIGKILL)
        while found.threads():
            time.sleep(0.01)
        said: list[str] = []
        second = done_by(found, said.append)
        text = "the worker processes of this machine ended and are started again"
        assert said[0].startswith("no progress and no workers for ") and said[0].endswith(text)
        assert said[1:] == ["workers came, going on"]
        found._cluster.sync(nanny.close)  # as one does whose process ends while it starts
        third = done_by(found, said.append)
        assert "a worker process ended while it was started; replaced" in said
        assert len({first, second, third, os.getpid()}) == 4
    assert list((tmp_path / "work").glob("token*")) == []


@pytest.mark.parametrize("protocol", ["ws", "tcp"])
def test_a_missing_scheduler_is_explained(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether nobody answers, or somebody else does; and nothing of Dask's is left half made."""
    monkeypatch.setattr("galbatch.cluster.scheduler._ANSWERS_WITHIN", 0.5)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = f"{protocol}://127.0.0.1:{server.server_port}"
        spec = SchedulerCluster(kind="scheduler", address=address, tls=False)
        with (
            contextlib.redirect_stderr(None),
            pytest.raises(SpecError, match="no Dask scheduler answers"),
            connected(spec, tmp_path),
        ):
            pass
        server.shutdown()
        thread.join()
    with (
        pytest.raises(SpecError, match="no Dask scheduler answers"),
        connected(spec, tmp_path),
    ):
        pass
    gc.collect()


def test_no_gpu_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(SpecError, match="no GPU workers"),
        connected(CudaCluster(kind="cuda"), tmp_path),
    ):
        pass


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf"])
def test_the_words_of_a_queue_reach_its_job_script(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")

    spec = QueueCluster.model_validate(
        {
            "kind": kind,
            "workers": 2,
            "cores": 2,
            "memory": "8 GiB",
            "walltime": "02:30:00",
            "queue": "long",
            "account": "survey",
            "interface": "lo",
            "gpus": 2,
            "gpu_directives": ["--gpus={gpus}/{cores}"],
            "directives": ["--comment=galbatch", "-pe smp {cores}", "-l {gpus}"],
            "prologue": ["module load python"],
        }
    )
    cluster = scheduler_of(spec, Folders(tmp_path, tmp_path / "logs", {}), None)
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    for word in (
        "long",
        "survey",
        "--comment=galbatch",
        "-pe smp 2",
        "-l 2",
        "--gpus=2/2",
        "module load python",
    ):
        assert word in script
    assert "export MALLOC_TRIM_THRESHOLD_=1073741824" in script
    assert f"{tmp_path}/logs" in script
    assert "--dashboard-address 127.0.0.1:0" in script


def test_no_workers_is_said_once(tmp_path: Path, scheduler: Any, quickly: None) -> None:
    stage, monitor = toy(tmp_path, seconds=0.2), Heard()

    def come() -> None:
        time.sleep(1.5)
        scheduler.scale(1)

    with connected(joined(scheduler), tmp_path) as found, ThreadPoolExecutor() as pool:
        coming = pool.submit(come)
        results = list(distributed(found, stage, site(tmp_path), tasks(5), monitor))
        coming.result()
    assert [result.error for result in results] == [None] * 5
    first, last = monitor.said
    assert first.endswith(f"start some with 'dask worker {scheduler.scheduler_address}'")
    assert last == "workers came, going on"
    # The last of it may be on its way still.
    assert {"unit-000", "unit-001"} <= monitor.units <= {f"unit-{n:03d}" for n in range(5)}


def test_a_scheduler_that_goes_away_ends_the_run(
    tmp_path: Path, scheduler: Any, quickly: None
) -> None:
    scheduler.scale(1)
    stage = toy(tmp_path, seconds=0.2)
    with connected(joined(scheduler), tmp_path) as found:
        results = distributed(found, stage, site(tmp_path), tasks(50), Heard())
        assert next(results).error is None
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            going = pool.submit(scheduler.close)
            with pytest.raises(TransientError, match=r"the scheduler .*went away"):
                list(results)
            going.result()
    assert time.monotonic() - began < 20


def test_a_worker_without_the_disks_is_refused_by_name(
    tmp_path: Path, scheduler: Any, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.scale(1)
    scheduler.wait_for_workers(1)
    (address,) = (worker.address for worker in scheduler.workers.values())

    @contextlib.contextmanager
    def elsewhere(places: Any) -> Iterator[Disks]:
        yield Disks("1234", (("scratch", tmp_path / "of-the-driver" / "token-1234"),))

    monkeypatch.setattr("galbatch.cluster.session.tokens", elsewhere)
    with pytest.raises(SpecError) as caught, connected(joined(scheduler), tmp_path):
        pass
    assert str(caught.value) == (
        f"worker {address} on {socket.gethostname()}: "
        f"does not see what this run writes in {tmp_path}/of-the-driver "
        "(scratch: must be on a disk that all workers share)"
    )


def test_a_worker_that_joins_later_is_asked_before_it_gets_a_task(
    tmp_path: Path, scheduler: Any, quickly: None
) -> None:
    scheduler.scale(1)
    scheduler.wait_for_workers(1)
    first = next(iter(scheduler.workers.values())).address
    stage = toy(tmp_path, seconds=0.05)
    with connected(joined(scheduler), tmp_path) as found:
        results = distributed(found, stage, site(tmp_path), tasks(200), Heard())
        assert next(results).error is None
        for _, path in found.disks.files:
            path.unlink()  # so that whoever comes now does not see it
        scheduler.scale(2)
        with pytest.raises(SpecError, match=r"worker tcp://.* does not see") as caught:
            for result in results:
                if result.error is not None:
                    raise result.error
        assert first not in str(caught.value)
        assert len(stage.done()) < 200


def test_no_task_runs_where_the_disks_are_not_shared(
    tmp_path: Path, scheduler: Any, quickly: None
) -> None:
    """Whatever was said when the worker joined."""
    scheduler.scale(1)
    scheduler.wait_for_workers(1)
    stage = toy(tmp_path)
    with connected(joined(scheduler), tmp_path) as found:
        found.disks = Disks("5678", (("store", tmp_path / "store" / "token-5678"),))
        (result,) = distributed(found, stage, site(tmp_path), tasks(1), Heard())
    assert isinstance(result.error, SpecError)
    assert "store: must be on a disk that all workers share" in str(result.error)
    assert stage.done() == []


def test_tokens_leave_nothing_behind(tmp_path: Path) -> None:
    places = {"store": tmp_path / "store" / ".token", "scratch": tmp_path / "new" / "token"}
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".token-of-a-run-that-was-killed").touch()
    with tokens(places) as left:
        left.check("here")
        assert len(list(tmp_path.rglob("*token-*"))) == 2
    assert list(tmp_path.rglob("*token-*")) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(SpecError, match="cannot be written"),
        tokens({"scratch": tmp_path / "file" / "token"}),
    ):
        pass


def test_a_signal_that_python_throws_away_is_heard_all_the_same() -> None:
    """Dask has a word in each collection of garbage: what is raised in there is lost."""
    script = (
        "import gc, signal, time\n"
        "from galbatch.cli import _stop_on_signals\n"
        "_stop_on_signals()\n"
        "def collecting(*_):\n"
        "    gc.callbacks.clear()\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    for _ in range(9): pass\n"
        "gc.callbacks.append(collecting)\n"
        "gc.collect(0)\n"  # the youngest alone: it ends before the signal comes once more
        "print('went on')\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=55
    )
    assert done.stdout.split("\n") == ["went on", "stopped", ""]
    assert done.stderr == ""


@pytest.fixture
def dask_scheduler(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The address of a `dask scheduler`, and what starts workers for it."""
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "dask.log").open("wb")

    def start(*words: str) -> None:
        started.append(
            subprocess.Popen(words, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dask = (sys.executable, "-m", "dask")
    start(*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    address = f"tcp://127.0.0.1:{port}"

    def worker(*before: str) -> None:
        options = ("--no-dashboard", "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1")
        start(*before, *dask, "worker", address, *options, "--local-directory", "/tmp")

    yield address, worker
    for process in started:
        process.kill()
        process.wait()
    log.close()


def test_two_workers_without_a_common_scratch(
    tmp_path: Path, dask_scheduler: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, worker = dask_scheduler
    own = ("unshare", "-m", "bash", "-c", f'mount -t tmpfs none {tmp_path}/disk && exec "$@"', "-")
    (tmp_path / "disk").mkdir()
    try:
        allowed = subprocess.run([*own, "true"], check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no 'unshare' here")
    if allowed.returncode:
        pytest.skip(f"no disk of its own for a process: {allowed.stderr.decode().strip()}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    worker()
    worker(*own)
    from distributed import Client

    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    path = write_job(
        tmp_path,
        source={"kind": "mock", "rows": 20_000, "seed": 3},
        store="disk/store",
        cluster={"kind": "scheduler", "address": address},
    )
    done = galbatch("run", path, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "store: must be on a disk that all workers share" in line
    assert f"on {socket.gethostname()}: does not see" in line
    assert list((tmp_path / "disk").iterdir()) == []


def test_times_are_rounded_up(tmp_path: Path) -> None:
    spec = QueueCluster(
        kind="slurm", workers=1, walltime="00:01:00", lifetime=0.055, death_timeout=5.2
    )
    keywords = worker_keywords(spec, "", tmp_path, tmp_path)
    arguments = keywords["worker_extra_args"]
    assert arguments[arguments.index("--lifetime") + 1] == "4s"
    assert arguments[arguments.index("--lifetime-stagger") + 1] == "0s"
    assert keywords["death_timeout"] == "6"
