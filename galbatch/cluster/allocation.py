"""Workers in an allocation: one task of `srun` is the scheduler, one the driver, the others work.

They find each other by a file in a folder that the scheduler makes for this start of the tasks
alone: what another start has left would be waited for in vain. The driver says in the same folder
that it has ended; if it cannot, `srun -K` ends the others, or the scheduler does when it has not
heard of its driver for a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.certificates import certificates, security_of
from galbatch.cluster.disks import Disks
from galbatch.cluster.session import (
    SETTINGS,
    WORKER_ENVIRONMENT,
    check_interface,
    closed,
    quiet,
    session,
)
from galbatch.cluster.workers import Workers
from galbatch.errors import SpecError, TransientError
from galbatch.spec.cluster import AllocationCluster

_SCHEDULER, _DRIVER = 0, 1
_LEAST = 3
"""Tasks: a scheduler, a driver and a worker."""
_EVERY = 0.2
"""Seconds between two looks at the folder."""
_SPECIAL_STEPS = 0xFFFFFFF0
"""Numbers of SLURM's steps that are not those of an `srun`, from here on."""
_ENDS_WITHIN = 10.0
"""Seconds that workers may take to end."""
_HERE = "127.0.0.1:0"
_HINT = "start it as 'srun -K -n 10 galbatch run JOB' in an allocation"
_STARTERS = (
    ("SLURM_PROCID", "SLURM_NTASKS", ("SLURM_JOB_ID", "SLURM_STEP_ID")),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ("PMIX_NAMESPACE",)),
)
"""How `srun` and Open MPI's `mpirun` tell a task its number, how many there are, and which start of
them this is."""


@dataclass(frozen=True)
class Place:
    """One of the tasks that were started together.

    Parameters
    ----------
    rank : int
        From 0.
    folder : Path
        Where they find each other.
    """

    rank: int
    folder: Path

    @property
    def scheduler(self) -> Path:
        """Address and certificates of the scheduler."""
        return self.folder / "scheduler.json"

    @property
    def ended(self) -> Path:
        """There when the driver has ended."""
        return self.folder / "ended"


@contextmanager
def allocation(spec: AllocationCluster, folders: Folders) -> Iterator[Workers]:
    """Join the scheduler, as the task that drives.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If this is no allocation, or a worker does not share the disks.
    TransientError
        If the scheduler does not come, or has ended.
    """
    place = _place(folders.logs)

    def start(disks: Disks, stack: ExitStack) -> Workers:
        from distributed import Client

        found = _found(place, spec.timeout)
        if not found:
            hint = "the first task says why"
            raise TransientError("cluster (allocation)", "the scheduler has ended", hint)
        security = None
        if spec.tls:
            security = security_of(found["ca_file"], found["cert"], found["key"])
        client = Client(found["address"], set_as_default=False, security=security)
        return AllocationWorkers(stack.enter_context(closed(client)), disks)

    with session(folders.shared, start) as workers:
        yield workers


class AllocationWorkers(Workers):
    """The other tasks of `srun`."""

    def _why_none(self) -> str:
        return "the tasks of this allocation are not there (yet)"


@contextmanager
def task_of_allocation(spec: AllocationCluster, folders: Folders) -> Iterator[bool]:
    """Be the scheduler or a worker until the driver ends; or be the driver.

    Yields
    ------
    bool
        Whether this is the driver.

    Raises
    ------
    SpecError
        If this is no task of an allocation, they are too few, or there is no such network
        interface.
    TransientError
        If the scheduler does not come.
    """
    place = _place(folders.logs)
    if place.rank == _DRIVER:
        try:
            yield True
        finally:
            place.folder.mkdir(parents=True, exist_ok=True)
            place.ended.touch()
        return
    if place.rank == _SCHEDULER:
        _serve(spec, place, folders.scratch)
    else:
        _work(spec, place, folders.scratch)
    yield False


def _place(logs: Path) -> Place:
    for rank, size, names in _STARTERS:
        start = [os.environ.get(name, "") for name in names]
        if rank in os.environ and all(start) and not _of_no_srun(start[-1]):
            tasks = _number(size, "1")
            if tasks < _LEAST:
                raise SpecError("cluster (allocation)", f"needs {_LEAST} tasks, got {tasks}", _HINT)
            start.append(os.environ.get("SLURM_RESTART_COUNT", "0"))
            name = "".join(c if c.isalnum() else "-" for c in "-".join(start))
            return Place(_number(rank), logs / f"allocation-{name}")
    raise SpecError("cluster (allocation)", "this is no task of srun or mpirun", _HINT)


