"""Workers as jobs of an HPC queue, through dask-jobqueue."""

from __future__ import annotations

import errno
import importlib.util
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from galbatch.cluster.base import Folders
from galbatch.cluster.certificates import certificates
from galbatch.cluster.disks import Disks
from galbatch.cluster.jobs import (
    ONLY_HERE,
    check_options,
    job_of,
    keeping_refusals,
    lifetime_of,
    recorded,
    worker_keywords,
)
from galbatch.cluster.session import check_interface, closed, joined, session
from galbatch.cluster.systems import (
    SYSTEMS,
    in_order,
    jobqueue,
    jobs_text,
    log_end,
    log_of,
    states,
)
from galbatch.cluster.workers import OwnWorkers, Workers
from galbatch.errors import SpecError, TransientError, counted
from galbatch.spec.cluster import QueueCluster

ASKED_EVERY = 5.0
"""Seconds between two questions to the queue, which is asked only while workers are missing."""
_SHOWS_WITHIN = 15.0
"""Seconds after which a queue lists a job that it accepted."""
_REGISTERS_AGAIN_WITHIN = 60.0
"""Seconds that a job may run without the workers it had: a worker that ended is started again."""
_IN_TIME = 0.85
"""Of a lifetime: a job that ends after it has left because its time was up."""
_LIFETIMES = 3
"""Lifetimes without progress after which a run gives up: its tasks take longer than one."""


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
        security = stack.enter_context(certificates(folders.scratch)) if spec.tls else None
        cluster = stack.enter_context(closed(scheduler_of(spec, folders, security)))
        return QueueWorkers(joined(cluster, stack), disks, cluster, spec, folders)

    with session(folders.shared, start) as workers:
        yield workers


def scheduler_of(spec: QueueCluster, folders: Folders, security: Any) -> Any:
    """A scheduler for jobs of a queue, which have not been asked for yet.

    Parameters
    ----------
    spec : QueueCluster
    folders : Folders
    security : distributed.Security or None
        By which the jobs speak to the scheduler; None for an open connection.

    Returns
    -------
    dask_jobqueue.JobQueueCluster

    Raises
    ------
    SpecError
        If dask-jobqueue is not installed, there is no such network interface, or it does not take
        one of the settings in `options`.
    """
    kind = getattr(jobqueue(), SYSTEMS[spec.kind].cluster)
    _check_port(check_interface(spec.interface), spec.scheduler_port)
    check_options(kind.job_cls, spec)
    # What is wrong with a job would otherwise be seen by Dask alone.
    for name in spec.all_groups:
        keywords = worker_keywords(spec, name, folders.scratch, folders.logs)
        job_of(kind.job_cls, spec, folders.logs, {"scheduler": "", "name": name, **keywords})
    name, *_ = spec.all_groups
    address = {"interface": spec.interface, "port": spec.scheduler_port or 0}
    try:
        return kind(
            **worker_keywords(spec, name, folders.scratch, folders.logs),
            security=security,
            scheduler_options={"dashboard_address": ONLY_HERE, **address},
            job_cls=keeping_refusals(kind.job_cls),
        )
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        reason = error.__cause__ or error
        problem = f"no scheduler could be started: {reason}"
        raise SpecError(f"cluster ({spec.kind})", problem) from error


def _check_port(address: str, port: int | None) -> None:
    """See whether the scheduler can listen on a port: Dask does not say why it cannot.

    Raises
    ------
    SpecError
        If another program does.
    """
    if port is None:
        return
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            problem = f"port {port} is in use on this machine"
            raise SpecError("cluster.scheduler_port", problem, "write another, or none") from error


