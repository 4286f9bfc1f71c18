"""The fence: only the run whose name is in the lock of a store may write there.

A run that was killed may leave workers and a fit running, and a run that was suspended goes on when
it wakes up, perhaps after another has begun. They carry the name of their run, and before they
replace a file they read the lock: when it names another run, they are fenced, and write nothing.

A rename that was on its way while the lock changed hands still lands. That is microseconds, in
which the next run has not yet read anything.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path

from galbatch.errors import SpecError, TransientError
from galbatch.store.locations import file_system, is_remote


class Fenced(SpecError):
    """Another run has taken over the store: this one must not write any more."""


class Occupied(SpecError):
    """Another run works on the store: whoever waits may have it."""


@dataclass(frozen=True)
class Holder:
    """The run that holds a lock; without arguments, this process.

    Parameters
    ----------
    run : str
        Another one for each run; empty when it is over, but may have left something unfinished.
    process : int
    host : str
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)

    def __str__(self) -> str:
        """For a message."""
        return f"process {self.process} on {self.host}" if self.host else "process unknown"

    def to_bytes(self) -> bytes:
        """Content of the lock."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Attempt:
    """A run as all that work for it know it, on whatever machine.

    Parameters
    ----------
    lock : Path
        Of the store.
    run : str
        Its name, as the lock has it.
    """

    lock: Path
    run: str

    def check(self) -> None:
        """See that the store is still this run's: one small file is read.

        Raises
        ------
        Fenced
            If another run has taken it over, or this one has given it up.
        TransientError
            If the lock cannot be read.
        """
        try:
            holder = read_holder(self.lock)
        except OSError as error:
            raise TransientError(str(self.lock), f"cannot be read: {error}") from error
        if holder is None or not holder.run:
            raise Fenced(str(self.lock.parent), "fenced: this run holds the store no longer")
        if holder.run != self.run:
            raise Fenced(
                str(self.lock.parent),
                f"fenced: another run has taken over this store ({holder})",
                "this one writes nothing more; wait for the other, or stop it and run again",
            )


_ours: ContextVar[Attempt | None] = ContextVar("galbatch-attempt", default=None)


@contextmanager
def working_for(attempt: Attempt | None) -> Iterator[None]:
    """Do what is done in this block, and in this thread, for a run."""
    before = _ours.set(attempt)
    try:
        yield
    finally:
        _ours.reset(before)


def attempt() -> Attempt | None:
    """The run that this is done for; None outside of any."""
    return _ours.get()


def check() -> None:
    """See that the store is still that of the run this is done for: before anything is replaced.

    Raises
    ------
    Fenced
        If another run has taken it over.
    """
    ours = _ours.get()
    if ours is not None:
        ours.check()


def holds() -> bool:
    """Whether the store is still that of the run this is done for."""
    try:
        check()
    except Fenced:
        return False
    return True


def read_holder(lock: Path) -> Holder | None:
    """The holder of a lock; None where nobody holds it.

    Parameters
    ----------
    lock : Path
        The content of an earlier galbatch's lock is not known: a holder without a run.

    Raises
    ------
    OSError
        If it is there and cannot be read.
    """
    try:
        if is_remote(lock):
            # One request: by way of a file it would be two, and none if it is renewed in between.
            system, name = file_system(lock)
            page: bytes = system.cat_file(name)
        else:
            page = lock.read_bytes()
    except FileNotFoundError:
        return None
    if not page.strip():
        return None
    try:
        record = json.loads(page)
        return Holder(record["run"], record.get("process", 0), record.get("host", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder("", 0, "")
