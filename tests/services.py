"""A real queue for the tests of a folder, as its fixtures need it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from daemons import folder_of_this_checkout
from small import REPOSITORY


@contextmanager
def brought_up(name: str, make: Callable[[Path], Any], lacks: str) -> Iterator[Any]:
    """A queue of this checkout, while a session of pytest lasts; skips where this machine lacks it.

    Parameters
    ----------
    name : str
    make : callable
        From a folder: what has `up`, `down`, `clear` and `environment`.
    lacks : str
        As `missing` says it.
    """
    if lacks:
        pytest.skip(lacks)
    with folder_of_this_checkout(name) as folder:
        queue = make(folder)
        queue.down()  # what a session that was killed has left
        try:
            queue.up()
            yield queue
        finally:
            queue.down()


@contextmanager
def as_surroundings(queue: Any) -> Iterator[None]:
    """What starts meanwhile finds the queue, which is empty in the end."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in queue.environment.items():
            patched.setenv(name, value)
        patched.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        yield
        queue.clear()
