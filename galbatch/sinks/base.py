"""What a sink promises: a database whose tables take each partition exactly once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


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


class Sink(Protocol):
    """A database that a job names. Nothing is opened until `open`."""

    @property
    def identity(self) -> str:
        """The part of a receipt's unit that names the database: another place, another name.

        Receipts in stores of earlier versions are found by it, so it must never change.
        """
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Files on this machine's disks that it writes: no sources of a catalogue."""
        ...

    def describe(self) -> str:
        """What it is and where, for people: ``DuckDB out.duckdb``."""
        ...

    def check(self) -> None:
        """Refuse what is plainly no place for predictions, before any work is done for it.

        Raises
        ------
        SpecError
            If there is something else at its place.
        """
        ...

    def check_table(self, origin: Origin) -> None:
        """Refuse a table that is not for these predictions, without writing.

        Raises
        ------
        SpecError
            If the table's name is taken, the database cannot be opened, or the table holds
            something else. Nothing is said of a database that is busy.
        """
        ...

    def exists(self) -> bool:
        """Whether there is such a database; True where that cannot be told just now."""
        ...

    def open(self, origin: Origin) -> PredictionTable:
        """Connect to the database, making it where there is none.

        Parameters
        ----------
        origin : Origin

        Returns
        -------
        PredictionTable
            To be used in a ``with`` block.

        Raises
        ------
        SpecError
            If it cannot be opened.
        TransientError
            If another process has it open.
        """
        ...


class PredictionTable(AbstractContextManager["PredictionTable"], Protocol):
    """A table that takes predictions. One process writes at a time: the driver."""

    @property
    def where(self) -> str:
        """Database and table, for people."""
        ...

    def append(self, piece: Piece) -> int:
        """Insert a piece's rows, or put them in place of the rows its unit had before.

        Rows and the record of the key are committed in one transaction.

        Parameters
        ----------
        piece : Piece

        Returns
        -------
        int
            Rows written; 0 where the database has this piece already.

        Raises
        ------
        SpecError
            If the table has other columns (but for optional ones), is not galbatch's, or the disk
            is full.
        DataError
            If the piece's file cannot be read.
        TransientError
            If the database is busy.
        """
        ...

    def lacks(self, keys: Mapping[str, str]) -> str:
        """What keeps the table from holding these pieces and no others; empty where it does.

        Parameters
        ----------
        keys : mapping of str to str
            Key of each unit.
        """
        ...

    def keep(self, units: Collection[str]) -> int:
        """Remove the rows of all other units (of an earlier partitioning).

        Parameters
        ----------
        units : collection of str
            The partitions that the catalogue has now.

        Returns
        -------
        int
            Rows removed.
        """
        ...

    def __enter__(self) -> Self: ...
