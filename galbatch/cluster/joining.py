"""What a worker does when it joins, before it is given a task."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from galbatch.cluster.disks import Disks
from galbatch.errors import SpecError


class Joining(WorkerPlugin):
    """Reads the tokens back, and tells the driver where that cannot be done.

    Whatever is raised for a worker that joins later is heard by nobody: it is told as an event.
    """

    def __init__(self, disks: Disks) -> None:
        self.name = topic(disks)
        self._disks = disks

    def setup(self, worker: Any) -> None:
        """Called by Dask, before the worker hears of any task."""
        try:
            self._disks.check(worker.address)
        except SpecError as error:
            worker.log_event(self.name, list(error.args))
            raise


def topic(disks: Disks) -> str:
    """Under which the workers of one run say that they do not share its disks."""
    return f"galbatch-disks-{disks.token}"