def _number(variable: str, usual: str = "") -> int:
    """What a variable of the starter says."""
    text = os.environ.get(variable, usual)
    if not (text.isascii() and text.isdecimal()):
        problem = f"{variable}: expected a number, got '{text}'"
        raise SpecError("cluster (allocation)", problem, _HINT)
    return int(text)


def _of_no_srun(step: str) -> bool:
    """Whether a step of SLURM is that of a batch script or of a shell, which run once."""
    return step.isdecimal() and int(step) >= _SPECIAL_STEPS


def _found(place: Place, timeout: float) -> dict[str, str]:
    """What the scheduler has said of itself; nothing where it, or the driver, has ended before."""
    until = time.monotonic() + timeout
    while not place.ended.exists():
        with suppress(FileNotFoundError):
            found: dict[str, str] = json.loads(place.scheduler.read_text(encoding="utf-8"))
            return found
        if time.monotonic() > until:
            problem = f"no scheduler within {timeout:.0f} s: {place.scheduler} is missing"
            raise TransientError("cluster (allocation)", problem, "see 'timeout'")
        time.sleep(_EVERY)
    return {}


def _work(spec: AllocationCluster, place: Place, scratch: Path) -> None:
    """Become a worker of Dask, as a job of a queue is one."""
    check_interface(spec.interface)
    found = _found(place, spec.timeout)
    if not found:
        return
    files = (("--tls-ca-file", "ca_file"), ("--tls-cert", "cert"), ("--tls-key", "key"))
    words = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", found["address"]),
        *("--name", str(place.rank), "--nworkers", "1", "--nthreads", "1", "--nanny"),
        *("--memory-limit", spec.memory, "--death-timeout", f"{spec.death_timeout:.0f}"),
        *("--local-directory", str(scratch), "--dashboard-address", _HERE),
        *(word for option, key in files if key in found for word in (option, found[key])),
        *(("--interface", spec.interface) if spec.interface else ()),
    ]
    calm = {"DASK_LOGGING__DISTRIBUTED": "critical"}
    os.execve(sys.executable, words, {**os.environ, **WORKER_ENVIRONMENT, **calm})


def _serve(spec: AllocationCluster, place: Place, scratch: Path) -> None:
    """Be the scheduler until the driver has ended."""
    import dask
    import distributed  # noqa: F401  # it sets the levels of its loggers, which are silenced below

    with ExitStack() as stack:
        place.folder.mkdir(parents=True, exist_ok=True)
        for folder in place.folder.parent.glob("allocation-*"):
            if folder != place.folder:
                shutil.rmtree(folder, ignore_errors=True)
        stack.callback(_put_away, place)
        check_interface(spec.interface)
        stack.enter_context(dask.config.set(SETTINGS))
        stack.enter_context(quiet())
        security = stack.enter_context(certificates(place.folder)) if spec.tls else None
        asyncio.run(_scheduler(spec, place, security))


async def _scheduler(spec: AllocationCluster, place: Place, security: Any) -> None:
    from distributed import Scheduler

    own = Scheduler(
        security=security,
        protocol="tls" if spec.tls else "tcp",
        interface=spec.interface,
        port=0,
        dashboard_address=_HERE,
    )
    async with own as scheduler:
        files = security.get_tls_config_for_role("client") if security else {}
        _write(place.scheduler, {"address": scheduler.address, **files})
        heard = time.monotonic()
        driven = False
        while not place.ended.exists():
            # Dask's own client, by which nobody drives, has a name of its own.
            if any(name.startswith("Client-") for name in scheduler.clients):
                heard, driven = time.monotonic(), True
            elif driven and time.monotonic() - heard > spec.death_timeout:
                break
            await asyncio.sleep(_EVERY)
        await _ended(scheduler)


async def _ended(scheduler: Any) -> None:
    """Let the workers end; those that lose their scheduler complain."""
    for address in [*scheduler.workers]:
        scheduler.close_worker(address)
    until = time.monotonic() + _ENDS_WITHIN
    while scheduler.workers and time.monotonic() < until:
        await asyncio.sleep(_EVERY)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that others wait for, whole or not at all."""
    words = {key: value for key, value in content.items() if isinstance(value, str)}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(words), encoding="utf-8")
    temporary.replace(path)


def _put_away(place: Place) -> None:
    """All but the word that it is over: a task may be late."""
    with suppress(FileNotFoundError):  # somebody has cleared the logs
        place.scheduler.unlink(missing_ok=True)
        place.ended.touch()
