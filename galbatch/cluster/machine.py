"""Worker processes on this machine, or one for each of its GPUs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from galbatch.cluster.workers import OwnWorkers
from galbatch.errors import SpecError, TransientError
from galbatch.spec.job import CudaCluster, LocalCluster

# Nothing on this machine has to be reached from another.
_HERE: dict[str, Any] = {
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "worker_dashboard_address": "127.0.0.1:0",
    "silence_logs": logging.CRITICAL + 1,
}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(spec: LocalCluster | CudaCluster, scratch: Path) -> Any:
    """Start the processes.

    Parameters
    ----------
    spec : LocalCluster or CudaCluster
    scratch : Path
        Folder for their temporary files.

    Returns
    -------
    distributed.LocalCluster

    Raises
    ------
    SpecError
        If there is no GPU.
    TransientError
        If no process can be started.
    """
    if isinstance(spec, LocalCluster):
        from distributed import LocalCluster as DaskLocalCluster

        try:
            return DaskLocalCluster(
                n_workers=spec.workers or cores(),
                threads_per_worker=1,
                memory_limit=spec.memory,
                local_directory=str(scratch),
                **_HERE,
            )
        except RuntimeError as error:
            reason = error.__cause__ or error
            raise TransientError(
                "cluster (local)", f"no worker could be started: {reason}", "give it fewer workers"
            ) from error
    try:
        from dask_cuda import LocalCUDACluster

        return LocalCUDACluster(memory_limit=spec.memory, local_directory=str(scratch), **_HERE)
    except Exception as error:  # dask-cuda raises whatever the driver's bindings raise
        raise SpecError(
            "cluster",
            f"no GPU workers could be started: {error}",
            "install galbatch[gpu] on a machine with a CUDA device, or use {kind: local}",
        ) from error


class LocalWorkers(OwnWorkers):
    """Processes that a nanny each starts again when they end."""

    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """Whose nanny gave up: one does when its process ends while it starts."""
        names = [
            name
            for name, nanny in list(self._cluster.workers.items())
            if name not in here and nanny.status.name in ("closed", "failed")
        ]
        return {"a worker process ended while it was started": names} if names else {}

    def _scale(self, number: int) -> None:
        self._cluster.scale(number)

    def _absent(self) -> str:
        return "the worker processes of this machine ended and are started again"
