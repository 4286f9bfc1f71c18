"""A worker process for each GPU of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.disks import Disks
from galbatch.cluster.local import HERE, LocalWorkers
from galbatch.cluster.session import closed, joined, session
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError
from galbatch.spec.cluster import CudaCluster


@contextmanager
def cuda(spec: CudaCluster, folders: Folders) -> Iterator[Workers]:
    """Start the processes.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If there is no GPU.
    """

    def start(disks: Disks, stack: ExitStack) -> Workers:
        cluster = stack.enter_context(closed(_launch(spec, folders.scratch)))
        return LocalWorkers(joined(cluster, stack), disks, cluster, f"cluster ({spec.kind})")

    with session(folders.shared, start) as workers:
        yield workers


def _launch(spec: CudaCluster, scratch: Path) -> Any:
    try:
        from dask_cuda import LocalCUDACluster

        return LocalCUDACluster(memory_limit=spec.memory, local_directory=str(scratch), **HERE)
    except Exception as error:  # dask-cuda raises whatever the driver's bindings raise
        raise SpecError(
            "cluster",
            f"no GPU workers could be started: {error}",
            "install galbatch[gpu] on a machine with a CUDA device, or use {kind: local}",
        ) from error
