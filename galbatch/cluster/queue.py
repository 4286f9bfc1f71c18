"""Workers as jobs of an HPC queue, through dask-jobqueue."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.disks import Disks
from galbatch.cluster.session import WORKER_ENVIRONMENT, closed, joined, session
from galbatch.cluster.workers import OwnWorkers, Workers
from galbatch.errors import SpecError
from galbatch.spec.cluster import QueueCluster

ASKED_EVERY = 5.0
"""Seconds between two questions to the queue, which is asked only while workers are missing."""
_ANSWERS_WITHIN = 15.0
_SHOWS_WITHIN = 15.0
"""Seconds after which a queue lists a job that it accepted."""
_REGISTERS_AGAIN_WITHIN = 60.0
"""Seconds that a job may run without the workers it had: a worker that ended is started again."""
_LOG_BYTES, _LOG_LINES, _LOG_WIDTH = 16_384, 3, 300
"""How much of the end of a log is read, and how many lines of what width are shown."""
_ROUTINE = re.compile(r"[-\d]+ [:,\d]+ - distributed\.[.\w]+ - INFO - ")
_ONLY_HERE = "127.0.0.1:0"
"""Address of Dask's dashboards, which galbatch does not use."""


@dataclass(frozen=True)
class _System:
    """How a queue lists its jobs."""

    cluster: str
    """Its class in dask-jobqueue."""
    command: tuple[str, ...]
    """Lists the jobs of a user."""
    state: Callable[[Sequence[str]], str]
    """The state of a job, from the words of its line; its number is the first of them."""
    ended: re.Pattern[str]
    """States of a job that does not run, and will not."""
    shows_ended: bool = False
    """Whether jobs that ended are listed for a while."""
    none: str = ""
    """The message that the command fails with where there is no job."""


_SYSTEMS = {
    "slurm": _System(
        "SLURMCluster",
        ("squeue", "--noheader", "--states=all", "--format=%i %T %r", "--user={user}"),
        lambda words: " ".join(words[1:]).removesuffix(" None"),
        re.compile(
            "BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED"
            "|REVOKED|TIMEOUT"
        ),
        shows_ended=True,
    ),
    "pbs": _System(
        "PBSCluster", ("qstat", "-u", "{user}"), lambda words: words[-2], re.compile("[CFX]$")
    ),
    # E: an error, for which the job waits until somebody clears it.
    "sge": _System(
        "SGECluster", ("qstat", "-u", "{user}"), lambda words: words[4], re.compile(".*E")
    ),
    "lsf": _System(
        "LSFCluster",
        ("bjobs", "-a", "-w", "-u", "{user}"),
        lambda words: words[2],
        re.compile("DONE|EXIT|ZOMBI"),
        shows_ended=True,
        none="job found",
    ),
}


@contextmanager
def queue(spec: QueueCluster, folders: Folders) -> Iterator[Workers]:
    """Ask the queue for workers, and cancel their jobs when done.

    Yields
    ------
    Workers

    Raises
    ------
    SpecError
        If dask-jobqueue is not installed, or there is no such network interface.
    """

    def start(disks: Disks, stack: ExitStack) -> Workers:
        stack.callback(_removed_if_empty, folders.logs)
        cluster = stack.enter_context(closed(submit(spec, folders.scratch, folders.logs)))
        return QueueWorkers(joined(cluster, stack), disks, cluster, spec, folders.logs)

    with session(folders.shared, start) as workers:
        yield workers


def submit(spec: QueueCluster, scratch: Path, logs: Path) -> Any:
    """Ask the queue for workers.

    Parameters
    ----------
    spec : QueueCluster
    scratch : Path
        Folder for their temporary files.
    logs : Path
        Folder for the output of their jobs.

    Returns
    -------
    dask_jobqueue.JobQueueCluster

    Raises
    ------
    SpecError
        If dask-jobqueue is not installed, or there is no such network interface.
    """
    jobqueue = _jobqueue()
    kind = getattr(jobqueue, _SYSTEMS[spec.kind].cluster)
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
            *(f"export {name}={shlex.quote(v)}" for name, v in WORKER_ENVIRONMENT.items()),
            *spec.prologue,
        ],
        "worker_extra_args": ["--dashboard-address", _ONLY_HERE],
        "local_directory": str(scratch),
        "log_directory": str(logs),
        "scheduler_options": {"dashboard_address": _ONLY_HERE, "interface": spec.interface},
        "job_cls": _keeping_refusals(kind.job_cls),
    }
    if spec.kind == "sge" or spec.kind == "lsf":
        options["project"] = options.pop("account")
    try:
        cluster = kind(**options)
    except (RuntimeError, ValueError, OSError) as error:
        reason = error.__cause__ or error
        hint = "is 'interface' a network interface of this machine?" if spec.interface else ""
        problem = f"no scheduler could be started: {reason}"
        raise SpecError(f"cluster ({spec.kind})", problem, hint) from error
    cluster.scale(spec.workers)
    return cluster


def _jobqueue() -> Any:
    """The library, without its handler of Ctrl-C: that one ends Python with success."""
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        problem = "the workers of a queue need dask-jobqueue"
        raise SpecError("cluster", problem, "install galbatch[hpc]") from error
    signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def _keeping_refusals(job: type) -> type:
    """A job that keeps the queue's refusal: Dask would print it and wait for ever."""
    from distributed.core import Status

    class Job(job):  # type: ignore[misc]
        refusal = ""
        submitted = 0.0

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refusal = _refusal(self.submit_command, error)
                self.status = Status.running  # it is then counted as missing
            self.submitted = time.monotonic()

        async def close(self) -> None:
            with suppress(OSError, RuntimeError):
                await super().close()
            self.status = Status.closed

    return Job


