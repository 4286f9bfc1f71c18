"""What a worker does when it joins a run, before it is given a task."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from galbatch.cluster.disks import Disks
from galbatch.errors import SpecError


class SharedDisksCheck(WorkerPlugin):
    """Reads the tokens back, and tells the driver if that fails.

    Dask drops an error that is raised for a worker which joins later: so it is logged as an event.
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
    """The topic of the events by which workers say that they do not share a run's disks."""
    return f"galbatch-disks-{disks.token}"
