"""A stage that does next to nothing: for what is about workers, and not about rows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small import job_words

from galbatch.run.result import Result
from galbatch.spec import load_survey
from galbatch.spec.job import Job
from galbatch.stages.base import Task
from galbatch.stages.site import Site
from galbatch.store.layout import Layout


@dataclass(frozen=True)
class Toy:
    """Each task takes a moment, and says in a file that it was done, and by whom."""

    folder: Path
    seconds: float = 0.0
    name = "scan"
    progress_unit = "rows"
    where = "workers"

    def run(self, site: Site, task: Task[None], report: Any) -> tuple[()]:
        time.sleep(self.seconds)
        (self.folder / task.unit).write_text(str(os.getpid()), encoding="ascii")
        report(1, 1, "done")
        return ()

    def done(self) -> list[str]:
        """Units that were done."""
        return sorted(path.name for path in self.folder.iterdir())


class Heard:
    """A monitor that keeps what it is told of the workers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.units: set[str] = set()

    def waiting(self, text: str) -> None:
        self.said.append(text)

    def start(self, stage: Any, pending: Any) -> None: ...
    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        assert (done, total, note) == (1, 1, "done")
        self.units.add(unit)

    def retry(self, result: Result, attempt: int) -> None: ...
    def failed(self, result: Result) -> None: ...
    def end(self, record: Any) -> None: ...


def toy(folder: Path, seconds: float = 0.0) -> Toy:
    """The stage, with a folder of its own."""
    made = folder / "done"
    made.mkdir()
    return Toy(made, seconds)


def tasks(number: int) -> list[Task[None]]:
    return [Task(f"unit-{n:03d}", 1, None) for n in range(number)]


def site(folder: Path) -> Site:
    return Site(Job.model_validate(job_words()), load_survey("alhambra"), Layout(folder / "store"))


def done_by(workers: Any, say: Any = None) -> int:
    """The process that does a task, sooner or later, as the workers are seen to meanwhile."""
    future = workers.client.submit(os.getpid, pure=False)
    while not future.done():
        workers.watch(say or (lambda text: None))
        time.sleep(0.02)
    found: int = future.result()
    return found