def _refusal(command: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no '{error.filename or command}' on this machine"
    said = str(error)
    text = said.partition("stderr:\n")[2].strip() or said
    return f"{command} refused a job: {' '.join(text.split())[:_LOG_WIDTH]}"


class QueueWorkers(OwnWorkers):
    """Jobs of a queue.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
    cluster : dask_jobqueue.JobQueueCluster
    spec : QueueCluster
    logs : Path
        Folder with the output of their jobs.
    """

    def __init__(
        self, client: Any, disks: Disks, cluster: Any, spec: QueueCluster, logs: Path
    ) -> None:
        super().__init__(client, disks, cluster, f"cluster ({spec.kind})")
        self._spec = spec
        self._system = _SYSTEMS[spec.kind]
        self._logs = logs
        self._began = time.monotonic()
        self._asked = -ASKED_EVERY
        self._states: dict[str, str] = {}
        self._unknown = ""
        self._listed: set[str] = set()
        self._seen: dict[str, float] = {}

    def _replace_lost(self) -> Iterator[str]:
        yield from super()._replace_lost()
        if not self._any_came and time.monotonic() - self._began > self._spec.timeout:
            problem = f"no worker came within {self._spec.timeout:.0f} s: {self._why_none()}"
            raise SpecError(self._where, problem, "wait longer for them with 'timeout'")

    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        now = time.monotonic()
        jobs = dict(self._cluster.workers)
        self._seen |= {jobs[name].job_id: now for name in here if name in jobs}
        missing = {name: job for name, job in jobs.items() if name not in here}
        if missing and now - self._asked >= ASKED_EVERY:
            self._asked = now
            self._ask_queue()
        ends: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for name, job in missing.items():
            if job.refusal:
                ends[job.refusal, ""].append(name)
            elif self._is_over(job, now):
                state = self._states.get(job.job_id, "the queue has forgotten")
                came = job.job_id in self._seen
                ends["lost" if came else "ended before a worker came", state].append(name)
        reasons = {}
        for (what, state), names in ends.items():
            numbers = sorted((jobs[name].job_id for name in names if state), key=int)
            reason = f"{_jobs(numbers)} {what} ({state}){self._log(numbers[0])}" if state else what
            reasons[reason] = names
        return reasons

    def _is_over(self, job: Any, now: float) -> bool:
        """Whether a job will bring no workers any more."""
        seen = self._seen.get(job.job_id)
        if seen is not None and now - seen > _REGISTERS_AGAIN_WITHIN:
            return True
        state = self._states.get(job.job_id, "")
        if state or self._unknown:
            return bool(self._system.ended.match(state))
        if job.job_id in self._listed:
            return True
        # The queue may have been asked before it knew of the job; and where a queue lists jobs that
        # have ended too, a job that it never listed is in another queue.
        return not self._system.shows_ended and self._asked - job.submitted > _SHOWS_WITHIN

    def _scale(self, number: int) -> None:
        self._cluster.scale(jobs=number)

    def _why_none(self) -> str:
        if self._unknown:
            return self._unknown
        states: dict[str, list[str]] = defaultdict(list)
        for job in list(self._cluster.workers.values()):
            if job.job_id:
                state = self._states.get(job.job_id, "submitted")
                states[state].append(job.job_id)
        numbers = {state: sorted(jobs, key=int) for state, jobs in states.items()}
        lines = [f"{_jobs(jobs)} {state}{self._log(jobs[0])}" for state, jobs in numbers.items()]
        return "; ".join(lines) or "no jobs"

    def _ask_queue(self) -> None:
        """Ask the queue for the state of each job, and keep it."""
        command = [word.format(user=_user()) for word in self._system.command]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN, check=False
            )
            problem = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            self._unknown = f"the queue cannot be asked: {error}"
            return
        if problem and not (self._system.none and self._system.none in problem):
            self._unknown = f"the queue cannot be asked: {command[0]}: {' '.join(problem.split())}"
            return
        self._unknown = ""
        self._states = dict(_parsed(self._system, done.stdout))
        self._listed |= self._states.keys()

    def _log(self, job: str) -> str:
        """The path of a job's log, and its last lines."""
        name = re.compile(rf"(?<!\d){job}(?!\d)")
        try:
            files = [path for path in self._logs.iterdir() if name.search(path.name)]
            lines = {path: _last_lines(path) for path in files}
        except OSError:
            return ""
        path = max(lines, key=lambda path: (bool(lines[path]), ".e" in path.name), default=None)
        return f", {path} ends: {' / '.join(lines[path])}" if path and lines[path] else ""


def _parsed(system: _System, text: str) -> Iterator[tuple[str, str]]:
    """Number and state of each job in the answer of a queue."""
    for line in text.splitlines():
        words = line.split()
        number = re.match(r"\d+", words[0]) if words else None
        if number:
            with suppress(IndexError):
                yield number.group(), system.state(words)


def _removed_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _jobs(numbers: Sequence[str]) -> str:
    few = ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else "")
    return f"job {few}" if len(numbers) == 1 else f"{len(numbers):,} jobs ({few})"


def _last_lines(path: Path) -> list[str]:
    """The end of a log, without Dask's routine messages, unless there is nothing else."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _LOG_BYTES, 0))
        text = file.read().decode(errors="replace")
    lines = [" ".join(line.split())[:_LOG_WIDTH] for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not _ROUTINE.match(line)]
    return said[-_LOG_LINES:] or [_ROUTINE.sub("", line) for line in lines[-1:]]


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())
