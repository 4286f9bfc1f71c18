"""The progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

from galbatch.errors import counted
from galbatch.run.result import Result
from galbatch.stages.base import AnyPending, AnyStage
from galbatch.store.history import StageRecord

_SECONDS_BETWEEN_LINES = 10.0


class _Speed(ProgressColumn):
    """Rows (or epochs) per second."""

    def render(self, task: Bar) -> Text:
        """Text of the column."""
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "rows")
        return Text(f"{speed:,.0f} {unit}/s" if speed and unit == "rows" else "", style="cyan")


class BarMonitor:
    """A progress bar for each stage, with rows/s and the time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Speed(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._counts = _Counts()
        self._waiting = ""
        self._bar = self._progress.add_task("", visible=False, note="")

    def __enter__(self) -> BarMonitor:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, stage: AnyStage, pending: AnyPending) -> None:
        """A stage begins: a new bar."""
        self._counts, self._waiting = _Counts(pending), pending.waiting
        self._bar = self._progress.add_task(
            stage.name, total=self._counts.total, unit=stage.progress_unit, note=""
        )

    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        """Move the bar."""
        self._counts.update(unit, done, total)
        self._progress.update(
            self._bar, completed=self._counts.done, total=self._counts.total, note=note
        )

    def retry(self, result: Result, attempt: int) -> None:
        """Print, above the bars, which task is tried again."""
        self._progress.console.print(f"[yellow]again ({attempt + 1})[/] {_one_line(result)}")

    def failed(self, result: Result) -> None:
        """Print, above the bars, which task is quarantined."""
        self._progress.console.print(f"[red]quarantined[/] {_one_line(result)}")
        if result.details:
            self._progress.console.print(result.details, style="dim", markup=False)

    def waiting(self, text: str) -> None:
        """Print, above the bars, that the run waits for workers."""
        self._progress.console.print("[yellow]workers[/]", end=" ")
        self._progress.console.print(text, markup=False)

    def end(self, record: StageRecord) -> None:
        """Fill the bar."""
        done = max(self._counts.done, 1)
        note = "" if record.units or record.failed else _idle(self._waiting)
        self._progress.update(self._bar, completed=done, total=done, note=note)


class LineMonitor:
    """Plain lines, for logs: at the start and the end of a stage, and every ten seconds between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._counts = _Counts()
        self._waiting = ""
        self._stage = ""
        self._unit = "rows"
        self._began = self._said = time.monotonic()

    def __enter__(self) -> LineMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, stage: AnyStage, pending: AnyPending) -> None:
        """Print how much there is to do."""
        self._counts, self._waiting = _Counts(pending), pending.waiting
        self._stage, self._unit = stage.name, stage.progress_unit
        self._began = self._said = time.monotonic()
        if pending.tasks:
            already = f", {pending.done:,} done already" if pending.done else ""
            self._say(f"{len(pending.tasks):,} to do{already}")

    def progress(self, unit: str, done: int, total: int | None, note: str) -> None:
        """Print the progress, every ten seconds at most."""
        self._counts.update(unit, done, total)
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        elapsed = now - self._began
        one, total = self._unit.removesuffix("s"), self._counts.total
        text = counted(self._counts.done, one)
        if total:
            left = elapsed * (total / max(self._counts.done, 1) - 1)
            text = f"{self._counts.done:,} of {counted(total, one)}, {max(left, 0):.0f} s left"
        if self._unit == "rows":
            text += f", {self._counts.done / elapsed:,.0f} rows/s"
        self._say(f"{text} {note}".rstrip())

    def retry(self, result: Result, attempt: int) -> None:
        """Print which task is tried again."""
        self._say(f"again ({attempt + 1}): {_one_line(result)}")

    def failed(self, result: Result) -> None:
        """Print which task is quarantined."""
        self._say(f"quarantined: {_one_line(result)}")
        if result.details:
            self._say(result.details)

    def waiting(self, text: str) -> None:
        """Print what the run waits for."""
        self._say(text)

    def end(self, record: StageRecord) -> None:
        """Print what the stage did."""
        if not record.units and not record.failed:
            self._say(_idle(self._waiting))
            return
        speed = f", {record.rows / record.seconds:,.0f} rows/s" if record.rows else ""
        self._say(f"done: {counted(record.rows, 'row')} in {record.seconds:.1f} s{speed}")

    def _say(self, text: str) -> None:
        print(f"galbatch {self._stage}: {text}", file=self._stream, flush=True)


class _Counts:
    """Progress of a stage from that of its tasks."""

    def __init__(self, pending: AnyPending | None = None) -> None:
        tasks = pending.tasks if pending else ()
        self._sizes: dict[str, int | None] = {task.unit: task.size for task in tasks}
        self._done: dict[str, int] = {}

    def update(self, unit: str, done: int, total: int | None) -> None:
        self._done[unit] = done
        if total is not None:
            self._sizes[unit] = total

    @property
    def done(self) -> int:
        return sum(self._done.values())

    @property
    def total(self) -> int | None:
        sizes = [size for size in self._sizes.values() if size is not None]
        return sum(sizes) if sizes and len(sizes) == len(self._sizes) else None


def _idle(waiting: str) -> str:
    """What to print for a stage without tasks."""
    return f"waits for {waiting}" if waiting else "nothing to do"


def _one_line(result: Result) -> str:
    return " ".join(str(result.error).split())
