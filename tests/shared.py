"""What is made once for all workers of pytest-xdist."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of this worker's own, which one of the workers has made and the others copy.

    Parameters
    ----------
    factory : pytest.TempPathFactory
    name : str
        Of the folder.
    make : callable
        Fills an empty folder.

    Returns
    -------
    Path
    """
    mine = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(mine)
        return mine
    common = factory.getbasetemp().parent / name
    with (common.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # and let go of when the worker ends, however it does
        if not common.exists():
            make(mine)
            shutil.copytree(mine, common)
            return mine
    return shutil.copytree(common, mine, dirs_exist_ok=True)
