"""Tasks on the workers of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from galbatch.errors import GalbatchError, SpecError, TransientError
from galbatch.run.execute import MORE_MEMORY, TRIES, execute, for_next_try
from galbatch.run.monitor import Monitor
from galbatch.run.result import Result
from galbatch.stages.base import AnyStage, AnyTask
from galbatch.stages.site import Site
from galbatch.store import fence

_AHEAD = 8
_AHEAD_AT_LEAST = 256
"""Tasks that Dask is given at a time: so many for each thread it has, and so many at least."""
_TOPIC = "galbatch-progress"
_SECONDS_BETWEEN_LOOKS = 0.1
"""Between two looks at the workers while the driver waits for them."""


class SharedDisks(Protocol):
    """What the driver left on the disks that its workers must share."""

    def check(self, worker: str) -> None:
        """Read it back; a SpecError where that cannot be done."""
        ...


class TaskWorkers(Protocol):
    """Those who do the tasks that are not done in this process."""

    @property
    def client(self) -> Any:
        """A `distributed.Client`."""
        ...

    @property
    def disks(self) -> SharedDisks:
        """What each of them must have read before it does a task."""
        ...

    def threads(self) -> int:
        """How many tasks they do at once."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user may want to know of them."""
        ...

    def resources(self, stage: str) -> dict[str, float] | None:
        """What one must have to do a task of a stage; None where all do everything."""
        ...

    def expect(self, stage: str, tasks: int) -> None:
        """So many tasks of a stage are left."""
        ...

    def note_progress(self) -> None:
        """There was progress."""
        ...

    def watch(self, say: Callable[[str], None]) -> None:
        """See to them while the driver waits; raises where nothing will come of it."""
        ...


def distributed(
    workers: TaskWorkers, stage: AnyStage, site: Site, tasks: Sequence[AnyTask], monitor: Monitor
) -> Iterator[Result]:
    """The same on the workers: what `map_partitions` does to a collection, with a task for each.

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

    furthest: dict[str, int] = {}

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]  # to which Dask adds who said it
        unit, done = said["unit"], said["done"]
        if done > furthest.get(unit, 0):  # what is done once more is no progress
            furthest[unit] = done
            workers.note_progress()
        monitor.progress(unit, done, said["total"], said["note"])

    def look() -> None:
        workers.watch(monitor.waiting)

    client.subscribe_topic(_TOPIC, hear)
    under_way: dict[Any, tuple[int, AnyTask]] = {}
    waiting = as_completed(loop=client.loop)
    given = ahead = 0

    def give(lot: Sequence[AnyTask], attempt: int) -> None:
        futures = _submit(workers, stage, site, lot)
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
        workers.expect(stage.name, len(tasks) - given + len(under_way))
        batch = _next_batch(waiting, look)
        answers = _answers(client, batch, look)
        workers.note_progress()
        for future, answer in zip(batch, answers, strict=True):
            attempt, task = under_way.pop(future)
            if isinstance(answer, Result):
                result = answer
            else:  # the worker died, or the task could not be carried to it
                problem = f"no worker lived to end it: {type(answer).__name__}: {answer}"
                lost = TransientError(f"{stage.name} {task.unit}", problem, MORE_MEMORY)
                # The nanny ends a worker that takes too much.
                result = Result(task, error=lost, short_of_memory=True)
            if isinstance(result.error, TransientError) and attempt < TRIES:
                monitor.retry(result, attempt)
                give((for_next_try(task, result, attempt),), attempt + 1)
                continue
            yield result
    client.unsubscribe_topic(_TOPIC)


def _next_batch(waiting: Any, look: Callable[[], None]) -> list[Any]:
    """Those of `as_completed` that are done, when there are any."""
    look()
    while not waiting.has_ready():
        with waiting.thread_condition:
            waiting.thread_condition.wait(timeout=_SECONDS_BETWEEN_LOOKS)
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
        answers: list[Result | Exception] = _awaited(client, together, look)
        return answers
    except GalbatchError:
        raise
    except Exception:  # of one of them
        return [_answer(client, future, look) for future in futures]


def _answer(client: Any, future: Any, look: Callable[[], None]) -> Result | Exception:
    from distributed import CancelledError

    try:
        result: Result
        (result,) = _awaited(client, client.gather([future], asynchronous=True), look)
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
            return future.result(timeout=_SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            if future.done():
                raise
        look()


@dataclass(frozen=True)
class _Shared:
    """What the tasks of a lot have in common: a worker is sent it once."""

    stage: AnyStage
    site: Site
    run: fence.Attempt | None
    disks: SharedDisks


def _submit(
    workers: TaskWorkers, stage: AnyStage, site: Site, tasks: Sequence[AnyTask]
) -> list[Any]:
    """One task of Dask's for each.

    It is handed over as a graph: of a collection Dask makes two for each, and the worker that does
    one of them waits for what another worker holds of the other.
    """
    # Names of their own: a retried task is not answered from the one that failed.
    lot = uuid4().hex
    shared = f"shared-{lot}"
    graph: dict[Any, Any] = {shared: _Shared(stage, site, fence.attempt(), workers.disks)}
    names = [f"{stage.name}-{lot}-{number}" for number in range(len(tasks))]
    graph |= {
        name: (partial(_execute_on_worker, task), shared)
        for name, task in zip(names, tasks, strict=True)
    }
    resources = workers.resources(stage.name)
    futures: list[Any] = workers.client.get(graph, names, sync=False, resources=resources)
    return futures


def _execute_on_worker(task: AnyTask, shared: _Shared) -> Result:
    from distributed import get_worker

    worker = get_worker()
    try:
        shared.disks.check(worker.address)
    except SpecError as error:
        return Result(task, error=error)

    def report(done: int, total: int | None, note: str) -> None:
        worker.log_event(_TOPIC, {"unit": task.unit, "done": done, "total": total, "note": note})

    with fence.working_for(shared.run):
        return execute(shared.stage, shared.site, task, report)
