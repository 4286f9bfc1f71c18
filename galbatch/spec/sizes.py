"""Sizes and times as a job writes them: `3 GiB`, `01:30:00`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from galbatch.spec.base import say
from galbatch.values import WORKER_MEMORY

_UNITS = {f"{prefix}{i}B": (1024 if i else 1000) ** power
          for power, prefix in enumerate("KMGT", 1) for i in ("", "i")}  # fmt: skip
_MOST_MEMORY = 100 * 2**40
_LEAST_TIME = 60


def in_bytes(size: str) -> int:
    """Bytes of a size as a job writes it: `3 GiB`."""
    number = size.rstrip("KMGTiB ")
    return int(float(number) * _UNITS[size[len(number) :].strip()])


def in_seconds(walltime: str) -> int:
    """Seconds of a time as a job writes it: `01:30:00`."""
    hours, minutes, seconds = map(int, walltime.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _enough(size: str) -> str:
    if in_bytes(size) < WORKER_MEMORY:
        raise ValueError(f"{too_little()}, not {size}")
    if in_bytes(size) > _MOST_MEMORY:
        raise ValueError(f"no worker has more than {_MOST_MEMORY >> 40} TiB, not {size}")
    return size


def too_little() -> str:
    """Message for a worker's memory in which no worker fits."""
    return f"a worker needs at least {WORKER_MEMORY >> 20} MiB before it has read any rows"


def _some_time(walltime: str) -> str:
    if in_seconds(walltime) < _LEAST_TIME:
        raise ValueError(
            "queues count minutes, and a worker takes a while to start: at least 00:01:00, "
            f"not {walltime} (an hour is 01:00:00)"
        )
    return walltime


Size = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})? ?[KMGT]i?B$",
        json_schema_extra=say("a size with its unit, e.g. 3 GiB"),
    ),
    AfterValidator(_enough),
]
Walltime = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$",
        json_schema_extra=say("hours:minutes:seconds, e.g. 01:30:00"),
    ),
    AfterValidator(_some_time),
]
