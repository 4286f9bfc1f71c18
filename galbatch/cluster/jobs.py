"""What a queue is asked for: the settings of a group of jobs as keywords of dask-jobqueue."""

from __future__ import annotations

import inspect
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from itertools import takewhile
from pathlib import Path
from typing import Any

from galbatch.cluster.session import WORKER_ENVIRONMENT
from galbatch.cluster.shell import for_condor
from galbatch.cluster.systems import SYSTEMS, WIDTH, check_paths
from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.cluster import NOT_OPTIONS, QueueCluster, QueueGroup
from galbatch.spec.messages import shown
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
    spec: QueueCluster, name: str, scratch: Path, logs: Path, checks: Sequence[str] = ()
) -> dict[str, Any]:
    """What dask-jobqueue must know of the jobs of a group: of those submitted and those printed.

    Where there are several groups, each has Dask's resources for the stages that it does.

    Parameters
    ----------
    spec : QueueCluster
    name : str
        Of the group.
    scratch : Path
        Folder for temporary files of the workers.
    logs : Path
        Folder for the output of the jobs.
    checks : sequence of str, optional
        Lines of a shell behind those of the job, see `Disks.script`. HTCondor's jobs, which have
        one command for a script, go without.

    Returns
    -------
    dict

    Raises
    ------
    SpecError
        If a script cannot name one of the folders.
    """
    check_paths(spec.kind, scratch, logs)
    group = spec.all_groups[name]
    seconds = lifetime_of(group)
    # Dask takes 0 s for no limit.
    leaving = ["--lifetime", f"{math.ceil(seconds)}s"]
    leaving += ["--lifetime-stagger", f"{_STAGGER * seconds:.0f}s"]
    offered = [f"{stage}=1" for stage in spec.stages_of[name] if len(spec.all_groups) > 1]
    usual = job_keywords(spec, group, logs)
    if spec.kind != "htcondor":
        usual["job_script_prologue"] = [*usual["job_script_prologue"], *checks]
    return {
        **usual,
        "processes": group.per_job,
        "python": python_of(spec),
        "job_name": spec.job_name,
        "death_timeout": f"{math.ceil(spec.death_timeout)}",
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
    own = [*_gpu_directives(spec, group), *group.directives]
    numbers = (("{cores}", f"{group.cores}"), ("{gpus}", f"{group.gpus}"))
    directives = [reduce(lambda line, one: line.replace(*one), numbers, line) for line in own]
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
        keywords["job_script_prologue"] = [*environment, *for_condor(group.prologue)]
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


def job_of(job_cls: Any, spec: QueueCluster, logs: Path, keywords: Mapping[str, Any]) -> Any:
    """A job of dask-jobqueue, without the folders that it makes.

    Parameters
    ----------
    job_cls : type
        A job of this queue.
    spec : QueueCluster
    logs : Path
        Folder for the output of the job.
    keywords : mapping
        As `job_keywords` or `worker_keywords` gives them, and what else there is.

    Raises
    ------
    SpecError
        If dask-jobqueue does not take one of the settings, or the folder cannot be made.
    """
    with _without_new(logs):
        try:
            return job_cls(**keywords)
        except Exception as error:  # of another library, over what a user wrote
            if isinstance(error, OSError) and logs.is_relative_to(error.filename or "-"):
                problem = f"cannot be made: {error.strerror}"
                hint = "choose another place for 'store' or 'scratch'"
                raise SpecError(str(error.filename), problem, hint) from error
            said = f"{type(error).__name__}: {error}"
            word = _guilty(job_cls, spec, keywords)
            if word:
                problem = f"dask-jobqueue does not take {shown(spec.options[word])}: {said}"
                raise SpecError(f"cluster.options.{word}", problem) from error
            raise SpecError(f"cluster ({spec.kind})", f"no job can be made: {said}") from error


def _guilty(job_cls: Any, spec: QueueCluster, keywords: Mapping[str, Any]) -> str:
    """Which of `options` it is without which there is a job; empty where it is another setting."""
    for word in [word for word in spec.options if word in keywords]:
        with suppress(Exception):
            job_cls(**{key: value for key, value in keywords.items() if key != word})
            return word
    return ""


def check_options(job_cls: type, spec: QueueCluster) -> None:
    """Refuse what dask-jobqueue would make no job of.

    Parameters
    ----------
    job_cls : type
        A job of this queue.
    spec : QueueCluster

    Raises
    ------
    SpecError
        Naming the first of `options` that its jobs do not have.
    """
    known: set[str] = set()
    for one in job_cls.__mro__[:-1]:
        parameters = inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
        known |= {found.name for found in parameters if found.kind != found.VAR_KEYWORD}
    known -= {"self", *NOT_OPTIONS}
    for word in spec.options:
        if word not in known:
            problem = f"a job of dask-jobqueue for {spec.kind} has no such keyword"
            raise SpecError(f"cluster.options.{word}", problem, did_you_mean(word, known))


@contextmanager
def _without_new(folder: Path) -> Iterator[None]:
    """Take away a folder that is made meanwhile, and those around it."""
    made = list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    try:
        yield
    finally:
        for one in made:
            with suppress(OSError):  # others may have put something there
                one.rmdir()


def python_of(spec: QueueCluster) -> str | None:
    """The Python that starts a worker, as the queue's script has it; None for this one's path."""
    if spec.kind == "htcondor" and spec.python:
        return " ".join(for_condor([spec.python]))
    return spec.python


def _gpu_directives(spec: QueueCluster, group: QueueGroup) -> tuple[str, ...]:
    """The lines of a job's header that ask for its GPUs."""
    if not group.gpus:
        return ()
    return SYSTEMS[spec.kind].gpus if group.gpu_directives is None else group.gpu_directives


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


def recorded(job: type, handed: Callable[[Any], None], accepted: Callable[[str], None]) -> type:
    """A job that tells its name as the queue is given it, and the number that the queue gives."""

    class RecordedJob(job):  # type: ignore[misc]
        async def start(self) -> None:
            handed(self.name)
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
