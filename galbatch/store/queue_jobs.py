"""Which jobs of a queue work, or have worked, for a store: a small file for each.

They are beside the jobs' logs, not in the store: they tell where to look, and no result depends on
them. Whoever hands a job to the queue writes its file, and nobody else does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from galbatch.errors import GalbatchError
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout

DRIVER = "driver"


@dataclass(frozen=True)
class QueueJob:
    """A job that a queue accepted.

    Parameters
    ----------
    number : str
        As the queue writes it.
    kind : str
        Of the queue: `slurm`, `pbs`, ...
    what : str
        `driver`, `worker`, or the name of the group of workers.
    submitted : str
        When, in ISO 8601, UTC.
    """

    number: str
    kind: str
    what: str
    submitted: str


@dataclass(frozen=True)
class Drivers:
    """What a driver says to the one that follows it.

    Parameters
    ----------
    barren : int
        Drivers in a row that have finished no unit of work.
    ended : str
        Why no other follows; empty while one does.
    over : bool
        Whether the run has come to its end, well or not.
    """

    barren: int = 0
    ended: str = ""
    over: bool = False


def record_job(layout: Layout, kind: str, number: str, what: str) -> None:
    """Keep that a queue has accepted a job just now.

    A disk that is full does not stop the run for it.
    """
    job = QueueJob(number, kind, what, datetime.now(UTC).isoformat(timespec="milliseconds"))
    with suppress(GalbatchError):
        commit_bytes(layout.queue_job(kind, number), _page(asdict(job)))


def recorded_jobs(layout: Layout) -> list[QueueJob]:
    """The jobs on record, from the first to the last."""
    found = []
    for path in layout.queue_jobs.glob("*.json"):
        with suppress(OSError, ValueError, TypeError):  # being replaced, or not of ours
            found.append(QueueJob(**json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda job: (job.submitted, job.number))


def read_drivers(layout: Layout) -> Drivers:
    """What the last driver has said."""
    with suppress(OSError, ValueError, TypeError):
        return Drivers(**json.loads(layout.drivers.read_text(encoding="utf-8")))
    return Drivers()


def write_drivers(layout: Layout, drivers: Drivers) -> None:
    """Say something to the next driver."""
    commit_bytes(layout.drivers, _page(asdict(drivers)))


def begin_drivers(layout: Layout) -> Callable[[], None]:
    """Forget what earlier drivers have said, and that they were cancelled.

    Returns
    -------
    callable
        Remembers it again.
    """
    forgotten = {}
    for path in (layout.drivers, layout.cancelled):
        with suppress(FileNotFoundError):
            forgotten[path] = path.read_bytes()
            path.unlink()

    def remember() -> None:
        for path, content in forgotten.items():
            commit_bytes(path, content)

    return remember


def cancel_drivers(layout: Layout) -> None:
    """Let no driver go on."""
    commit_bytes(layout.cancelled, b"")


def progress(layout: Layout) -> tuple[int, float]:
    """How many receipts there are, and when the last one, or state of a fit, was written.

    The time is in seconds since 1970.
    """
    times = []
    for path in (*layout.receipts.rglob("*.json"), *layout.staging.rglob("state.npz")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return len(times), max(times, default=0.0)


def _page(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
