"""What a sink is: a table in a database that takes each partition exactly once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from galbatch.spec.job import Sink as SinkSpec


@dataclass(frozen=True)
class Piece:
    """The predictions of one partition.

    Parameters
    ----------
    unit : str
        The partition's name.
    key : str
        Hash of the partition's content and the model that made it: a piece with the key that the
        database remembers for this unit is there already.
    path : Path
        Parquet file; its field metadata (unit, ucd, description) become column comments.
    fingerprint : str
        Of the model that made it, for people.
    """

    unit: str
    key: str
    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Origin:
    """Whose predictions a table holds.

    Parameters
    ----------
    survey : str
        Name of the survey.
    model : str
        Version of the model; its name where the table is to hold whichever is current.
    id_column : str
        The survey's id: the primary key.
    optional : frozenset of str
        Columns that predictions of the model have or lack: the table follows the pieces.
    """

    survey: str
    model: str
    id_column: str
    optional: frozenset[str] = frozenset()


class Sink(AbstractContextManager["Sink"], Protocol):
    """A table that takes predictions. One process writes at a time: the driver."""

    @property
    def where(self) -> str:
        """Database and table, for people."""
        ...

    def append(self, piece: Piece) -> int:
        """Insert a piece's rows, or put them in place of the rows its unit had before.

        Rows and the record of the key are committed in one transaction.

        Returns
        -------
        int
            Rows written; 0 where the database has this piece already.

        Raises
        ------
        SpecError
            If the table has other columns (but for optional ones), is not galbatch's, or the disk
            is full.
        TransientError
            If the database is busy.
        """
        ...

    def lacks(self, keys: Mapping[str, str]) -> str:
        """Why the table does not hold exactly the pieces of these keys, by unit; or nothing."""
        ...

    def keep(self, units: Collection[str]) -> int:
        """Remove the rows of all other units (of an earlier partitioning); how many they were."""
        ...

    def __enter__(self) -> Self: ...


def check_sink(spec: SinkSpec) -> None:
    """Refuse what is plainly no place for predictions, before any work is done for it.

    Raises
    ------
    SpecError
        If there is something else at its place.
    """
    match spec.kind:
        case "duckdb":
            from galbatch.sinks.duckdb import check_file

            check_file(Path(spec.path).expanduser())


def check_table(spec: SinkSpec, origin: Origin) -> None:
    """Refuse a table that is not for these predictions, without writing.

    Raises
    ------
    SpecError
        If it is of others, or the database cannot be opened. Nothing is said of one that is busy.
    """
    match spec.kind:
        case "duckdb":
            from galbatch.sinks.duckdb import check_table

            check_table(spec, origin)


def open_sink(spec: SinkSpec, origin: Origin) -> Sink:
    """Connect to a database.

    Parameters
    ----------
    spec : Sink
        The job's words.
    origin : Origin

    Returns
    -------
    Sink
        To be used in a ``with`` block.

    Raises
    ------
    SpecError
        If it cannot be opened.
    TransientError
        If another process has it open.
    """
    match spec.kind:
        case "duckdb":
            from galbatch.sinks.duckdb import DuckdbTable

            return DuckdbTable(spec, origin)
