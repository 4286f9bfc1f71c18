"""What tells that a file has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from galbatch.readers.remote import is_url, stamp_url


def stamp(path: str) -> tuple[int, int | str]:
    """Size of a file in bytes, and what changes when its content does.

    Parameters
    ----------
    path : str
        From `expand`. A folder (Zarr) has the bytes of all its files, and the time of the newest.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    if is_url(path):
        return stamp_url(path)
    status = Path(path).stat()
    if not Path(path).is_dir():
        return status.st_size, status.st_mtime_ns
    size, newest = 0, 0
    for one in _statuses(path):
        size, newest = size + one.st_size, max(newest, one.st_mtime_ns)
    return size, newest


def _statuses(folder: str) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _statuses(entry.path)
            else:
                yield entry.stat()
