"""Start or join what the job names, and leave it when done."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from galbatch.cluster.disks import Disks, tokens
from galbatch.cluster.machine import LocalWorkers, launch
from galbatch.cluster.queue import WORKER_ENVIRONMENT, QueueWorkers, submit
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError
from galbatch.spec.job import Cluster, QueueCluster, SchedulerCluster, SerialCluster

_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.daemon": False,
    # Dask would give up a worker, and put nobody in its place: `OwnWorkers` does that.
    "distributed.deploy.lost-worker-timeout": "30 days",
}
# Those that have a level of their own.
_TALKERS = (
    "asyncio",
    "distributed",
    "distributed.client",
    "distributed.gc",
    "tornado",
    "tornado.application",
)
_CLOSES_WITHIN = 30.0
"""Seconds."""


@contextmanager
def connect(
    spec: Cluster, scratch: Path, logs: Path, shared: Mapping[str, Path]
) -> Iterator[Workers | None]:
    """Start or join what the job names, and leave it when done.

    Parameters
    ----------
    spec : Cluster
    scratch : Path
        Folder for the workers' temporary files.
    logs : Path
        Folder for what the jobs of a queue say. It is made where there is a queue, and stays.
    shared : mapping of str to Path
        By the word of the job that says where, a file on each disk that workers must share.

    Yields
    ------
    Workers or None
        None for `serial`: everything happens in this process.

    Raises
    ------
    SpecError
        If the cluster cannot be had: no GPU, no such queue system, no scheduler; or a worker does
        not share the disks.
    TransientError
        If the processes cannot be started.
    """
    if isinstance(spec, SerialCluster):
        yield None
        return
    import dask
    from distributed import Client

    with dask.config.set(_SETTINGS), _quiet(), ExitStack() as stack:
        disks = stack.enter_context(tokens(shared))
        with _deaf():
            if isinstance(spec, SchedulerCluster):
                workers = Workers(stack.enter_context(_closed(_join(spec))), disks)
            elif isinstance(spec, QueueCluster):
                stack.callback(_removed_if_empty, logs)
                cluster = stack.enter_context(_closed(submit(spec, scratch, logs)))
                client = stack.enter_context(_closed(Client(cluster, set_as_default=False)))
                workers = QueueWorkers(client, disks, cluster, spec, logs)
            else:
                cluster = stack.enter_context(_closed(launch(spec, scratch)))
                client = stack.enter_context(_closed(Client(cluster, set_as_default=False)))
                workers = LocalWorkers(client, disks, cluster, f"cluster ({spec.kind})")
        stack.enter_context(_asked(workers, disks))
        try:
            yield workers
        except BaseException:
            warnings.simplefilter("ignore")  # of what was interrupted in Dask
            raise


def _join(spec: SchedulerCluster) -> Any:
    from distributed import Client

    try:
        return Client(spec.address, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise SpecError(
            "cluster.address",
            f"no Dask scheduler answers at {spec.address}",
            "start one with 'dask scheduler', or use cluster: {kind: local}",
        ) from error


@contextmanager
def _deaf() -> Iterator[None]:
    """What starts here does not hear Ctrl-C, which a terminal sends to all processes of a run.

    The driver alone does, and ends them. A thread hands down to threads and processes what it does
    not hear, so this holds for workers that are started later as well.
    """
    resource_tracker.ensure_running()  # it would have this thread hear it again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _asked(workers: Workers, disks: Disks) -> Iterator[None]:
    """Ask each worker that is there, or joins, whether it shares the disks."""
    from galbatch.cluster.joining import Joining, topic

    client = workers.client
    client.subscribe_topic(topic(disks), workers.refused)
    try:
        client.register_plugin(Joining(disks))
    except ImportError as error:
        problem = f"a worker cannot load galbatch: {error}"
        raise SpecError("cluster", problem, "install it where the workers run") from error
    try:
        yield
    finally:
        if client.status == "running":
            with suppress(Exception):  # the scheduler may go away just now
                client.unregister_worker_plugin(topic(disks))


@contextmanager
def _closed(what: Any) -> Iterator[Any]:
    """What goes wrong while everything is torn down is of no interest to anybody."""
    try:
        yield what
    finally:
        with suppress(Exception):
            what.close(timeout=_CLOSES_WITHIN)
        what.shutdown_on_close = False  # else Dask tries once more when Python ends


def _removed_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask has to say of workers and schedulers, `Workers` says in a line.

    After a failure it remains silent: what is left of it may complain until Python ends.
    """
    levels = {name: logging.getLogger(name).level for name in _TALKERS}
    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
