"""The queue systems: how each lists its jobs, is asked for GPUs, and where its jobs' logs are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError, TransientError

ANSWERS_WITHIN = 15.0
"""Seconds that a queue may take to list its jobs."""
_LOG_BYTES, _LOG_LINES = 16_384, 3
"""How much of the end of a log is read, and how many lines are shown."""
WIDTH = 300
"""Letters of a line that are shown."""
_NEVER = re.compile("(?!)")
_ROUTINE = re.compile(r"[-\d]+ [:,\d]+ - distributed\.[.\w]+ - INFO - ")


_PLAIN = re.compile(r"[\w.@%+=:,/~-]+")


@dataclass(frozen=True)
class System:
    """A queue system.

    Parameters
    ----------
    cluster : str
        Its class in dask-jobqueue.
    command : tuple of str
        Lists the jobs of ``{user}``.
    state : callable
        The state of a job, from the words of its line; its number is the first of them.
    ended : re.Pattern
        States of a job that does not run, and will not.
    number : str, optional
        A pattern for the numbers of jobs.
    shows_ended : bool, optional
        Whether jobs that ended are listed for a while.
    none : str, optional
        The message that the command fails with where there is no job.
    account : str, optional
        The keyword of dask-jobqueue for the account, or the directive.
    gpus : tuple of str, optional
        The directives that ask for ``{gpus}`` GPUs.
    variable : str, optional
        Holds a job's own number in its environment.
    cancelled, says_cancelled : re.Pattern, optional
        States of a job that somebody has cancelled, as it is told to end; and what then stands in
        its log.
    begins_again : bool, optional
        Whether the queue itself starts a job once more that had to give way.
    leaving : str, optional
        The directives that let a job be told ``{seconds}`` before its time is up, or when it has to
        give way.
    """

    cluster: str
    command: tuple[str, ...]
    state: Callable[[Sequence[str]], str]
    ended: re.Pattern[str]
    number: str = r"\d+"
    shows_ended: bool = False
    none: str = ""
    account: str = "account"
    gpus: tuple[str, ...] = ()
    variable: str = ""
    cancelled: re.Pattern[str] = _NEVER
    says_cancelled: re.Pattern[str] = _NEVER
    begins_again: bool = False
    leaving: tuple[str, ...] = ()


_CONDOR = {"1": "idle", "2": "running", "3": "removed", "4": "completed", "5": "held",
           "6": "transferring", "7": "suspended"}  # fmt: skip
"""JobStatus of HTCondor."""

SYSTEMS = {
    "slurm": System(
        "SLURMCluster",
        ("squeue", "--noheader", "--states=all", "--format=%i %T %r", "--user={user}"),
        lambda words: " ".join(words[1:]).removesuffix(" None"),
        re.compile(
            "BOOT_FAIL|CANCELLED|COMPLETED|DEADLINE|FAILED|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED"
            "|REVOKED|TIMEOUT"
        ),
        shows_ended=True,
        gpus=("--gres=gpu:{gpus}",),
        variable="SLURM_JOB_ID",
        # And not: ... DUE TO PREEMPTION ***. Its state is COMPLETING either way.
        says_cancelled=re.compile(r".*\*\*\* JOB .* CANCELLED AT \S+ \*\*\*"),
        leaving=("--requeue", "--open-mode=append", "--signal=B:USR1@{seconds}"),
    ),
    # GPUs are part of the resources that a job selects: see `galbatch.cluster.jobs`.
    "pbs": System(
        "PBSCluster",
        ("qstat", "-u", "{user}"),
        lambda words: words[-2],
        re.compile("[CFX]$"),
        variable="PBS_JOBID",
    ),
    # E: an error, for which the job waits until somebody clears it.
    "sge": System(
        "SGECluster",
        ("qstat", "-u", "{user}"),
        lambda words: words[4],
        re.compile(".*E"),
        account="project",
        gpus=("-l gpu={gpus}",),
        variable="JOB_ID",
        cancelled=re.compile("d"),
    ),
    "lsf": System(
        "LSFCluster",
        ("bjobs", "-a", "-w", "-u", "{user}"),
        lambda words: words[2],
        re.compile("DONE|EXIT|ZOMBI"),
        shows_ended=True,
        none="job found",
        account="project",
        gpus=('-gpu "num={gpus}"',),
        variable="LSB_JOBID",
    ),
    "htcondor": System(
        "HTCondorCluster",
        ("condor_q", "{user}", "-autoformat:j", "JobStatus"),
        lambda words: _CONDOR.get(words[1], words[1]),
        re.compile("removed|completed|held"),
        number=r"\d+\.\d+",
        account="accounting_group = {account}",
        gpus=("request_gpus = {gpus}",),
        begins_again=True,
    ),
}


def jobqueue() -> Any:
    """The library, without its handler of Ctrl-C: that one ends Python with success.

    Raises
    ------
    SpecError
        If it is not installed.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        problem = "the workers of a queue need dask-jobqueue"
        raise SpecError("cluster", problem, "install galbatch[hpc]") from error
    signal.signal(signal.SIGINT, before)
    return dask_jobqueue


