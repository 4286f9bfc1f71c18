"""What a stage is: a frozen value that says what is left to do and does one piece of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from galbatch.columns import arrow_type, bytes_in_row
from galbatch.errors import TransientError
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey
from galbatch.store.layout import Layout
from galbatch.store.places import place
from galbatch.store.receipts import ReceiptBook
from galbatch.values import WORKER_MEMORY, Receipt

Report = Callable[[int, int | None, str], None]
"""Called with (done so far, total if known, a note)."""


Where = Literal["workers", "one worker", "driver"]


PROCESS = WORKER_MEMORY


UNITS = {
    "scan": "file",
    "ingest": "partition",
    "train": "model",
    "predict": "partition",
    "append": "delivery",
    "report": "page",
}
"""What one task of a stage is about."""


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
        return cls(job, survey, Layout(place(job.store), scratch))

    @property
    def book(self) -> ReceiptBook:
        """The receipts of the store."""
        return ReceiptBook(self.layout)


@dataclass(frozen=True)
class Look(Site):
    """The same for as long as nothing in it changes: what was found out is not looked for again.

    Parameters
    ----------
    known : dict
        What was found out.
    """

    known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


def changed(file: str) -> TransientError:
    """The error for a file that is not what it was when its reading began."""
    return TransientError(file, "changed while it was read", "run again when it is complete")


def row_bytes(site: Site) -> int:
    """Bytes of a row of the survey's catalogue in memory."""
    return sum(
        bytes_in_row(arrow_type(column.kind, column.shape)) for column in site.survey.stored_columns
    )


@dataclass(frozen=True)
class Task:
    """One piece of a stage: the unit of work and retry.

    Parameters
    ----------
    unit : str
        What it is about: a file, a partition, a model.
    size : int or None
        How much it is, in the stage's word (rows, epochs), where known beforehand.
    payload : object
        What `Stage.run` needs to know besides.
    why : str
        Why it must be done again; empty for what was never done.
    batch_rows : int or None
        Rows to have in memory at a time, at most; None for the stage's own number. Given when
        memory ran out.
    """

    unit: str
    size: int | None
    payload: Any
    why: str = ""
    batch_rows: int | None = None


@dataclass(frozen=True)
class Pending:
    """What a stage has left to do."""

    tasks: tuple[Task, ...]
    done: int = 0
    """Tasks that have valid receipts already."""
    waiting: str = ""
    """The stage that must be through before this one can say."""
    shared: Any = None
    """What `begin` and `finish` make use of, so that it need not be found out again."""
    dispensable: bool = False
    """Should all tasks fail, there is something from before to go on with."""
    again: Stage | None = None
    """Whom to ask again when the tasks are through: what they read may change meanwhile."""
    notes: tuple[str, ...] = ()
    """What a user may want to know, for `galbatch status`."""


class Stage(Protocol):
    """One step of the plan."""

    @property
    def name(self) -> str:
        """`scan`, `ingest`, `train`, `predict`, `append` or `report`."""
        ...

    @property
    def word(self) -> str:
        """What progress counts: `rows` or `epochs`."""
        ...

    @property
    def where(self) -> Where:
        """Whether tasks run anywhere at once, anywhere one by one, or one by one on the driver."""
        ...

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        ...

    def memory(self, site: Site) -> int:
        """Bytes that a task takes, at most: promised in `galbatch plan`, whatever the rows in all.

        Partitions may hold more than `partition.rows` where the sky is crowded beyond `max_order`.
        """
        ...

    def pending(self, site: Site) -> Pending:
        """What is left, given the receipts of this stage and of those before it."""
        ...

    def begin(self, site: Site, pending: Pending) -> Stage:
        """See to what must be so before the first task; called also when there is none.

        Returns the stage that is carried to the workers, once, with what all tasks need.
        """
        ...

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Do one task: write, verify, rename, then write and return its receipts."""
        ...

    def finish(self, site: Site, pending: Pending) -> None:
        """What can be done only when all tasks are through; must be idempotent."""
        ...
