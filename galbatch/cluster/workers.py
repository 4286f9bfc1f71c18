"""The workers of a run: which are there, which were lost, and why others do not come."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

from galbatch.cluster.disks import Disks
from galbatch.errors import SpecError, TransientError

SILENCE = 10.0
"""Seconds without progress after which the scheduler is asked whether there are any workers."""
EVERY = 1.0
"""Seconds between two checks of the workers."""
TRIES = 3
"""How often workers that end without any progress in between are replaced."""
_ANSWER = 30.0
"""Seconds that a scheduler may take to answer."""
_KEPT = "finished work is kept: run again"


class Workers:
    """The processes that do the tasks of a run.

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
        self._last_progress = self._last_check = time.monotonic()
        self._progress = False
        self._waiting = False
        self._refused: SpecError | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user may want to know of the workers, a line each."""
        return ()

    def resources(self, stage: str) -> dict[str, float] | None:
        """What a worker must have to do a task of a stage; None where all do everything."""
        return None

    def expect(self, stage: str, tasks: int) -> None:
        """Remember how many tasks of a stage are left: so many workers there is work for."""

    @property
    def client(self) -> Any:
        """The `distributed.Client`.

        Raises
        ------
        TransientError
            If the scheduler is gone.
        """
        self._check_scheduler()
        return self._client

    def note_progress(self) -> None:
        """Remember that a task was finished. May be called from any thread."""
        self._last_progress = time.monotonic()
        self._progress = True

    def note_refusal(self, event: tuple[float, tuple[str, str, str]]) -> None:
        """Remember a worker that does not share the disks. May be called from any thread."""
        self._refused = SpecError(*event[1])

    def threads(self) -> int:
        """How many tasks can run at once.

        Raises
        ------
        TransientError
            If the scheduler is gone.
        """
        try:
            return sum(self.client.nthreads(callback_timeout=_ANSWER).values())
        except OSError as error:
            raise self._scheduler_is_gone() from error

    def watch(self, say: Callable[[str], None]) -> None:
        """Check the workers and replace lost ones; the driver calls this again and again.

        Parameters
        ----------
        say : callable
            Called once with a line when there are no workers, which says why, and when they come.

        Raises
        ------
        SpecError
            If no worker will come, or one does not share the disks.
        TransientError
            If the scheduler is gone, or nothing is left to replace the workers with.
        """
        now = time.monotonic()
        if now - self._last_check < EVERY:
            return
        self._last_check = now
        if self._refused is not None:
            raise self._refused
        self._check_scheduler()
        for message in self._replace_lost():
            say(message)
        self._progress = False
        if now - self._last_progress < SILENCE and not self._waiting:
            return
        threads = self.threads()
        if not threads and not self._waiting:
            silence = now - self._last_progress
            say(f"no progress and no workers for {silence:.0f} s: {self._why_none()}")
        elif threads and self._waiting:
            say("workers came, going on")
        self._waiting = not threads

    def _replace_lost(self) -> Iterator[str]:
        """Replace workers that were lost; a line for people about each kind of loss."""
        return iter(())

    def _why_none(self) -> str:
        """Why no workers are there, as far as is known, or what to do about it."""
        return f"start some with 'dask worker {self._address}'"

    def _check_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._scheduler_is_gone()

    def _scheduler_is_gone(self) -> TransientError:
        return TransientError("cluster", f"the scheduler at {self._address} went away", _KEPT)


class OwnWorkers(Workers):
    """Workers that this process starts and replaces.

    Parameters
    ----------
    client : distributed.Client
    disks : Disks
    cluster : distributed.SpecCluster
        Starts what it is told to, and does not notice by itself what has ended.
    where : str
        The name of the cluster in messages.
    """

    def __init__(self, client: Any, disks: Disks, cluster: Any, where: str) -> None:
        from galbatch.cluster.joining import Arrivals

        super().__init__(client, disks)
        self._cluster = cluster
        self._where = where
        self._numbers = count(1)
        self._rounds = 0
        self._arrivals = Arrivals()
        cluster.scheduler.add_plugin(self._arrivals)
        self._any_came = bool(self._registered())

    @abstractmethod
    def _ended(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """The workers that will not come any more, by the reason that people are told.

        Parameters
        ----------
        here : set
            Names of the workers that are registered.
        """

    def _left_in_time(self, here: set[Any]) -> Mapping[str, Sequence[Any]]:
        """The workers that left because their time was up, by what people are told."""
        return {}

    def _registered(self) -> set[Any]:
        """Names of the workers that have registered with the scheduler.

        Of workers that start and end together, one is enough.
        """
        workers = list(self._cluster.scheduler_info["workers"].values())
        names = {str(worker["name"]) for worker in workers}
        return {
            name
            for name, spec in list(self._cluster.worker_spec.items())
            if any(f"{name}{suffix}" in names for suffix in spec.get("group", ("",)))
        }

    def _came(self, name: Any, spec: Mapping[str, Any]) -> float | None:
        """When the first of the workers came that start and end together; None before."""
        first = self._arrivals.first
        names = [f"{name}{suffix}" for suffix in spec.get("group", ("",))]
        return min((first[one] for one in names if one in first), default=None)

    def _start(self, specs: Iterable[Mapping[str, Any]]) -> None:
        """Start workers as they are described, under names that no other has had."""
        own = {f"{self._cluster.name}-{next(self._numbers)}": dict(spec) for spec in specs}
        from distributed import SpecCluster

        self._cluster.worker_spec.update(own)
        # As many as there are by now, which starts those that have not been.
        SpecCluster.scale(self._cluster, len(self._cluster.worker_spec))

    def _stop(self, names: Sequence[Any]) -> list[Mapping[str, Any]]:
        """End workers, and return what they were described as."""
        specs = [self._cluster.worker_spec[name] for name in names]
        with suppress(Exception):  # what is left of them is found by the next check
            self._cluster.sync(self._cluster.scale_down, names, callback_timeout=_ANSWER)
        return specs

    def _replace_lost(self) -> Iterator[str]:
        here = self._registered()
        self._any_came = self._any_came or bool(here or self._arrivals.first)
        if self._progress:
            self._rounds = 0
        for said, names in self._left_in_time(here).items():
            self._start(self._stop(names))
            yield f"{said}; replaced"
        ended = self._ended(here)
        if not ended:
            return
        self._rounds += 1
        names = list(chain.from_iterable(ended.values()))
        if len(names) == len(self._cluster.worker_spec):
            *_, reason = ended
            if not self._any_came:
                raise SpecError(self._where, reason, "see the settings of 'cluster' in the job")
            if self._rounds > TRIES:
                problem = f"workers end before they get anything done: {reason}"
                raise TransientError(self._where, problem, _KEPT)
        replaced = self._any_came and self._rounds <= TRIES
        for problem in ended:
            yield f"{problem}; {'replaced' if replaced else 'the others go on without'}"
        specs = self._stop(names)
        if replaced:
            self._start(specs)
