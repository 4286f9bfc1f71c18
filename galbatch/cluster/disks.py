"""Whether a worker sees the disks that the driver writes to.

Rows would be lost silently if a worker wrote to a disk of its own. So the driver writes a token to
each disk, and a worker must read it back before it is given a task.
"""

from __future__ import annotations

import re
import shlex
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
"""Seconds that a network disk may take to show a new file."""


UNSEEN = "does not see what this run writes in"
"""What is said of a worker that has a disk of its own."""


@dataclass(frozen=True)
class Disks:
    """The tokens that the driver wrote to the disks that all its workers must share.

    Parameters
    ----------
    token : str
        The text of the tokens: no other run has the same.
    files : tuple of (str, Path)
        The files that hold it, each with the job's setting that names the disk.
    """

    token: str = ""
    files: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def named(cls, places: Mapping[str, Path], token: str) -> Disks:
        """The tokens of these places, which are not written by this.

        Parameters
        ----------
        places : mapping of str to Path
            See `tokens`.
        token : str
        """
        files = ((word, path.with_name(f"{path.name}-{token}")) for word, path in places.items())
        return cls(token, tuple(files))

    def check(self, worker: str) -> None:
        """Read the tokens back, once in a process.

        Parameters
        ----------
        worker : str
            Address of the worker that reads.

        Raises
        ------
        SpecError
            If a token cannot be read; it names the worker.
        """
        _read_back(self, worker)

    def script(self) -> list[str]:
        """Lines of a shell that end a job where a token is missing; they say so in its log.

        A worker there would not even start: the keys that it needs are on the same disk.
        """
        lines = []
        for _, path in self.files:
            there, folder = f"[ -e {shlex.quote(str(path))} ]", shlex.quote(str(path.parent))
            lines.append(f"{there} || sleep {PATIENCE:.0f}")
            lines.append(f'{there} || {{ echo "$(hostname) {UNSEEN}" {folder} >&2; exit 1; }}')
        return lines

    def refused(self, log: str) -> SpecError | None:
        """What a run ends with if the log of a job says that a token is missing."""
        for word, path in self.files:
            said = re.search(rf"(\S+) {UNSEEN} {re.escape(str(path.parent))}", log)
            if said:
                problem = f"{UNSEEN} {path.parent}"
                hint = f"{word}: must be on a disk that all workers share"
                return SpecError(f"job on {said[1]}", problem, hint)
        return None


@contextmanager
def tokens(places: Mapping[str, Path]) -> Iterator[Disks]:
    """Write a token to each disk, and remove it in the end.

    Parameters
    ----------
    places : mapping of str to Path
        The file to write, by the job's setting that names the disk. The token is added to its
        name: a network disk may remember for a while that a file was missing, or what it held.

    Raises
    ------
    SpecError
        If a token cannot be written.
    """
    disks = Disks.named(places, uuid.uuid4().hex)
    try:
        for word, path in disks.files:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                for other in path.parent.glob(f"{places[word].name}-*"):  # of a run that was killed
                    other.unlink(missing_ok=True)
                path.write_text(disks.token, encoding="ascii")
            except OSError as error:
                problem = f"cannot be written: {error.strerror}"
                raise SpecError(str(path.parent), problem, f"see {word} in the job") from error
        yield disks
    finally:
        for _, path in disks.files:
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
                    f"{UNSEEN} {path.parent}",
                    f"{word}: must be on a disk that all workers share",
                )
            time.sleep(0.05)


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == token
    except (OSError, ValueError):
        return False
