"""One task, done in this process; and tasks one after the other: the meaning of the program."""

from __future__ import annotations

import ctypes
import resource
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from galbatch.errors import GalbatchError, TransientError
from galbatch.run.monitor import Monitor
from galbatch.run.result import Result
from galbatch.stages.base import AnyStage, AnyTask, OnProgress
from galbatch.stages.site import Site
from galbatch.store import fence

TRIES = 3
SMALLER = (16_384, 4_096)
"""Rows at a time in the second and third try of a task that ran out of memory."""
MORE_MEMORY = "give the workers more memory, or make partition.rows smaller"


def execute(stage: AnyStage, site: Site, task: AnyTask, report: OnProgress) -> Result:
    """Do one task, wherever this process is, and turn whatever goes wrong into a value."""
    _forget_peak_memory()
    try:
        fence.check()
        return Result(task, stage.run(site, task, report), peak_memory=_peak_memory(stage))
    except GalbatchError as problem:
        return Result(task, error=problem, peak_memory=_peak_memory(stage))
    except MemoryError:
        error = TransientError(f"{stage.name} {task.unit}", "ran out of memory", MORE_MEMORY)
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


def serially(
    stage: AnyStage, site: Site, tasks: Sequence[AnyTask], monitor: Monitor
) -> Iterator[Result]:
    """One task after the other in this process."""
    for task in tasks:
        for attempt in range(1, TRIES + 1):
            result = execute(stage, site, task, _watched_by(monitor, task))
            if not isinstance(result.error, TransientError) or attempt == TRIES:
                break
            monitor.retry(result, attempt)
            task = for_next_try(task, result, attempt)
        yield result


def for_next_try(task: AnyTask, result: Result, attempt: int) -> AnyTask:
    """The task for the next try."""
    if not result.short_of_memory:
        return task
    return replace(task, batch_rows=SMALLER[min(attempt, len(SMALLER)) - 1])


def _watched_by(monitor: Monitor, task: AnyTask) -> OnProgress:
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


def _peak_memory(stage: AnyStage) -> int:
    """Largest resident size of this process, bytes; of its children where those do the work."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own = int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if stage.where == "one worker":
        own = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return own * 1024
