"""A worker process for each GPU of this machine, and others beside them."""

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
from galbatch.spec.cluster import CudaCluster, stages_with_gpus

_GPU, _CPU = "gpu", "cpu"
"""What a worker has to offer, as Dask calls it."""


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
        return CudaWorkers(joined(cluster, stack), disks, cluster, spec)

    with session(folders.shared, start) as workers:
        yield workers


def _launch(spec: CudaCluster, scratch: Path) -> Any:
    try:
        from dask_cuda import LocalCUDACluster

        return LocalCUDACluster(
            memory_limit=spec.memory, local_directory=str(scratch), resources={_GPU: 1.0}, **HERE
        )
    except Exception as error:  # dask-cuda raises whatever the driver's bindings raise
        raise SpecError(
            "cluster",
            f"no GPU workers could be started: {error}",
            "install galbatch[gpu] on a machine with a CUDA device, or use {kind: local}",
        ) from error


class CudaWorkers(LocalWorkers):
    """Processes with a GPU each, and processes without.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
    cluster : dask_cuda.LocalCUDACluster
        Those with a GPU; the others are started here.
    spec : CudaCluster
    """

    def __init__(self, client: Any, disks: Disks, cluster: Any, spec: CudaCluster) -> None:
        super().__init__(client, disks, cluster, f"cluster ({spec.kind})")
        self._with_gpus: tuple[str, ...] = ()
        if not spec.cpu_workers:
            return
        gpus = list(cluster.worker_spec)
        self._with_gpus = stages_with_gpus(len(gpus), spec.cpu_workers)
        first = cluster.worker_spec[gpus[0]]
        options = {
            name: value
            for name, value in first["options"].items()
            if name not in ("name", "plugins", "preload", "preload_argv")
        }
        no_gpu = {**options.pop("env", {}), "CUDA_VISIBLE_DEVICES": ""}
        own = {"env": no_gpu, "memory_limit": spec.cpu_memory, "resources": {_CPU: 1.0}}
        self._start([{**first, "options": {**options, **own}}] * spec.cpu_workers)

    def resources(self, stage: str) -> dict[str, float] | None:
        """What needs no GPU is done by those without, where there are any."""
        if not self._with_gpus:
            return None
        return {_GPU if stage in self._with_gpus else _CPU: 1.0}
