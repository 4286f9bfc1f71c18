"""What comes of a task."""

from __future__ import annotations

from dataclasses import dataclass

from galbatch.errors import GalbatchError
from galbatch.stages.base import AnyTask
from galbatch.values import Receipt


@dataclass(frozen=True)
class Result:
    """What came of a task: receipts, or an error; never an exception."""

    task: AnyTask
    receipts: tuple[Receipt, ...] = ()
    error: GalbatchError | None = None
    details: str = ""
    """The traceback of an unexpected error, for the log."""
    peak_memory: int = 0
    """Largest resident size of the process that ran it, or of its largest child, bytes."""
    short_of_memory: bool = False
    """It may go well with fewer rows at a time."""
