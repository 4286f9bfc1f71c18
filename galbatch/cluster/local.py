"""Worker processes on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.disks import Disks
from galbatch.cluster.session import closed, joined, session
from galbatch.cluster.workers import OwnWorkers, Workers
from galbatch.errors import TransientError
from galbatch.spec.cluster import LocalCluster

HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "worker_dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.CRITICAL + 1,
}
"""Dask's settings for processes that nothing on another machine has to reach."""


@contextmanager
def local(spec: LocalCluster, folders: Folders) -> Iterator[Workers]:
    """Start the processes.

    Yields
    ------
    Workers

    Raises
    ------
    TransientError
        If no process can be started.
    """

    def start(disks: Disks, stack: ExitStack) -> Workers:
        cluster = stack.enter_context(closed(_launch(spec, folders.scratch)))
        return LocalWorkers(joined(cluster, stack), disks, cluster, f"cluster ({spec.kind})")

    with session(folders.shared, start) as workers:
        yield workers


def _launch(spec: LocalCluster, scratch: Path) -> Any:
    from distributed import LocalCluster as DaskLocalCluster

    try:
        return DaskLocalCluster(
            n_workers=spec.workers or _cores(),
            threads_per_worker=1,
            memory_limit=spec.memory,
            local_directory=str(scratch),
            **HERE,
        )
    except RuntimeError as error:
        reason = error.__cause__ or error
        raise TransientError(
            "cluster (local)", f"no worker could be started: {reason}", "give it fewer workers"
        ) from error


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalWorkers(OwnWorkers):
    """Processes, each of which a nanny starts again when it ends."""

    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """Workers whose nanny gave up: one does when its process ends while it starts."""
        names = [
            name
            for name, nanny in list(self._cluster.workers.items())
            if name not in here and nanny.status.name in ("closed", "failed")
        ]
        return {"a worker process ended while it was started": names} if names else {}

    def _why_none(self) -> str:
        return "the worker processes of this machine ended and are started again"
