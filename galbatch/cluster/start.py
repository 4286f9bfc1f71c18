"""From the settings of a job to the workers that they ask for.

A new kind of cluster is three things: a function in a file of this room that does what
`galbatch.cluster.base.Kind` says, its line in `CLUSTERS`, and its settings as a member of the
union `galbatch.spec.job.Cluster`, which lets users write it into a job's YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from galbatch.cluster.base import Folders, Kind
from galbatch.cluster.workers import Workers
from galbatch.spec.cluster import AllocationCluster, Cluster


def _serial() -> Kind:
    from galbatch.cluster.serial import serial

    return serial


def _local() -> Kind:
    from galbatch.cluster.local import local

    return local


def _cuda() -> Kind:
    from galbatch.cluster.cuda import cuda

    return cuda


def _queue() -> Kind:
    from galbatch.cluster.queue import queue

    return queue


def _allocation() -> Kind:
    from galbatch.cluster.allocation import allocation

    return allocation


def _scheduler() -> Kind:
    from galbatch.cluster.scheduler import scheduler

    return scheduler


CLUSTERS: dict[str, Callable[[], Kind]] = {
    "serial": _serial,
    "local": _local,
    "cuda": _cuda,
    "slurm": _queue,
    "pbs": _queue,
    "sge": _queue,
    "lsf": _queue,
    "htcondor": _queue,
    "allocation": _allocation,
    "scheduler": _scheduler,
}
"""What starts a cluster, by the `kind` in a job. Each is imported when it is needed."""


@contextmanager
def connect(
    spec: Cluster,
    scratch: Path,
    logs: Path,
    shared: Mapping[str, Path],
    accepted: Callable[[str, str], None] = lambda number, what: None,
) -> Iterator[Workers | None]:
    """Start or join the cluster that a job names, and leave it when done.

    Parameters
    ----------
    spec : Cluster
        The job's settings.
    scratch, logs : Path
    shared : mapping of str to Path
    accepted : callable, optional
        See `Folders`.

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
    with CLUSTERS[spec.kind]()(spec, Folders(scratch, logs, shared, accepted)) as workers:
        yield workers


@contextmanager
def taking_part(spec: Cluster, scratch: Path, logs: Path) -> Iterator[bool]:
    """Do what this process has to do besides driving the run, if anything.

    Parameters
    ----------
    spec : Cluster
        The job's settings.
    scratch, logs : Path
        See `Folders`.

    Yields
    ------
    bool
        Whether this process drives the run; otherwise it has done its part.

    Raises
    ------
    SpecError
        If the job is for an allocation, and this is none.
    """
    if not isinstance(spec, AllocationCluster):
        yield True
        return
    from galbatch.cluster.allocation import task_of_allocation

    with task_of_allocation(spec, Folders(scratch, logs, {})) as drives:
        yield drives
