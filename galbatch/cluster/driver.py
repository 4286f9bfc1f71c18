"""The driver as a job of a queue: its script, and how the queue is given it and takes it back.

dask-jobqueue knows how each queue wants a script, is given one and says its number: the driver's
job is made by the class that makes the workers' jobs, so that settings of a site hold for both.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from galbatch.cluster.certificates import certificates_to_be
from galbatch.cluster.disks import Disks
from galbatch.cluster.jobs import (
    check_options,
    job_keywords,
    job_of,
    lifetime_of,
    python_of,
    refused,
    worker_keywords,
)
from galbatch.cluster.shell import check_prologues, for_condor
from galbatch.cluster.systems import (
    ANSWERS_WITHIN,
    SYSTEMS,
    WIDTH,
    end_of,
    jobqueue,
    logs_of,
    states,
)
from galbatch.errors import SpecError, TransientError
from galbatch.spec.cluster import QueueCluster
from galbatch.spec.sizes import in_seconds

NAME = "galbatch-driver"
_LEAST_NOTICE, _MOST_NOTICE = 1, 120
"""Seconds before the end of its time at which SLURM tells a driver."""
_OF_THE_SITE = frozenset(
    {
        *("shebang", "job_directives_skip", "lsf_units", "use_stdin", "disk"),
        *("submit_command_extra", "cancel_command_extra"),
    }
)
"""Keywords of dask-jobqueue in `options` that are of the place, not of the workers."""


class DriverQueue:
    """The queue of a job, as far as its driver is concerned.

    Parameters
    ----------
    spec : QueueCluster
    logs : Path
        Folder for the output of the driver.

    Raises
    ------
    SpecError
        If dask-jobqueue is not installed, or does not take one of the settings.
    """

    def __init__(self, spec: QueueCluster, logs: Path) -> None:
        self._spec, self._group, self._logs = spec, spec.driver_group, logs
        self._system = SYSTEMS[spec.kind]
        self._where = f"cluster ({spec.kind})"
        self._job_cls = getattr(jobqueue(), self._system.cluster).job_cls

    @property
    def lifetime(self) -> float | None:
        """Seconds after which the next driver takes over; None where a queue knows no limit."""
        return None if self._spec.kind == "htcondor" else lifetime_of(self._group)

    @property
    def begins_again(self) -> bool:
        """Whether the queue itself starts a job once more that had to give way."""
        return self._system.begins_again

    @property
    def own_number(self) -> str:
        """The number of the job that this process is, where the queue says it."""
        found = re.match(self._system.number, os.environ.get(self._system.variable, ""))
        return found.group() if found else ""

    def is_over(self, number: str) -> bool:
        """Whether the queue says that a job runs no more, and will not; or does not list it."""
        with suppress(TransientError):
            state = states(self._system).get(number, "")
            return not state or bool(self._system.ended.match(state))
        return False

    def is_cancelled(self, number: str) -> bool:
        """Whether somebody has cancelled a job, as far as the queue tells."""
        with suppress(TransientError):
            state = states(self._system).get(number, "")
            if self._system.cancelled.match(state):
                return True
        with suppress(OSError):
            lines = [line for path in logs_of(self._logs, number) for line in end_of(path)]
            return any(map(self._system.says_cancelled.match, lines))
        return False

    def script(self, words: Sequence[str], folder: Path) -> str:
        """The job as the queue wants it.

        Parameters
        ----------
        words : sequence of str
            Of galbatch's command line.
        folder : Path
            Where it is to run.

        Raises
        ------
        SpecError
            If dask-jobqueue does not take one of the settings, or a shell one of the prologues.
        """
        check_options(self._job_cls, self._spec)
        check_prologues(self._spec)
        # As dask-jobqueue does: it may be a command, such as a container's.
        python = python_of(self._spec) or sys.executable
        enter, given = f"cd {shlex.quote(str(folder))}", shlex.join(words)
        job = self._job()
        if self._spec.kind == "htcondor":
            enter, given = for_condor([enter, given])
        command = f"{enter} && exec {python} -m galbatch.cli {given}"
        if self._spec.kind == "htcondor":
            command = "; ".join([*job._job_script_prologue, command])
        job._command_template = command
        text: str = job.job_script()
        return text

    def worker_scripts(
        self, scratch: Path, shared: Mapping[str, Path]
    ) -> Iterator[tuple[str, str]]:
        """The jobs that the driver will ask for: what each is, and its script.

        What is known only as the driver runs stands there in capitals: SCHEDULER, NAME, RUN.

        Parameters
        ----------
        scratch : Path
            Folder for temporary files of the workers.
        shared : mapping of str to Path
            A file on each disk that they must share, by the job's setting that names the disk.

        Raises
        ------
        SpecError
            If dask-jobqueue does not take one of the settings, or a script cannot name a folder.
        """
        checks = Disks.named(shared, "RUN").script()
        address: dict[str, Any] = {"scheduler": "SCHEDULER", "name": "NAME"}
        if self._spec.tls:
            address |= {"protocol": "tls://", "security": certificates_to_be(scratch, "RUN")}
        for name, group in self._spec.all_groups.items():
            keywords = worker_keywords(self._spec, name, scratch, self._logs, checks)
            job = job_of(self._job_cls, self._spec, self._logs, {**address, **keywords})
            yield f"{name or 'worker'}, {group.least // group.per_job} x", job.job_script()

    def submit(self, script: Path) -> str:
        """Give the queue a job; its number.

        Raises
        ------
        SpecError
            If the queue refuses it, there is none, or the script is gone.
        """
        job = self._job()
        words = shlex.split(job.submit_command)
        # LSF reads a script's header only where the script comes by itself.
        by_itself = bool(getattr(job, "use_stdin", False))
        try:
            text = script.read_text(encoding="utf-8")
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
            raise SpecError(str(script), problem, "'galbatch submit' makes it again") from error
        try:
            done = subprocess.run(
                words if by_itself else [*words, str(script)],
                input=text if by_itself else "",
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise SpecError(
                self._where, f"there is no '{words[0]}' on this machine", "submit where there is"
            ) from error
        hint = (
            "change what the queue does not take: 'cluster.driver.walltime', "
            "'cluster.driver.queue' or another setting of 'cluster.driver' in the job"
        )
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
            raise SpecError(self._where, refused(words[0], said), hint)
        try:
            number: str = job._job_id_from_submit_output(done.stdout)
        except ValueError as error:
            said = " ".join(done.stdout.split())[:WIDTH]
            raise SpecError(self._where, f"{words[0]} tells no number: {said}", hint) from error
        return number

    def cancel(self, number: str) -> None:
        """Take a job back.

        Raises
        ------
        TransientError
            If the queue does not do so.
        """
        words = [*shlex.split(self._job().cancel_command), number]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransientError(self._where, f"job {number} is not cancelled: {error}") from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:WIDTH]
            raise TransientError(self._where, f"job {number} is not cancelled: {said}")

    def _job(self) -> Any:
        """A job of dask-jobqueue, which this class gives another command than a worker's."""
        keywords = job_keywords(self._spec, self._group, self._logs)
        keywords |= {key: self._spec.options[key] for key in _OF_THE_SITE & {*self._spec.options}}
        if self._system.leaving:
            leaving = [line.format(seconds=self._notice()) for line in self._system.leaving]
            keywords["job_extra_directives"] = [*leaving, *keywords["job_extra_directives"]]
        keywords |= {"name": NAME, "job_name": NAME, "processes": 1}
        return job_of(self._job_cls, self._spec, self._logs, keywords)

    def _notice(self) -> int:
        """Seconds before the end of its time at which the driver is told."""
        rest = in_seconds(self._group.walltime) - lifetime_of(self._group)
        return int(min(max(rest / 2, _LEAST_NOTICE), _MOST_NOTICE))
