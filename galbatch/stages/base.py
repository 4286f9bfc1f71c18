"""What a stage is: a frozen value that says what is left to do and does one piece of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from galbatch.errors import TransientError
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.values import Receipt

OnProgress = Callable[[int, int | None, str], None]
"""Called with (done so far, total if known, a note)."""


Where = Literal["workers", "one worker", "driver"]

Payload = TypeVar("Payload")
"""What a stage must know to do one task, besides the unit."""
Shared = TypeVar("Shared")
"""What `begin` and `finish` of a stage use, so that it is worked out once."""

UNITS = {
    "scan": "file",
    "ingest": "partition",
    "train": "model",
    "predict": "partition",
    "append": "delivery",
    "report": "page",
}
"""What one task of a stage is about."""


def changed(file: str) -> TransientError:
    """The error for a file that is not what it was when its reading began."""
    return TransientError(file, "changed while it was read", "run again when it is complete")


@dataclass(frozen=True)
class Task(Generic[Payload]):
    """One piece of a stage: the unit of work and retry.

    Parameters
    ----------
    unit : str
        What it is about: a file, a partition, a model.
    size : int or None
        How much it is, in the stage's `progress_unit` (rows, epochs), where known beforehand.
    payload : Payload
        What `Stage.run` needs to know besides.
    why : str
        Why it must be done again; empty for what was never done.
    batch_rows : int or None
        Rows to have in memory at a time, at most; None for the stage's own number. Given when
        memory ran out.
    """

    unit: str
    size: int | None
    payload: Payload
    why: str = ""
    batch_rows: int | None = None


@dataclass(frozen=True)
class Pending(Generic[Payload, Shared]):
    """What a stage has left to do."""

    tasks: tuple[Task[Payload], ...]
    done: int = 0
    """Tasks that have valid receipts already."""
    waiting: str = ""
    """The stage that must be through before this one can say."""
    shared: Shared | None = None
    """What `begin` and `finish` use, so that it is worked out once."""
    dispensable: bool = False
    """Should all tasks fail, there is something from before to go on with."""
    again: Stage[Payload, Shared] | None = None
    """Whom to ask again when the tasks are through: what they read may change meanwhile."""
    notes: tuple[str, ...] = ()
    """What a user may want to know, for `galbatch status`."""


class Stage(Protocol[Payload, Shared]):
    """One step of the plan."""

    @property
    def name(self) -> str:
        """`scan`, `ingest`, `train`, `predict`, `append` or `report`."""
        ...

    @property
    def progress_unit(self) -> str:
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

    def pending(self, snapshot: Snapshot) -> Pending[Payload, Shared]:
        """What is left, given the receipts of this stage and of those before it."""
        ...

    def begin(
        self, snapshot: Snapshot, pending: Pending[Payload, Shared]
    ) -> Stage[Payload, Shared]:
        """See to what must be so before the first task; called also when there is none.

        The snapshot is the one that `pending` went by.

        Returns the stage that is carried to the workers, once, with what all tasks need.
        """
        ...

    def run(self, site: Site, task: Task[Payload], report: OnProgress) -> tuple[Receipt, ...]:
        """Do one task: write, verify, rename, then write and return its receipts."""
        ...

    def finish(self, snapshot: Snapshot, pending: Pending[Payload, Shared]) -> None:
        """What can be done only when all tasks are through; must be idempotent.

        The snapshot is of the store as the tasks left it.
        """
        ...


AnyStage: TypeAlias = Stage[Any, Any]
"""One of the plan: who carries it out does not look into what its tasks are given."""
AnyTask: TypeAlias = Task[Any]
AnyPending: TypeAlias = Pending[Any, Any]
