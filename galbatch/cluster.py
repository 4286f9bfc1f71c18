"""Where the work is done: this process, this machine, its GPUs, a queue, a running scheduler."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.spec.job import (
    Cluster,
    CudaCluster,
    LocalCluster,
    QueueCluster,
    SchedulerCluster,
    SerialCluster,
)

# The nanny's default trim threshold (64 KiB) makes the allocator give memory back all the time,
# which costs two thirds of the write speed of large blocks.
_WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def connect(spec: Cluster, scratch: Path) -> Iterator[Any]:
    """Start or join what the job names, and leave it when done.

    Parameters
    ----------
    spec : Cluster
    scratch : Path
        Folder for the workers' temporary files.

    Yields
    ------
    distributed.Client or None
        None for `serial`: everything happens in this process.

    Raises
    ------
    SpecError
        If the cluster cannot be had: no GPU, no such queue system, no worker in time.
    """
    if isinstance(spec, SerialCluster):
        yield None
        return
    import dask
    from distributed import Client

    settings = {
        "distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.scheduler.allowed-failures": 2,
        "distributed.worker.daemon": False,
        "distributed.admin.log-format": "%(message)s",
    }
    with dask.config.set(settings):
        if isinstance(spec, SchedulerCluster):
            try:
                client = Client(spec.address, timeout="20s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise SpecError(
                    "cluster.address",
                    f"no Dask scheduler answers at {spec.address}",
                    "start one with 'dask scheduler', or use cluster: {kind: local}",
                ) from error
            with client:
                yield client
            return
        with _start(spec, scratch) as cluster, Client(cluster, set_as_default=False) as client:
            if isinstance(spec, QueueCluster):
                _wait_for_a_worker(spec, cluster, client)
            try:
                yield client
            except BaseException:
                # What goes wrong while everything is torn down is of no interest to anybody.
                logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
                raise


def _start(spec: LocalCluster | CudaCluster | QueueCluster, scratch: Path) -> Any:
    if isinstance(spec, LocalCluster):
        from distributed import LocalCluster as DaskLocalCluster

        return DaskLocalCluster(
            n_workers=spec.workers or cores(),
            threads_per_worker=1,
            memory_limit=spec.memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs=logging.CRITICAL,
        )
    if isinstance(spec, CudaCluster):
        try:
            from dask_cuda import LocalCUDACluster

            return LocalCUDACluster(
                memory_limit=spec.memory,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                local_directory=str(scratch),
                silence_logs=logging.CRITICAL,
            )
        except Exception as error:  # dask-cuda raises whatever the driver's bindings raise
            raise SpecError(
                "cluster",
                f"no GPU workers could be started: {error}",
                "install galbatch[gpu] on a machine with a CUDA device, or use {kind: local}",
            ) from error
    return _queue(spec, scratch)


def _queue(spec: QueueCluster, scratch: Path) -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise SpecError(
            "cluster", f"{spec.kind} needs dask-jobqueue", "install galbatch[hpc]"
        ) from error
    options: dict[str, Any] = {
        "cores": spec.cores,
        "processes": spec.cores,
        "memory": spec.memory,
        "walltime": spec.walltime,
        "queue": spec.queue,
        "account": spec.account,
        "interface": spec.interface,
        "job_extra_directives": list(spec.directives),
        "job_script_prologue": [
            *(f"export {name}={shlex.quote(v)}" for name, v in _WORKER_ENVIRONMENT.items()),
            *spec.prologue,
        ],
        "local_directory": str(scratch),
        "log_directory": str(scratch / "queue-logs"),
        "scheduler_options": {"dashboard_address": ":0", "interface": spec.interface},
    }
    if spec.kind == "sge" or spec.kind == "lsf":
        options["project"] = options.pop("account")
    kinds = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
    cluster = getattr(dask_jobqueue, kinds[spec.kind])(**options)
    cluster.scale(spec.workers)
    return cluster


def _wait_for_a_worker(spec: QueueCluster, cluster: Any, client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=spec.timeout)
    except TimeoutError as error:
        raise SpecError(
            f"cluster ({spec.kind})",
            f"no worker came within {spec.timeout:.0f} s",
            "the queue is full or the job died: see its log in the store's work/queue-logs; "
            f"the job script was: {' | '.join(cluster.job_script().splitlines()[:8])}",
        ) from error
