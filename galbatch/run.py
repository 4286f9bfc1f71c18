"""The plan minus its receipts, carried out: serially, or the same thing on Dask."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from galbatch.errors import DataError, GalbatchError, SpecError, TransientError, counted
from galbatch.stages.base import UNITS, Look, Pending, Report, Site, Stage, Task, changed
from galbatch.stages.checks import check_news, identity_of
from galbatch.stages.report import Report as Page
from galbatch.stages.train import held_versions
from galbatch.store import fence
from galbatch.store.history import StageRecord, latest_records, write_record
from galbatch.store.identity import hold
from galbatch.store.places import empty, is_remote, remove_tree
from galbatch.store.quarantine import (
    quarantine,
    rejected_counts,
    rejected_rows,
    release,
    release_others,
)
from galbatch.values import Receipt, RejectedRow

TRIES = 3
SMALLER = (16_384, 4_096)
"""Rows at a time in the second and third try of a task that ran out of memory."""
_TOLD = 3
"""Of the tasks that are left, so many are told by name."""
_AHEAD = 8
_AHEAD_AT_LEAST = 256
"""Tasks that Dask is given at a time: so many for each thread it has, and so many at least."""
_TOPIC = "galbatch-progress"
_LOOKS_EVERY = 0.1
"""Seconds between two looks at the workers while the driver waits for them."""
_MORE_MEMORY = "give the workers more memory, or make partition.rows smaller"


@dataclass(frozen=True)
class Result:
    """What came of a task: receipts, or an error; never an exception."""

    task: Task
    receipts: tuple[Receipt, ...] = ()
    error: GalbatchError | None = None
    details: str = ""
    """The traceback of an unexpected error, for the log."""
    peak_memory: int = 0
    """Largest resident size of the process that ran it, or of its largest child, bytes."""
    short_of_memory: bool = False
    """It may go well with fewer rows at a time."""


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


class Monitor(Protocol):
    """Who watches a run."""

    def start(self, stage: Stage, pending: Pending) -> None:
        """A stage begins."""
        ...

    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        """A task is under way."""
        ...

    def retry(self, result: Result, attempt: int) -> None:
        """A task failed and is tried again."""
        ...

    def failed(self, result: Result) -> None:
        """A task failed for good."""
        ...

    def end(self, record: StageRecord) -> None:
        """A stage is through."""
        ...

    def waiting(self, text: str) -> None:
        """Something is to be said of the workers: none are there, some came, one was replaced."""
        ...


class Disks(Protocol):
    """What the driver left on the disks that its workers must share."""

    def check(self, worker: str) -> None:
        """Read it back; a SpecError where that cannot be done."""
        ...


class Workers(Protocol):
    """Those who do the tasks that are not done in this process."""

    @property
    def client(self) -> Any:
        """A `distributed.Client`."""
        ...

    @property
    def disks(self) -> Disks:
        """What each of them must have read before it does a task."""
        ...

    def threads(self) -> int:
        """How many tasks they do at once."""
        ...

    def note_progress(self) -> None:
        """There was progress."""
        ...

    def watch(self, say: Callable[[str], None]) -> None:
        """See to them while the driver waits; raises where nothing will come of it."""
        ...


Connect = Callable[[], AbstractContextManager[Workers | None]]
"""Makes the workers, or None for this process."""


def run(plan: Sequence[Stage], site: Site, connect: Connect, monitor: Monitor) -> Outcome:
    """Carry out what the receipts do not show as done.

    Parameters
    ----------
    plan : sequence of Stage
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
    check_news(site)
    with ExitStack() as stack:
        return _run(plan, site, lambda: stack.enter_context(connect()), monitor)


