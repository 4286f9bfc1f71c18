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

from galbatch.errors import DataError, GalbatchError, SpecError, TransientError
from galbatch.stages.base import Pending, Report, Site, Stage, Task
from galbatch.stages.train import held_versions
from galbatch.store.history import StageRecord, latest_records, write_record
from galbatch.store.identity import Identity, hold
from galbatch.store.places import empty, is_remote, remove_tree
from galbatch.store.quarantine import quarantine, rejected_counts, release, release_others
from galbatch.values import Receipt, RejectedRow

TRIES = 3
SMALLER = (16_384, 4_096)
"""Rows at a time in the second and third try of a task that ran out of memory."""
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
    """Whether there was anything to do."""


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

    def heard(self) -> None:
        """There was progress."""
        ...

    def look(self, say: Callable[[str], None]) -> None:
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
    with ExitStack() as stack:
        return _run(plan, site, lambda: stack.enter_context(connect()), monitor)


def _run(
    plan: Sequence[Stage], site: Site, connect: Callable[[], Any], monitor: Monitor
) -> Outcome:
    client, connected = None, False
    records: list[StageRecord] = []
    failures: list[RejectedRow] = []
    worked = False
    for planned in plan:
        began = time.perf_counter()
        pending = planned.pending(site)
        if pending.tasks and planned.where != "driver" and not connected:
            client, connected = connect(), True
        monitor.start(planned, pending)
        stage = planned.begin(site, pending)
        rows = peak = failed = 0
        first: GalbatchError | None = None
        results: Iterable[Result]
        if stage.where == "driver" or client is None:
            results = serially(stage, site, pending.tasks, monitor)
        elif stage.where == "one worker":
            results = chain.from_iterable(
                distributed(client, stage, site, (task,), monitor) for task in pending.tasks
            )
        else:
            results = distributed(client, stage, site, pending.tasks, monitor)
        for result in results:
            peak = max(peak, result.peak_memory)
            if result.error is None:
                rows += sum(receipt.rows for receipt in result.receipts)
                release(site.layout, f"{stage.name}.{result.task.unit}")
                continue
            if isinstance(result.error, SpecError):
                raise result.error
            failed += 1
            first = first or result.error
            raised = result.details or type(result.error).__name__
            unit = RejectedRow(f"{stage.name} {result.task.unit}", 0, str(result.error), raised)
            quarantine(site.layout, f"{stage.name}.{result.task.unit}", (unit,))
            failures.append(unit)
            monitor.failed(result)
        all_failed = failed == len(pending.tasks) and not (pending.done or pending.dispensable)
        if first is not None and all_failed:
            # Nothing is left to go on with.
            raise SpecError(*first.args) if isinstance(first, DataError) else first
        stage.finish(site, pending)
        _settle(stage, site, pending)
        record = StageRecord(
            stage=stage.name,
            units=len(pending.tasks) - failed,
            already_done=pending.done,
            failed=failed,
            rows=rows,
            seconds=time.perf_counter() - began,
            peak_memory=peak,
        )
        if pending.tasks:
            write_record(site.layout, record)
            worked = worked or stage.name != "report"
        records.append(record)
        monitor.end(record)
    return Outcome(tuple(records), tuple(failures), worked)


def _settle(stage: Stage, site: Site, pending: Pending) -> None:
    """What failed once, and is not to be done any more, is no failure of this store."""
    if not pending.waiting:
        release_others(site.layout, stage.name, (task.unit for task in pending.tasks))


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
    # Files may come and change; the catalogue follows.
    source = site.job.source.model_dump(mode="json", exclude={"batch_rows", "bad_rows", "paths"})
    identity = Identity(site.job.name, site.survey.name, source)
    made = (*_missing(layout.work), *_missing(layout.root))
    with hold(layout, identity) as fresh:
        try:
            yield
        except SpecError:
            if fresh and not layout.catalogue.exists():
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
        waiting, notes, rows, seconds, peak_memory), ``quarantine`` (number by reason).
    """
    records = latest_records(site.layout)
    stages = []
    unfinished = ""
    for stage in plan:
        pending = stage.pending(site)
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
        "models": held_versions(site),
        "quarantine": rejected_counts(site.layout),
    }


def execute(stage: Stage, site: Site, task: Task, report: Report) -> Result:
    """Do one task, wherever this process is, and turn whatever goes wrong into a value."""
    _forget_peak_memory()
    try:
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
        workers.heard()
        monitor.progress(words["unit"], words["done"], words["total"], words["note"])

    def look() -> None:
        workers.look(monitor.waiting)

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
        workers.heard()
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
        disks=delayed(workers.disks),
    )
    futures: list[Any] = workers.client.compute(mapped.to_delayed())
    return futures


def _execute_on_worker(
    attempts: Sequence[tuple[int, Task]], stage: Stage, site: Site, disks: Disks
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
