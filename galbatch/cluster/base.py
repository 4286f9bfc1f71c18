"""What a kind of cluster is: a function that starts or joins workers, and leaves them when done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galbatch.cluster.workers import Workers


@dataclass(frozen=True)
class Folders:
    """Where workers may write.

    Parameters
    ----------
    scratch : Path
        For temporary files of the workers.
    logs : Path
        For the output of a queue's jobs. It is made where there is a queue, and stays.
    shared : mapping of str to Path
        A file on each disk that all workers must share, by the job's setting that names the disk.
    accepted : callable, optional
        Called with the number of each job that a queue accepts, and with what it is: `worker`, or
        its group.
    """

    scratch: Path
    logs: Path
    shared: Mapping[str, Path]
    accepted: Callable[[str, str], None] = lambda number, what: None


Kind = Callable[[Any, Folders], AbstractContextManager[Workers | None]]
"""Called with the job's settings of the cluster; None stands for this process alone."""