def _run(
    plan: Sequence[Stage], site: Site, connect: Callable[[], Any], monitor: Monitor
) -> Outcome:
    under_way = _UnderWay(site, connect, monitor)
    work = [stage for stage in plan if not isinstance(stage, Page)]
    asked = [(stage, under_way.carry_out(stage)) for stage in work]
    worked = any(record.units or record.failed for record in under_way.records)
    if worked:
        asked = _ask(work, site)
    left = remaining(site, asked)
    for stage in plan:
        if isinstance(stage, Page):
            page = replace(stage, left=left)
            pending = under_way.carry_out(page)
            left += remaining(site, [(page, page.pending(site) if pending.tasks else pending)])
    return Outcome(tuple(under_way.records), tuple(under_way.failures), worked, left)


class _UnderWay:
    """A run on its way from stage to stage."""

    def __init__(self, site: Site, connect: Callable[[], Any], monitor: Monitor) -> None:
        self.records: list[StageRecord] = []
        self.failures: list[RejectedRow] = []
        self._site, self._connect, self._monitor = site, connect, monitor
        self._client: Any = None
        self._connected = False

    def carry_out(self, planned: Stage) -> Pending:
        """Do what a stage has left, and return what it was that it had."""
        began = time.perf_counter()
        site, monitor, tally = self._site, self._monitor, _Tally()
        asked = pending = planned.pending(site)
        for turn in range(1, TRIES + 1):
            if pending.tasks and planned.where != "driver" and not self._connected:
                # Before the stage takes down what it will replace: there may be no workers.
                self._client, self._connected = self._connect(), True
            monitor.start(planned, pending)
            fence.check()
            stage = planned.begin(site, pending)
            for result in self._results(stage, pending.tasks):
                self._take(stage, result, tally)
            if not pending.tasks or pending.again is None:
                break
            then = pending.again.pending(site)
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
        stage.finish(site, pending)
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
        )
        if asked.tasks:
            write_record(site.layout, record)
        self.records.append(record)
        monitor.end(record)
        return asked

    def _results(self, stage: Stage, tasks: Sequence[Task]) -> Iterable[Result]:
        site, monitor, client = self._site, self._monitor, self._client
        if stage.where == "driver" or client is None:
            return serially(stage, site, tasks, monitor)
        if stage.where == "one worker":
            return chain.from_iterable(
                distributed(client, stage, site, (task,), monitor) for task in tasks
            )
        return distributed(client, stage, site, tasks, monitor)

    def _take(self, stage: Stage, result: Result, tally: _Tally) -> None:
        """Count what came of a task, and set aside what failed."""
        site, name = self._site, f"{stage.name}.{result.task.unit}"
        result = _in_the_end(result)
        if isinstance(result.error, SpecError):
            raise result.error
        tally.take(result)
        if result.error is None:
            release(site.layout, name)
            return
        raised = result.details or type(result.error).__name__
        unit = RejectedRow(f"{stage.name} {result.task.unit}", 0, str(result.error), raised)
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

    def has(self, task: Task) -> bool:
        """Whether a task was done."""
        return task.unit in self.rows

    def take(self, result: Result) -> None:
        """One more."""
        unit = result.task.unit
        self.peak_memory = max(self.peak_memory, result.peak_memory)
        if result.error is None:
            self.rows[unit] = sum(receipt.rows for receipt in result.receipts)
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


@contextmanager
def opened(site: Site) -> Iterator[None]:
    """Hold the store: alone, and only if it is this job's.

    What this run made, and nothing else, is taken away again when it makes a new store and ends
    before a catalogue exists: a mistake of the user's leaves nothing behind.

    Raises
    ------
    SpecError
        If the folder is no store, another job's, or another run works on it.
    """
    layout = site.layout
    made = (*_missing(layout.work), *_missing(layout.root))
    with hold(layout, identity_of(site)) as fresh:
        try:
            yield
        except SpecError:
            if fresh and not layout.catalogue.exists() and fence.holds():
                remove_tree(layout.work)
                empty(layout.root)
                for folder in made:
                    with suppress(OSError):  # others may have put something there
                        folder.rmdir()
            raise


