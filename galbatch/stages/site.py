"""A job at its place of work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.store.layout import Layout
from galbatch.store.locations import location
from galbatch.store.receipts import ReceiptBook


@dataclass(frozen=True)
class Site:
    """A job, the survey it is about, and the store it works in."""

    job: Job
    survey: Survey
    layout: Layout

    @classmethod
    def of(cls, job: Job, survey: Survey) -> Site:
        """Where the job says that it works."""
        scratch = Path(job.scratch).expanduser().absolute() if job.scratch else None
        return cls(job, survey, Layout(location(job.store), scratch))

    @property
    def book(self) -> ReceiptBook:
        """The receipts of the store, to be written."""
        return ReceiptBook(self.layout)
