"""No workers: this process does one partition after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from galbatch.cluster.base import Folders
from galbatch.spec.cluster import SerialCluster


@contextmanager
def serial(spec: SerialCluster, folders: Folders) -> Iterator[None]:
    """Start nothing.

    Yields
    ------
    None
    """
    yield None