class QueueWorkers(OwnWorkers):
    """Jobs of a queue.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
    cluster : dask_jobqueue.JobQueueCluster
        Without jobs: they are asked for here.
    spec : QueueCluster
    folders : Folders
    """

    def __init__(
        self, client: Any, disks: Disks, cluster: Any, spec: QueueCluster, folders: Folders
    ) -> None:
        from galbatch.cluster.joining import OwnGpu

        super().__init__(client, disks, cluster, f"cluster ({spec.kind})")
        self._spec = spec
        self._groups, self._stages = spec.all_groups, spec.stages_of
        self._system = SYSTEMS[spec.kind]
        self._logs = folders.logs
        self._began = time.monotonic()
        self._asked = -ASKED_EVERY
        self._states: dict[str, str] = {}
        self._unknown = ""
        self._listed: set[str] = set()
        self._seen: dict[str, float] = {}
        self._tasks: dict[str, int] = {}
        self._handed: set[Any] = set()
        self._job = {name: self._described(name, folders) for name in self._groups}
        if any(group.gpus > 1 for group in self._groups.values()):
            client.register_plugin(OwnGpu())
        for name, group in self._groups.items():
            self._start([self._job[name]] * (group.least // group.per_job))

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the dashboard is, if there is one."""
        if importlib.util.find_spec("bokeh") is None:
            return ()
        port = self._cluster.dashboard_link.rpartition(":")[2].partition("/")[0]
        host = socket.gethostname()
        tunnel = f"ssh -L {port}:127.0.0.1:{port} {host}"
        return (f"dashboard: {tunnel}, then http://127.0.0.1:{port}/status",)

    def resources(self, stage: str) -> dict[str, float] | None:
        """Dask's name for who does a stage is the stage's own."""
        return {stage: 1.0} if len(self._groups) > 1 else None

    def expect(self, stage: str, tasks: int) -> None:
        """See `Workers.expect`."""
        self._tasks = {stage: tasks}

    def _described(self, name: str, folders: Folders) -> dict[str, Any]:
        """A job of a group as a cluster of Dask wants it."""
        usual, checks = self._cluster.new_spec["options"], self.disks.script()
        own = worker_keywords(self._spec, name, folders.scratch, folders.logs, checks)
        per_job = self._groups[name].per_job
        what = name or "worker"
        job_cls = recorded(
            self._cluster.new_spec["cls"],
            self._handed.add,
            lambda number: folders.accepted(number, what),
        )
        job = {"cls": job_cls, "options": {**usual, **own}, "of": name}
        return {**job, "group": [f"-{i}" for i in range(per_job)]} if per_job > 1 else job

    def _replace_lost(self) -> Iterator[str]:
        yield from super()._replace_lost()
        now = time.monotonic()
        if not self._any_came and now - self._began > self._spec.timeout:
            problem = f"no worker came within {self._spec.timeout:.0f} s: {self._why_none()}"
            raise SpecError(self._where, problem, "wait longer for them with 'timeout'")
        longest = max(lifetime_of(group) for group in self._groups.values())
        if self._any_came and now - self._last_progress > _LIFETIMES * longest:
            problem = f"no task got further in {_LIFETIMES} lifetimes of {longest:.0f} s"
            hint = "give the jobs a longer walltime, or make partition.rows smaller"
            raise TransientError(self._where, problem, hint)
        self._fit_to_work()

    def _fit_to_work(self) -> None:
        """As many jobs as there is work for, where a group may have more or fewer."""
        for name, group in self._groups.items():
            if group.least == group.most:
                continue
            tasks = sum(n for stage, n in self._tasks.items() if stage in self._stages[name])
            wanted = min(max(tasks, group.least), group.most)
            jobs = -(-wanted // group.per_job)
            mine = [
                key for key, job in list(self._cluster.worker_spec.items()) if job["of"] == name
            ]
            if len(mine) < jobs and not self._rounds:
                self._start([self._job[name]] * (jobs - len(mine)))
            elif len(mine) > jobs:
                self._stop(self._idle(mine)[: len(mine) - jobs])

    def _idle(self, names: Sequence[Any]) -> list[Any]:
        """Those that do nothing now; first those that have not even come."""
        busy = {address for address, tasks in self.client.processing().items() if tasks}
        workers = self._cluster.scheduler_info["workers"]
        working = {str(workers[address]["name"]) for address in busy if address in workers}
        here = self._registered()
        idle = [
            name
            for name in names
            if not any(
                f"{name}{suffix}" in working
                for suffix in self._cluster.worker_spec[name].get("group", ("",))
            )
        ]
        return sorted(idle, key=lambda name: name in here)

    def _left_in_time(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """Jobs whose workers are gone, and whose lifetime was over."""
        now = time.monotonic()
        left = {}
        for name, job in dict(self._cluster.workers).items():
            spec = self._cluster.worker_spec.get(name)
            came = None if spec is None else self._came(name, spec)
            if name in here or spec is None or came is None:
                continue
            if now - came > _IN_TIME * lifetime_of(self._groups[spec["of"]]):
                left[name] = job.job_id
        if not left:
            return {}
        jobs = jobs_text(in_order([*left.values()]))
        return {f"{jobs} left before the walltime": [*left]}

    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        now = time.monotonic()
        jobs = dict(self._cluster.workers)
        present = {jobs[name].job_id for name in here if name in jobs}
        self._seen |= dict.fromkeys(present, now)
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
                came = self._came(name, self._cluster.worker_spec.get(name, {}))
                ends["lost" if came else "ended before a worker came", state].append(name)
        reasons = {}
        for (what, state), names in ends.items():
            numbers = in_order([jobs[name].job_id for name in names if state])
            end = log_end(self._logs, numbers[0]) if state else ""
            if state and not end and what != "lost":
                end = f", {log_of(self._logs, numbers[0])}"
                end += ": does 'prologue' end it?" if end.endswith("empty") else ""
            if refused := self.disks.refused(end):
                raise refused
            reasons[f"{jobs_text(numbers)} {what} ({state}){end}" if state else what] = names
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

    def _why_none(self) -> str:
        if self._unknown:
            return self._unknown
        numbers: dict[str, list[str]] = defaultdict(list)
        for job in list(self._cluster.workers.values()):
            if job.job_id:
                numbers[self._states.get(job.job_id, "submitted")].append(job.job_id)
        answered = {name for name, job in list(self._cluster.workers.items()) if job.job_id}
        unanswered = len(self._handed & self._cluster.worker_spec.keys() - answered)
        lines = []
        for state, jobs in numbers.items():
            first, *_ = ordered = in_order(jobs)
            lines.append(f"{jobs_text(ordered)} {state}{log_end(self._logs, first)}")
        if unanswered > 0:
            lines.append(f"{counted(unanswered, 'job')} handed to the queue, without an answer yet")
        return "; ".join(lines) or "the queue has been asked for none yet"

    def _ask_queue(self) -> None:
        """Ask the queue for the state of each job, and keep it."""
        try:
            self._states = states(self._system)
        except TransientError as error:
            self._unknown = str(error)
            return
        self._unknown = ""
        self._listed |= self._states.keys()


def _removed_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
