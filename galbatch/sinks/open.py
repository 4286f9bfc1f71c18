"""From the settings of a job to the database that they name.

A new kind of database is three things: a class in a file of this room that does what
`galbatch.sinks.base.Sink` says, its line in `SINKS`, and its settings as a member of the union
`galbatch.spec.job.SinkSettings`. The line alone is enough for all stages; the union is what lets
users write the kind into a job's YAML, says which settings it has, and refuses all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from galbatch.sinks.base import Sink
from galbatch.spec.job import SinkSettings


def _duckdb(spec: Any) -> Sink:
    from galbatch.sinks.duckdb import DuckdbDatabase

    return DuckdbDatabase(spec)


SINKS: dict[str, Callable[[Any], Sink]] = {"duckdb": _duckdb}
"""What makes a sink of a job's settings, by their `kind`. Libraries of databases are imported when
they are needed."""


def sink_of(spec: SinkSettings) -> Sink:
    """The database that a job names; nothing is opened.

    Parameters
    ----------
    spec : SinkSettings
        The job's settings.

    Returns
    -------
    Sink
    """
    return SINKS[spec.kind](spec)
