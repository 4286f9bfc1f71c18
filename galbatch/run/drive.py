"""A run as a job of a queue, which another such job goes on with when its time is up.

The run is a process of its own, and this one watches the time and hears the queue's signals: it can
hand the next job to the queue while the run is still putting its things away.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from galbatch.errors import GalbatchError
from galbatch.store.layout import Layout
from galbatch.store.queue_jobs import (
    DRIVER,
    Drivers,
    progress,
    read_drivers,
    record_job,
    recorded_jobs,
    write_drivers,
)

BARREN = 3
"""Drivers in a row that may finish nothing before one is not followed by another."""
EVERY = 0.2
"""Seconds between two looks at the run, the clock and the signals."""
ENDED, FAILURES, FAILED = (0, 1, 2, 3), (2, 3), 3
"""Exit codes of a run that has come to an end by itself, those of them that tell of a failure, and
that of a driver that cannot go on."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""By which queues say that a job has to give way, or that its time is up."""


class Queue(Protocol):
    """What a driver needs of its queue."""

    @property
    def lifetime(self) -> float | None:
        """Seconds after which the next driver takes over."""

    @property
    def begins_again(self) -> bool:
        """Whether the queue itself starts a job once more that had to give way."""

    @property
    def own_number(self) -> str:
        """The number of this job."""

    def is_over(self, number: str) -> bool:
        """Whether a job will not run any more."""

    def is_cancelled(self, number: str) -> bool:
        """Whether somebody has cancelled a job in the queue."""

    def submit(self, script: Path) -> str:
        """Hand over a job; its number."""

    def cancel(self, number: str) -> None:
        """Take a job back."""


@dataclass(frozen=True)
class Driver:
    """One of the jobs that drive a run, one after the other.

    Parameters
    ----------
    layout : Layout
    kind : str
        Of the queue.
    queue : Queue
    command : sequence of str
        Starts the run.
    say : callable
        Called with lines for the job's log.
    """

    layout: Layout
    kind: str
    queue: Queue
    command: Sequence[str]
    say: Callable[[str], None]

    def drive(self) -> int:
        """Run until the run ends or the time is up; the exit code of this job."""
        if self.layout.cancelled.exists():
            self.say("cancelled: nothing is done")
            return 0
        newer = self._taken_over_by()
        if newer:
            self.say(f"job {newer} drives this run")
            return 0
        before = progress(self.layout)
        until = time.monotonic() + (self.queue.lifetime or float("inf"))
        with _heard() as signals:
            process = subprocess.Popen(self.command, preexec_fn=_leave_signals_to_the_driver)
            try:
                while process.poll() is None and not signals and time.monotonic() < until:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(EVERY)
                return self._ended(process, signals, before)
            finally:
                if process.poll() is None:
                    process.kill()

    def _ended(
        self, process: subprocess.Popen[bytes], signals: list[int], before: tuple[int, float]
    ) -> int:
        """What becomes of the run; the exit code of this job."""
        if process.poll() in ENDED:
            return self._over(process.returncode)
        if process.poll() is not None and not signals:
            self.say(f"the run was ended (exit code {process.returncode})")
            return self._follow(before)[0]
        if not signals:
            self.say("the time of this job is nearly up")
            process.terminate()
            code = process.wait()
            return self._over(code) if code in ENDED else self._follow(before)[0]
        self.say(f"this job has to end ({signal.Signals(signals[0]).name})")
        code, number = self._after_signal(before)  # there may be little time: the next job first
        process.terminate()
        if process.wait() not in ENDED:
            return code
        if number:
            with suppress(GalbatchError):
                self.queue.cancel(number)
        return self._over(process.returncode)

    def _over(self, code: int) -> int:
        """The run has come to its end: what the next look at its state is told."""
        failed = f"the run has ended with exit code {code}: 'galbatch logs' shows why"
        ended = failed if code in FAILURES else ""
        write_drivers(self.layout, Drivers(ended=ended, over=True))
        return code

    def _after_signal(self, before: tuple[int, float]) -> tuple[int, str]:
        if self.queue.begins_again:
            self.say("the queue starts it again")
            return FAILED, ""
        return self._follow(before)

    def _follow(self, before: tuple[int, float]) -> tuple[int, str]:
        """Hand the next driver to the queue: the exit code of this one, and the other's number."""
        layout = self.layout
        if layout.cancelled.exists():
            self.say("cancelled: no other follows")
            return 0, ""
        if self.queue.is_cancelled(self.queue.own_number):
            self.say("it was cancelled in the queue: no other follows")
            return FAILED, ""
        barren = read_drivers(layout).barren + 1 if progress(layout) == before else 0
        if barren >= BARREN:
            return self._give_up(barren, f"{barren} drivers in a row have finished nothing"), ""
        try:
            number = self.queue.submit(layout.driver_script)
        except GalbatchError as error:
            return self._give_up(barren, f"no driver can follow: {error}"), ""
        record_job(layout, self.kind, number, DRIVER)
        write_drivers(layout, Drivers(barren))
        if layout.cancelled.exists():
            with suppress(GalbatchError):  # else it ends by itself as it begins
                self.queue.cancel(number)
            return 0, ""
        self.say(f"job {number} goes on")
        return 0, number

    def _give_up(self, barren: int, reason: str) -> int:
        self.say(f"{reason}; 'galbatch submit' goes on where it was")
        write_drivers(self.layout, Drivers(barren, reason))
        return FAILED

    def _taken_over_by(self) -> str:
        """The number of a later driver that is in the queue: this one was started again by it."""
        own = self.queue.own_number
        drivers = [job.number for job in recorded_jobs(self.layout) if job.what == DRIVER]
        if own not in drivers:
            return ""
        later = drivers[drivers.index(own) + 1 :]
        return next((number for number in later if not self.queue.is_over(number)), "")


def _leave_signals_to_the_driver() -> None:
    """A queue may send them to all processes of a job: the run ends when its driver says so."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _heard() -> Iterator[list[int]]:
    """The signals that have come."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS
    }
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
