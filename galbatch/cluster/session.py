"""What all clusters of Dask share: settings, silence, and the question whether disks are shared."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from galbatch.cluster.disks import Disks, tokens
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError

# The nanny's default trim threshold (64 KiB) makes the allocator give memory back all the time,
# which costs two thirds of the write speed of large blocks.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
SETTINGS = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.daemon": False,
    # Dask would give up a worker, and put nobody in its place: `OwnWorkers` does that.
    "distributed.deploy.lost-worker-timeout": "30 days",
}
# Loggers that have a level of their own.
_LOGGERS = (
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
def session(
    shared: Mapping[str, Path], start: Callable[[Disks, ExitStack], Workers]
) -> Iterator[Workers]:
    """Dask as galbatch wants it, for as long as there are workers.

    Parameters
    ----------
    shared : mapping of str to Path
        A file on each disk that all workers must share, by the job's setting that names the disk.
    start : callable
        Starts or joins the workers, which must share these disks; what has to be ended
        afterwards is entered into the stack.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If a worker does not share the disks, or cannot load galbatch.
    """
    import dask
    import distributed  # noqa: F401  # its defaults must be there before our settings

    with dask.config.set(SETTINGS), quiet(), ExitStack() as stack:
        disks = stack.enter_context(tokens(shared))
        with _without_interrupts():
            workers = start(disks, stack)
        stack.enter_context(_checked_disks(workers, disks))
        try:
            yield workers
        except BaseException:
            warnings.simplefilter("ignore")  # of what was interrupted in Dask
            raise


def joined(cluster: Any, stack: ExitStack) -> Any:
    """A client of a cluster that this process has started.

    Parameters
    ----------
    cluster : distributed.SpecCluster
    stack : ExitStack
        Closes the client.

    Returns
    -------
    distributed.Client
    """
    from distributed import Client

    return stack.enter_context(closed(Client(cluster, set_as_default=False)))


def check_interface(name: str | None) -> str:
    """The address of this machine on a network interface; empty, which is any, for None.

    Raises
    ------
    SpecError
        If it has none of that name, or no address of the internet's version 4 there.
    """
    from distributed.utils import get_ip_interface

    try:
        return "" if name is None else str(get_ip_interface(name))
    except ValueError as error:
        raise SpecError("cluster.interface", str(error)) from error


@contextmanager
def closed(client_or_cluster: Any) -> Iterator[Any]:
    """Close a client or a cluster of Dask in the end.

    What goes wrong while everything is torn down is of no interest to anybody.
    """
    try:
        yield client_or_cluster
    finally:
        with suppress(Exception):
            client_or_cluster.close(timeout=_CLOSES_WITHIN)
        client_or_cluster.shutdown_on_close = False  # else Dask tries once more when Python ends


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C, which a terminal sends to all processes of a run, in what starts here.

    The driver alone receives it, and ends the others. Threads and processes inherit blocked
    signals, so this holds for workers that are started later as well.
    """
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _checked_disks(workers: Workers, disks: Disks) -> Iterator[None]:
    """Ask each worker that is there, or joins, whether it shares the disks."""
    from galbatch.cluster.joining import SharedDisksCheck, topic

    client = workers.client
    client.subscribe_topic(topic(disks), workers.note_refusal)
    try:
        client.register_plugin(SharedDisksCheck(disks))
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
def quiet() -> Iterator[None]:
    """Silence Dask's log: what it says of workers and schedulers, `Workers` says in one line.

    After a failure it remains silent, since Dask may complain until Python ends.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
