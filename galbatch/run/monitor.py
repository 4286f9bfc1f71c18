"""Who watches a run."""

from __future__ import annotations

from typing import Protocol

from galbatch.run.result import Result
from galbatch.stages.base import AnyPending, AnyStage
from galbatch.store.history import StageRecord


class Monitor(Protocol):
    """Who watches a run."""

    def start(self, stage: AnyStage, pending: AnyPending) -> None:
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