def _missing(path: Path) -> list[Path]:
    """The folders that must be made for a path to be there, the innermost first."""
    if is_remote(path):
        return []
    return list(takewhile(lambda folder: not folder.exists(), (path, *path.parents)))


def status(plan: Sequence[Stage], site: Site) -> dict[str, Any]:
    """What is done and what is left, as JSON values.

    Parameters
    ----------
    plan : sequence of Stage
    site : Site

    Returns
    -------
    dict
        ``job``, ``survey``, ``store``, ``models`` (the versions in the store), ``stages`` (stage,
        done, left, stale: those of `left` that were done once, reasons: number of tasks by why,
        waiting, notes, rows, seconds, peak_memory), ``left`` (see `remaining`), ``quarantine``
        (number by reason).
    """
    records = latest_records(site.layout)
    stages = []
    asked = _ask(plan, site)
    unfinished = ""
    for stage, pending in asked:
        reasons = Counter(task.why for task in pending.tasks if task.why)
        record = records.get(stage.name)
        stages.append(
            {
                "stage": stage.name,
                "done": pending.done,
                "left": len(pending.tasks),
                "stale": sum(reasons.values()),
                "reasons": dict(reasons.most_common()),
                "waiting": pending.waiting or unfinished,
                "notes": list(pending.notes),
                "rows": record.rows if record else 0,
                "seconds": round(record.seconds, 3) if record else 0.0,
                "peak_memory": record.peak_memory if record else 0,
            }
        )
        if pending.tasks and not unfinished:
            unfinished = stage.name
    return {
        "job": site.job.name,
        "survey": site.survey.name,
        "store": str(site.layout.root),
        "stages": stages,
        "left": list(remaining(site, asked)),
        "models": held_versions(site),
        "quarantine": rejected_counts(site.layout),
    }


def draw(plan: Sequence[Stage], site: Site) -> Path:
    """Draw the page of a store again.

    Parameters
    ----------
    plan : sequence of Stage
    site : Site

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    SpecError
        If there is nothing to report yet.
    """
    (path,) = (stage.draw(site) for stage, _ in _ask(plan, site) if isinstance(stage, Page))
    return path


def _ask(plan: Sequence[Stage], site: Site) -> list[tuple[Stage, Pending]]:
    """Every stage with what it has left; the page knows what those before it have."""
    # Nobody works meanwhile: one look at the receipts is enough for all.
    look = Look(site.job, site.survey, site.layout)
    asked: list[tuple[Stage, Pending]] = []
    for stage in plan:
        if isinstance(stage, Page):
            stage = replace(stage, left=remaining(site, asked))
        asked.append((stage, stage.pending(look)))
    return asked


def remaining(site: Site, asked: Iterable[tuple[Stage, Pending]]) -> tuple[str, ...]:
    """What is left to do, and why: a line for each stage that is not through.

    Parameters
    ----------
    site : Site
    asked : iterable of (Stage, Pending)
        Stages, each with what it has left.

    Returns
    -------
    tuple of str
        ``scan: 1 file left: a.csv: the file changed``; none where nothing is left.
    """
    lines = []
    for stage, pending in asked:
        tasks = pending.tasks
        if tasks:
            said = [_told(site, stage, task) for task in tasks[:_TOLD]]
            if len(tasks) > _TOLD:
                said.append(f"and {len(tasks) - _TOLD:,} more")
            count = counted(len(tasks), UNITS.get(stage.name, "task"))
            lines.append(f"{stage.name}: {count} left: {'; '.join(said)}")
        elif pending.waiting:
            lines.append(f"{stage.name}: waits for {pending.waiting}")
    return tuple(lines)


def _told(site: Site, stage: Stage, task: Task) -> str:
    """A task that is left, and why: what it failed of, or why it must be done again."""
    failed = rejected_rows(site.layout, f"{stage.name}.{task.unit}", at_most=1)
    why = " ".join(failed[0].reason.split()) if failed else task.why
    if not why or why.startswith(task.unit):
        return why or task.unit
    return f"{task.unit}: {why}"


