"""The plan minus its receipts, carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from galbatch.errors import DataError, GalbatchError, SpecError, TransientError
from galbatch.run.execute import TRIES, serially
from galbatch.run.monitor import Monitor
from galbatch.run.on_dask import TaskWorkers, distributed
from galbatch.run.result import Result
from galbatch.run.status import ask, remaining
from galbatch.stages.base import AnyPending, AnyStage, AnyTask, changed
from galbatch.stages.checks import check_changed_files
from galbatch.stages.report import DrawReport
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store import fence
from galbatch.store.history import StageRecord, write_record
from galbatch.store.quarantine import quarantine, release, release_others
from galbatch.store.units import failed_task, rejected_unit
from galbatch.values import RejectedRow


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    records: tuple[StageRecord, ...]
    quarantined: tuple[RejectedRow, ...] = ()
    """Units (not rows) that failed for good in this run."""
    worked: bool = False
    """Whether there was anything to do, besides a page to draw."""
    left: tuple[str, ...] = ()
    """What is not done when the run ends, and why (`remaining`)."""


Connect = Callable[[], AbstractContextManager[TaskWorkers | None]]
"""Makes the workers, or None for this process."""


def run(plan: Sequence[AnyStage], site: Site, connect: Connect, monitor: Monitor) -> Outcome:
    """Carry out what the receipts do not show as done.

    Parameters
    ----------
    plan : sequence of AnyStage
    site : Site
    connect : callable
        Called when there is something to do. A client that is None runs every task in this
        process, one after the other: the meaning of the program, which Dask must agree with.
    monitor : Monitor

    Returns
    -------
    Outcome

    Raises
    ------
    SpecError
        If the user must change something.
    """
    check_changed_files(site)
    with ExitStack() as stack:
        return _run(plan, site, lambda: stack.enter_context(connect()), monitor)


def _run(
    plan: Sequence[AnyStage], site: Site, connect: Callable[[], Any], monitor: Monitor
) -> Outcome:
    under_way = _UnderWay(site, connect, monitor)
    work = [stage for stage in plan if not isinstance(stage, DrawReport)]
    asked = [(stage, under_way.carry_out(stage)) for stage in work]
    worked = any(record.units or record.failed for record in under_way.records)
    if worked:
        asked = ask(work, Snapshot(site))
    left = remaining(site, asked)
    for stage in plan:
        if isinstance(stage, DrawReport):
            page = replace(stage, left=left)
            pending = under_way.carry_out(page)
            left += remaining(
                site, [(page, page.pending(Snapshot(site)) if pending.tasks else pending)]
            )
    return Outcome(tuple(under_way.records), tuple(under_way.failures), worked, left)


class _UnderWay:
    """A run on its way from stage to stage."""

    def __init__(self, site: Site, connect: Callable[[], Any], monitor: Monitor) -> None:
        self.records: list[StageRecord] = []
        self.failures: list[RejectedRow] = []
        self._site, self._connect, self._monitor = site, connect, monitor
        self._client: Any = None
        self._connected = self._noted = False

    def carry_out(self, planned: AnyStage) -> AnyPending:
        """Do what a stage has left, and return what it was that it had."""
        began = time.perf_counter()
        site, monitor, tally = self._site, self._monitor, _Tally()
        snapshot = Snapshot(site)
        asked = pending = planned.pending(snapshot)
        for turn in range(1, TRIES + 1):
            if pending.tasks and planned.where != "driver" and not self._connected:
                # Before the stage takes down what it will replace: there may be no workers.
                self._client, self._connected = self._connect(), True
            monitor.start(planned, pending)
            self._say_notes()
            fence.check()
            stage = planned.begin(snapshot, pending)
            for result in self._results(stage, pending.tasks):
                self._take(stage, result, tally)
            if not pending.tasks or pending.again is None:
                break
            snapshot = Snapshot(site)
            then = pending.again.pending(snapshot)
            left = tuple(task for task in then.tasks if task.unit not in tally.failed)
            moved = [Result(task, error=changed(task.unit)) for task in left if tally.has(task)]
            for result in moved:
                if turn == TRIES:
                    self._take(stage, result, tally)
                else:
                    monitor.retry(result, turn)
            if not left:
                break
            pending = replace(then, tasks=left)
        if tally.first is not None and not (tally.rows or asked.done or asked.dispensable):
            # Nothing is left to go on with.
            first = tally.first
            raise SpecError(*first.args) if isinstance(first, DataError) else first
        fence.check()
        stage.finish(Snapshot(site) if asked.tasks else snapshot, pending)
        if not asked.waiting:
            # What failed once, and is not to be done any more, is no failure of this store.
            release_others(site.layout, stage.name, tally.failed)
        record = StageRecord(
            stage=stage.name,
            units=len(tally.rows),
            already_done=asked.done,
            failed=len(tally.failed),
            rows=sum(tally.rows.values()),
            seconds=time.perf_counter() - began,
            peak_memory=tally.peak_memory,
            task_seconds=sum(tally.seconds.values()),
        )
        if asked.tasks:
            write_record(site.layout, record)
        self.records.append(record)
        monitor.end(record)
        return asked

    def _say_notes(self) -> None:
        """Say once what a user may want to know of the workers."""
        if self._client is not None and not self._noted:
            self._noted = True
            for note in self._client.notes:
                self._monitor.waiting(note)

    def _results(self, stage: AnyStage, tasks: Sequence[AnyTask]) -> Iterable[Result]:
        site, monitor, client = self._site, self._monitor, self._client
        if stage.where == "driver" or client is None:
            return serially(stage, site, tasks, monitor)
        if stage.where == "one worker":
            return chain.from_iterable(
                distributed(client, stage, site, (task,), monitor) for task in tasks
            )
        return distributed(client, stage, site, tasks, monitor)

    def _take(self, stage: AnyStage, result: Result, tally: _Tally) -> None:
        """Count what came of a task, and set aside what failed."""
        site, name = self._site, rejected_unit(stage.name, result.task.unit)
        result = _in_the_end(result)
        if isinstance(result.error, SpecError):
            raise result.error
        tally.take(result)
        if result.error is None:
            release(site.layout, name)
            return
        raised = result.details or type(result.error).__name__
        unit = RejectedRow(failed_task(stage.name, result.task.unit), 0, str(result.error), raised)
        quarantine(site.layout, name, (unit,))
        self.failures.append(unit)
        self._monitor.failed(result)


class _Tally:
    """What came of the tasks of a stage; of one that was done twice, what came last."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        """Of the units that are done."""
        self.failed: set[str] = set()
        self.first: GalbatchError | None = None
        """The first error."""
        self.peak_memory = 0
        self.seconds: dict[str, float] = {}
        """That each of them took."""

    def has(self, task: AnyTask) -> bool:
        """Whether a task was done."""
        return task.unit in self.rows

    def take(self, result: Result) -> None:
        """One more."""
        unit = result.task.unit
        self.peak_memory = max(self.peak_memory, result.peak_memory)
        if result.error is None:
            self.rows[unit] = sum(receipt.rows for receipt in result.receipts)
            self.seconds[unit] = sum(receipt.seconds for receipt in result.receipts)
            return
        self.rows.pop(unit, None)
        self.failed.add(unit)
        self.first = self.first or result.error


def _in_the_end(result: Result) -> Result:
    """With the number of tries in its error, where there was more than one."""
    error = result.error
    if not isinstance(error, TransientError):
        return result
    tried = TransientError(error.where, f"{error.problem}, {TRIES} times", error.hint)
    return replace(result, error=tried)
