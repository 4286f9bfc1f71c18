"""What a queue is asked for: the settings of a group of jobs as keywords of dask-jobqueue."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from galbatch.cluster.session import WORKER_ENVIRONMENT
from galbatch.cluster.systems import SYSTEMS, WIDTH
from galbatch.spec.cluster import QueueCluster, QueueGroup
from galbatch.spec.sizes import in_bytes, in_seconds

ONLY_HERE = "127.0.0.1:0"
"""Address of Dask's dashboards: who wants one comes through a tunnel."""
_STAGGER = 0.1
"""Of the lifetime: by so much workers leave earlier or later than others."""
_CONDOR_DISK = "2 GB"


def lifetime_of(group: QueueGroup) -> float:
    """Seconds after which a worker leaves, so that its queue need not end it."""
    return group.lifetime * in_seconds(group.walltime)


def worker_keywords(
    spec: QueueCluster, name: str, scratch: Path, logs: Path, resources: Mapping[str, float]
) -> dict[str, Any]:
    """What dask-jobqueue must know of the jobs of a group.

    Parameters
    ----------
    spec : QueueCluster
    name : str
        Of the group.
    scratch : Path
        Folder for temporary files of the workers.
    logs : Path
        Folder for the output of the jobs.
    resources : mapping of str to float
        What each worker of the group has to offer, as Dask calls it.

    Returns
    -------
    dict
    """
    group = spec.all_groups[name]
    seconds = lifetime_of(group)
    leaving = ["--lifetime", f"{seconds:.0f}s", "--lifetime-stagger", f"{_STAGGER * seconds:.0f}s"]
    offered = [f"{key}={value:g}" for key, value in resources.items()]
    return {
        **job_keywords(spec, group, logs),
        "processes": group.per_job,
        "python": spec.python,
        "job_name": spec.job_name,
        "death_timeout": f"{spec.death_timeout:.0f}",
        "local_directory": str(scratch),
        "worker_extra_args": [
            *("--dashboard-address", ONLY_HERE),
            *("--nthreads", "1"),  # dask-jobqueue would give it all cores of its share
            *leaving,
            *(("--resources", shlex.quote(",".join(offered))) if offered else ()),
            *_ports(spec),
        ],
        **spec.options,
    }


def job_keywords(spec: QueueCluster, group: QueueGroup, logs: Path) -> dict[str, Any]:
    """What dask-jobqueue must know of any job of a queue, of a worker or not.

    Parameters
    ----------
    spec : QueueCluster
    group : QueueGroup
        Its cores, GPUs, memory, walltime, queue, account, directives and prologue.
    logs : Path
        Folder for the output of the job.

    Returns
    -------
    dict
    """
    system = SYSTEMS[spec.kind]
    environment = [f"export {name}={shlex.quote(v)}" for name, v in WORKER_ENVIRONMENT.items()]
    directives = [*_gpu_directives(spec, group), *group.directives]
    keywords: dict[str, Any] = {
        "cores": group.cores,
        "memory": group.memory,
        "interface": spec.interface,
        "log_directory": str(logs),
        "job_script_prologue": [*environment, *group.prologue],
    }
    if spec.kind == "htcondor":
        if group.account:
            directives.append(system.account.format(account=group.account))
        pairs = (line.partition("=") for line in directives)
        keywords["job_extra_directives"] = {key.strip(): value.strip() for key, _, value in pairs}
        return {**keywords, "disk": _CONDOR_DISK}
    keywords |= {
        "walltime": _minutes(group.walltime) if spec.kind == "lsf" else group.walltime,
        "queue": group.queue,
        system.account: group.account,
        "job_extra_directives": directives,
    }
    if spec.kind == "pbs" and group.gpus and group.gpu_directives is None:
        memory = f"{in_bytes(group.memory) >> 20}MB"
        keywords["resource_spec"] = f"select=1:ncpus={group.cores}:mem={memory}:ngpus={group.gpus}"
    return keywords


def _gpu_directives(spec: QueueCluster, group: QueueGroup) -> list[str]:
    """The lines of a job's header that ask for its GPUs."""
    if not group.gpus:
        return []
    usual = SYSTEMS[spec.kind].gpus
    lines = usual if group.gpu_directives is None else group.gpu_directives
    return [line.replace("{gpus}", str(group.gpus)) for line in lines]


def _minutes(walltime: str) -> str:
    """LSF counts hours and minutes."""
    minutes = -(-in_seconds(walltime) // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def _ports(spec: QueueCluster) -> tuple[str, ...]:
    """Where workers and those that watch over them listen: of the open ports, half for each."""
    if spec.worker_ports is None:
        return ()
    first, last = map(int, spec.worker_ports.split(":"))
    middle = (first + last) // 2
    return "--worker-port", f"{first}:{middle}", "--nanny-port", f"{middle + 1}:{last}"


def recorded(job: type, accepted: Callable[[str], None]) -> type:
    """A job that tells its number when the queue has accepted it."""

    class RecordedJob(job):  # type: ignore[misc]
        async def start(self) -> None:
            await super().start()
            if self.job_id:
                accepted(self.job_id)

    return RecordedJob


def keeping_refusals(job: type) -> type:
    """A job that keeps the queue's refusal: Dask would print it and wait for ever."""
    from distributed.core import Status

    class Job(job):  # type: ignore[misc]
        refusal = ""
        submitted = 0.0

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refusal = refusal(self.submit_command, error)
                self.status = Status.running  # it is then counted as missing
            self.submitted = time.monotonic()

        async def close(self) -> None:
            with suppress(OSError, RuntimeError):
                await super().close()
            self.status = Status.closed

    return Job


def refusal(command: str, error: Exception) -> str:
    """What a queue says of a job that it does not take, in a line.

    Parameters
    ----------
    command : str
        That hands a job over.
    error : Exception
        As dask-jobqueue raises it.
    """
    if isinstance(error, FileNotFoundError):
        return f"there is no '{error.filename or command}' on this machine"
    said = str(error)
    return refused(command, said.partition("stderr:\n")[2].strip() or said)


def refused(command: str, said: str) -> str:
    """The refusal of a queue, of which `said` is what it printed."""
    return f"{command} refused a job: {' '.join(said.split())[:WIDTH]}"