def execute(stage: Stage, site: Site, task: Task, report: Report) -> Result:
    """Do one task, wherever this process is, and turn whatever goes wrong into a value."""
    _forget_peak_memory()
    try:
        fence.check()
        return Result(task, stage.run(site, task, report), peak_memory=_peak_memory(stage))
    except GalbatchError as problem:
        return Result(task, error=problem, peak_memory=_peak_memory(stage))
    except MemoryError:
        error = TransientError(f"{stage.name} {task.unit}", "ran out of memory", _MORE_MEMORY)
        return Result(task, error=error, peak_memory=_peak_memory(stage), short_of_memory=True)
    except Exception as defect:  # or damage that no reader foresaw: try again, then report
        error = TransientError(f"{stage.name} {task.unit}", f"{type(defect).__name__}: {defect}")
        return Result(
            task,
            error=error,
            details=traceback.format_exc(),
            peak_memory=_peak_memory(stage),
        )
    finally:
        _release_memory()


def serially(stage: Stage, site: Site, tasks: Sequence[Task], monitor: Monitor) -> Iterator[Result]:
    """One task after the other in this process."""
    for task in tasks:
        for attempt in range(1, TRIES + 1):
            result = execute(stage, site, task, _watched_by(monitor, task))
            if not isinstance(result.error, TransientError) or attempt == TRIES:
                break
            monitor.retry(result, attempt)
            task = _again(task, result, attempt)
        yield result


def distributed(
    workers: Workers, stage: Stage, site: Site, tasks: Sequence[Task], monitor: Monitor
) -> Iterator[Result]:
    """The same on the workers: a `map_partitions` over the tasks, one fused task each.

    The scheduler is given a few tasks for each thread at a time: the first one starts at once, and
    neither it nor the driver holds more when there are more partitions.

    Raises
    ------
    SpecError, TransientError
        If no worker will come any more, or the scheduler is gone.
    """
    if not tasks:
        return
    from distributed import as_completed

    client = workers.client

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        words = event[1]
        workers.note_progress()
        monitor.progress(words["unit"], words["done"], words["total"], words["note"])

    def look() -> None:
        workers.watch(monitor.waiting)

    client.subscribe_topic(_TOPIC, hear)
    under_way: dict[Any, tuple[int, Task]] = {}
    waiting = as_completed(loop=client.loop)
    given = ahead = 0

    def give(lot: Sequence[Task], attempt: int) -> None:
        futures = _submit(workers, stage, site, lot, attempt)
        under_way.update(zip(futures, ((attempt, task) for task in lot), strict=True))
        waiting.update(futures)

    while given < len(tasks) or under_way:
        if given < len(tasks) and len(under_way) <= ahead // 2:
            ahead = max(_AHEAD_AT_LEAST, _AHEAD * workers.threads())
            # Threads may have gone since: then there is room for none.
            lot = tasks[given : given + max(ahead - len(under_way), 0)]
            given += len(lot)
            if lot:
                give(lot, 1)
        batch = _next_batch(waiting, look)
        answers = _answers(client, batch, look)
        workers.note_progress()
        for future, answer in zip(batch, answers, strict=True):
            attempt, task = under_way.pop(future)
            if isinstance(answer, Result):
                result = answer
            else:  # the worker died, or the task could not be carried to it
                problem = f"{type(answer).__name__}: {answer}"
                lost = TransientError(f"{stage.name} {task.unit}", problem, _MORE_MEMORY)
                # The nanny ends a worker that takes too much.
                result = Result(task, error=lost, short_of_memory=True)
            if isinstance(result.error, TransientError) and attempt < TRIES:
                monitor.retry(result, attempt)
                give((_again(task, result, attempt),), attempt + 1)
                continue
            yield result
    client.unsubscribe_topic(_TOPIC)


