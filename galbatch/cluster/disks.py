"""Whether a worker sees the disks that the driver writes to.

Where one writes to a disk of its own, rows would be lost in silence. So the driver leaves a token
on each disk, and a worker must read it back before it is given a task.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from galbatch.errors import SpecError

PATIENCE = 2.0
"""Seconds that a disk of the network may take to show a new file."""


@dataclass(frozen=True)
class Disks:
    """What the driver left on the disks that all its workers must share.

    Parameters
    ----------
    token : str
        Of this run, and no other.
    files : tuple of (str, Path)
        Where it is written, with the word of the job that says where.
    """

    token: str = ""
    files: tuple[tuple[str, Path], ...] = ()

    def check(self, worker: str) -> None:
        """Read the tokens back, once in a process.

        Parameters
        ----------
        worker : str
            Address of the worker that asks.

        Raises
        ------
        SpecError
            If one cannot be read, by the name of the worker.
        """
        _read_back(self, worker)


@contextmanager
def tokens(places: Mapping[str, Path]) -> Iterator[Disks]:
    """Leave a token on each disk, for as long as the workers may ask.

    Parameters
    ----------
    places : mapping of str to Path
        By the word of the job, the file to write. The token is added to its name: a disk of the
        network may remember for a while what a name stood for, or that it stood for nothing.

    Raises
    ------
    SpecError
        If one cannot be written.
    """
    token = uuid.uuid4().hex
    files = tuple((word, path.with_name(f"{path.name}-{token}")) for word, path in places.items())
    try:
        for word, path in files:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                for other in path.parent.glob(f"{places[word].name}-*"):  # of a run that was killed
                    other.unlink(missing_ok=True)
                path.write_text(token, encoding="ascii")
            except OSError as error:
                problem = f"cannot be written: {error.strerror}"
                raise SpecError(str(path.parent), problem, f"see {word} in the job") from error
        yield Disks(token, files)
    finally:
        for _, path in files:
            with suppress(OSError):
                path.unlink()


@lru_cache(maxsize=64)
def _read_back(disks: Disks, worker: str) -> None:
    until = time.monotonic() + PATIENCE
    for word, path in disks.files:
        while not _holds(path, disks.token):
            if time.monotonic() > until:
                raise SpecError(
                    f"worker {worker} on {socket.gethostname()}",
                    f"does not see what this run writes in {path.parent}",
                    f"{word}: must be on a disk that all workers share",
                )
            time.sleep(0.05)


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == token
    except (OSError, ValueError):
        return False
