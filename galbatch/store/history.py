"""A log for people of what each run did, stage by stage; resuming does not rely on it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote


@dataclass(frozen=True)
class StageRecord:
    """What one run did in one stage.

    Parameters
    ----------
    stage : str
    units : int
        Tasks done.
    already_done : int
        Tasks that had valid receipts.
    failed : int
        Tasks quarantined.
    rows : int
    seconds : float
        Wall time.
    peak_memory : int
        Largest resident size of a process that worked on it, bytes.
    task_seconds : float
        Of all its tasks together, wherever they were done.
    """

    stage: str
    units: int
    already_done: int
    failed: int
    rows: int
    seconds: float
    peak_memory: int
    task_seconds: float = 0.0


def write_record(layout: Layout, record: StageRecord) -> None:
    """Add a line to the store's history."""
    line = json.dumps(asdict(record)) + "\n"
    if is_remote(layout.history):  # nothing can be appended there
        before = layout.history.read_text(encoding="utf-8") if layout.history.exists() else ""
        layout.history.write_text(before + line, encoding="utf-8")
        return
    with layout.history.open("a", encoding="utf-8") as file:
        file.write(line)


def latest_records(layout: Layout) -> dict[str, StageRecord]:
    """The last record of every stage."""
    return {record.stage: record for record in all_records(layout)}


def all_records(layout: Layout) -> list[StageRecord]:
    """What every run did, from the first to the last."""
    if not layout.history.is_file():
        return []
    lines = layout.history.read_text(encoding="utf-8").splitlines()
    return [StageRecord(**json.loads(line)) for line in lines if line.strip()]