def check_paths(kind: str, *paths: Path) -> None:
    """Refuse folders that the scripts of a queue cannot name: they are not quoted there.

    Raises
    ------
    SpecError
        Naming the folder.
    """
    for path in paths:
        if not _PLAIN.fullmatch(str(path)):
            problem = (
                f"the folder {path} has a space or a sign in its name that scripts do not take"
            )
            raise SpecError(f"cluster ({kind})", problem, "give 'store' and 'scratch' plain names")


def states(system: System) -> dict[str, str]:
    """The state of each job of this user, by its number.

    Raises
    ------
    TransientError
        If the queue cannot be asked.
    """
    command = [word.format(user=_user()) for word in system.command]
    where = "the queue cannot be asked"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(where, str(error)) from error
    problem = done.stderr.strip() if done.returncode else ""
    if problem and not (system.none and system.none in problem):
        raise TransientError(where, f"{command[0]}: {' '.join(problem.split())}")
    return dict(_parsed(system, done.stdout))


def _parsed(system: System, text: str) -> Iterator[tuple[str, str]]:
    """Number and state of each job in the answer of a queue."""
    for line in text.splitlines():
        words = line.split()
        number = re.match(system.number, words[0]) if words else None
        if number:
            with suppress(IndexError):
                yield number.group(), system.state(words)


def in_order(numbers: Sequence[str]) -> list[str]:
    """Numbers of jobs, from the first to the last."""
    return sorted(numbers, key=lambda number: [int(part) for part in re.findall(r"\d+", number)])


def jobs_text(numbers: Sequence[str]) -> str:
    """``job 7``, or ``12 jobs (7, 8, 9, ...)``."""
    few = ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else "")
    return f"job {few}" if len(numbers) == 1 else f"{len(numbers):,} jobs ({few})"


def log_end(folder: Path, job: str) -> str:
    """The path of a job's log, and its last lines; nothing where there is none."""
    try:
        lines = {path: _last_lines(path) for path in logs_of(folder, job)}
    except OSError:
        return ""
    path = max(lines, key=lambda path: (bool(lines[path]), ".e" in path.name), default=None)
    return f", {path} ends: {' / '.join(lines[path])}" if path and lines[path] else ""


def log_of(folder: Path, job: str) -> str:
    """What there is of a job's log: its last lines, or that it is empty, or that there is none."""
    logs: list[Path] = []
    with suppress(OSError):
        logs = logs_of(folder, job)
    none = f"its log {logs[-1]} is empty" if logs else f"it has left no log in {folder}"
    return log_end(folder, job).removeprefix(", ") or none


def logs_of(folder: Path, job: str) -> list[Path]:
    """The files with the output of a job.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    name = re.compile(rf"(?<!\d){re.escape(job)}(?!\d)")
    return sorted(path for path in folder.iterdir() if path.is_file() and name.search(path.name))


def end_of(path: Path) -> list[str]:
    """The last lines of a log, as many as are in its last 16 KiB, without empty ones.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _LOG_BYTES, 0))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _last_lines(path: Path) -> list[str]:
    """The end of a log, without Dask's routine messages, unless there is nothing else."""
    lines = [" ".join(line.split())[:WIDTH] for line in end_of(path)]
    said = [line for line in lines if not _ROUTINE.match(line)]
    return said[-_LOG_LINES:] or [_ROUTINE.sub("", line) for line in lines[-1:]]


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())
