"""What a worker does when it joins a run, before it is given a task, and when it loses the run."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from distributed import SchedulerPlugin, WorkerPlugin

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


class Arrivals(SchedulerPlugin):
    """Remembers when each worker first came: one may be gone before anybody looks."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        """Of ``time.monotonic()``, by the name of the worker."""

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Called by Dask when a worker has registered."""
        self.first.setdefault(str(scheduler.workers[worker].name), time.monotonic())


class OwnGpu(WorkerPlugin):
    """Turns the list of a job's GPUs so that each of its workers has another one in front.

    The first one is what a process computes on; a fit uses all of them.
    """

    name = "galbatch-own-gpu"

    def setup(self, worker: Any) -> None:
        """Called by Dask, before anything has been computed."""
        place = re.search(r"-(\d+)$", str(worker.name))
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if place and len(gpus) > 1:
            first = int(place[1]) % len(gpus)
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first:] + gpus[:first])


def topic(disks: Disks) -> str:
    """The topic of the events by which workers say that they do not share a run's disks."""
    return f"galbatch-disks-{disks.token}"