def _next_batch(waiting: Any, look: Callable[[], None]) -> list[Any]:
    """Those of `as_completed` that are done, when there are any."""
    look()
    while not waiting.has_ready():
        with waiting.thread_condition:
            waiting.thread_condition.wait(timeout=_LOOKS_EVERY)
        look()
    batch: list[Any] = waiting.next_batch(block=False)
    return batch


def _answers(
    client: Any, futures: Sequence[Any], look: Callable[[], None]
) -> list[Result | Exception]:
    """What came of each: fetched together, as each by itself would cost the driver a round trip.

    Raises
    ------
    TransientError
        If the scheduler forgot them.
    """
    try:
        together = client.gather(futures, asynchronous=True)
        return [answer for (answer,) in _awaited(client, together, look)]
    except GalbatchError:
        raise
    except Exception:  # of one of them
        return [_answer(client, future, look) for future in futures]


def _answer(client: Any, future: Any, look: Callable[[], None]) -> Result | Exception:
    from distributed import CancelledError

    try:
        result: Result
        (result,) = _awaited(client, client.gather([future], asynchronous=True), look)[0]
    except GalbatchError:
        raise
    except CancelledError as error:
        # Nobody here cancels anything: that is what becomes of all when the scheduler goes away.
        problem = f"the scheduler went away ({getattr(error, 'reason', error)})"
        raise TransientError("cluster", problem, "finished work is kept: run again") from error
    except Exception as error:
        return error
    return result


def _awaited(client: Any, what: Awaitable[Any], look: Callable[[], None]) -> Any:
    """Wait for a coroutine of Dask's; who holds its answer may be lost meanwhile."""

    async def wait() -> Any:
        return await what

    future = asyncio.run_coroutine_threadsafe(wait(), client.loop.asyncio_loop)
    while True:
        try:
            return future.result(timeout=_LOOKS_EVERY)
        except TimeoutError:
            if future.done():
                raise
        look()


def _again(task: Task, result: Result, attempt: int) -> Task:
    """The task for the next try."""
    if not result.short_of_memory:
        return task
    return replace(task, batch_rows=SMALLER[min(attempt, len(SMALLER)) - 1])


def _submit(
    workers: Workers, stage: Stage, site: Site, tasks: Sequence[Task], attempt: int
) -> list[Any]:
    import dask.bag
    from dask.delayed import delayed

    # The attempt makes another key of it: a retried task is not answered from the failed one.
    bag = dask.bag.from_sequence([(attempt, task) for task in tasks], partition_size=1)
    mapped = bag.map_partitions(
        _execute_on_worker,
        stage=delayed(stage),
        site=delayed(site),
        run=delayed(fence.attempt()),
        disks=delayed(workers.disks),
    )
    futures: list[Any] = workers.client.compute(mapped.to_delayed())
    return futures


def _execute_on_worker(
    attempts: Sequence[tuple[int, Task]],
    stage: Stage,
    site: Site,
    run: fence.Attempt | None,
    disks: Disks,
) -> list[Result]:
    from distributed import get_worker

    worker = get_worker()
    try:
        disks.check(worker.address)
    except SpecError as error:
        return [Result(task, error=error) for _, task in attempts]

    def report_for(unit: str) -> Report:
        def report(done: int, total: int | None, note: str) -> None:
            worker.log_event(_TOPIC, {"unit": unit, "done": done, "total": total, "note": note})

        return report

    with fence.working_for(run):
        return [execute(stage, site, task, report_for(task.unit)) for _, task in attempts]


def _watched_by(monitor: Monitor, task: Task) -> Report:
    def report(done: int, total: int | None, note: str) -> None:
        monitor.progress(task.unit, done, total, note)

    return report


def _release_memory() -> None:
    """Give back what a task took: the allocator would keep it, and the next stage's come on top."""
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # a C library of its own kind
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak_memory() -> None:
    """So that the peak is that of one task (on Linux; elsewhere that of the process so far)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory(stage: Stage) -> int:
    """Largest resident size of this process, bytes; of its children where those do the work."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own = int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if stage.where == "one worker":
        own = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return own * 1024
