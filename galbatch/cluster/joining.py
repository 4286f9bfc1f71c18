"""What a worker does when it joins a run, before it is given a task, and when it loses the run."""

from __future__ import annotations

import os
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

    def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends; where its scheduler is gone, it ends at once.

        Dask would let a task that is under way go on for half a minute, and write, though nobody
        is left to hear of it.
        """
        stream = worker.batched_stream
        in_a_process_of_its_own = worker.nanny is not None
        if in_a_process_of_its_own and stream is not None and stream.closed():
            os._exit(1)


def topic(disks: Disks) -> str:
    """The topic of the events by which workers say that they do not share a run's disks."""
    return f"galbatch-disks-{disks.token}"
