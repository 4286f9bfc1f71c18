"""The workers of a run: who is there, who was lost, and what is known of those who do not come."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from galbatch.cluster.disks import Disks
from galbatch.errors import SpecError, TransientError

SILENCE = 10.0
"""Seconds without progress after which it is asked whether there are any workers."""
EVERY = 1.0
"""Seconds between two looks at them."""
TRIES = 3
"""Times in a row that workers end and are replaced without any progress in between."""
_ANSWER = 30.0
"""Seconds that a scheduler may take for an answer."""
_KEPT = "finished work is kept: run again"


class Workers:
    """Those who do the tasks of a run.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
        What each of them must have read before it does a task.
    """

    def __init__(self, client: Any, disks: Disks) -> None:
        self._client = client
        self.disks = disks
        self._address: str = client.scheduler.address
        self._heard = self._looked = time.monotonic()
        self._progress = False
        self._waiting = False
        self._refused: SpecError | None = None

    @property
    def client(self) -> Any:
        """The `distributed.Client`.

        Raises
        ------
        TransientError
            If the scheduler is gone.
        """
        self._meet_scheduler()
        return self._client

    def heard(self) -> None:
        """Take note of progress. May be called from any thread."""
        self._heard = time.monotonic()
        self._progress = True

    def refused(self, event: tuple[float, tuple[str, str, str]]) -> None:
        """Take note of a worker that does not share the disks. May be called from any thread."""
        self._refused = SpecError(*event[1])

    def threads(self) -> int:
        """How many tasks can be done at once.

        Raises
        ------
        TransientError
            If the scheduler is gone.
        """
        try:
            return sum(self.client.nthreads(callback_timeout=_ANSWER).values())
        except OSError as error:
            raise self._scheduler_is_gone() from error

    def look(self, say: Callable[[str], None]) -> None:
        """See to the workers; to be called all the time while the driver waits for them.

        Parameters
        ----------
        say : callable
            Told when there are none and what is known of them, once, and when they come.

        Raises
        ------
        SpecError
            If none will come, or one does not share the disks.
        TransientError
            If the scheduler is gone, or nothing is left to replace the workers with.
        """
        now = time.monotonic()
        if now - self._looked < EVERY:
            return
        self._looked = now
        if self._refused is not None:
            raise self._refused
        self._meet_scheduler()
        for news in self._tend():
            say(news)
        self._progress = False
        if now - self._heard < SILENCE and not self._waiting:
            return
        threads = self.threads()
        if not threads and not self._waiting:
            say(f"no progress and no workers for {now - self._heard:.0f} s: {self._absent()}")
        elif threads and self._waiting:
            say("workers came, going on")
        self._waiting = not threads

    def _tend(self) -> Iterator[str]:
        """Replace workers that were lost; what is to be said of that."""
        return iter(())

    def _absent(self) -> str:
        """What is known of workers that are not there."""
        return f"start some with 'dask worker {self._address}'"

    def _meet_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._scheduler_is_gone()

    def _scheduler_is_gone(self) -> TransientError:
        return TransientError("cluster", f"the scheduler at {self._address} went away", _KEPT)


class OwnWorkers(Workers):
    """Workers that this process starts, and replaces.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
    cluster : distributed.SpecCluster
        It is told what to start, and does not see by itself what has ended.
    where : str
        How messages name it.
    """

    def __init__(self, client: Any, disks: Disks, cluster: Any, where: str) -> None:
        super().__init__(client, disks)
        self._cluster = cluster
        self._where = where
        self._wanted = len(cluster.worker_spec)
        self._rounds = 0
        self._any_came = bool(self._here())

    @abstractmethod
    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """Of those who are not here: who will not come any more, by what is to be said of it."""

    @abstractmethod
    def _scale(self, number: int) -> None:
        """Have so many, of those that are started and replaced as one."""

    def _here(self) -> set[Any]:
        """Who has registered with the scheduler, of those that are started as one."""
        workers = list(self._cluster.scheduler_info["workers"].values())
        names = {str(worker["name"]) for worker in workers}
        return {
            name
            for name, spec in list(self._cluster.worker_spec.items())
            if any(f"{name}{suffix}" in names for suffix in spec.get("group", ("",)))
        }

    def _tend(self) -> Iterator[str]:
        here = self._here()
        self._any_came = self._any_came or bool(here)
        if self._progress:
            self._rounds = 0
        ended = self._ended(here)
        if not ended:
            return
        self._rounds += 1
        names = list(chain.from_iterable(ended.values()))
        if len(names) == len(self._cluster.worker_spec):
            *_, reason = ended
            if not self._any_came:
                raise SpecError(self._where, reason, "see the words of 'cluster' in the job")
            if self._rounds > TRIES:
                problem = f"workers end before they get anything done: {reason}"
                raise TransientError(self._where, problem, _KEPT)
        replaced = self._any_came and self._rounds <= TRIES
        if not replaced:
            self._wanted -= len(names)
        for problem in ended:
            yield f"{problem}; {'replaced' if replaced else 'the others go on without'}"
        with suppress(Exception):  # whatever is left of them is seen at the next look
            self._cluster.sync(self._cluster.scale_down, names, callback_timeout=_ANSWER)
        self._scale(self._wanted)
