"""What every reader promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.values import EvenGrid, RejectedRow


@dataclass(frozen=True)
class Batch:
    """Some consecutive rows of a file.

    Parameters
    ----------
    rows : array, shape (n,), int64
        Number of each row in the file: 1 is the first row of data. Strictly increasing.
    table : pyarrow.Table, n rows
        The columns asked for, as the file spells them.
    rejected : tuple of RejectedRow
        Rows that could not be read, among and after the rows of this batch.
    """

    rows: NDArray[np.int64]
    table: pa.Table
    rejected: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True)
class FileColumn:
    """What a file says of one of its columns.

    Parameters
    ----------
    name : str
        As the file spells it.
    type : pyarrow.DataType or None
        What the file keeps it as: a fixed-size list for rows of one axis, ``fixed_shape_tensor``
        for rows of more; None where the format does not say (CSV).
    unit : str
        As the file writes it; empty where it says none.
    beside : bool
        Whether it lies beside the table (a FITS image, an HDF5 dataset of three axes) and may be
        something else: such a column is read only if the survey names it.
    problem : str
        Why it cannot be read, where a reader that says no type knows.
    """

    name: str
    type: pa.DataType | None = None
    unit: str = ""
    beside: bool = False
    problem: str = ""


@dataclass(frozen=True)
class FileAxis:
    """Numbers that lie beside the columns and belong to all rows: wavelengths, perhaps.

    Parameters
    ----------
    name : str
        As the file spells it.
    values : tuple of float
        NaN where one is missing.
    unit : str
        As the file writes it; empty where it says none.
    """

    name: str
    values: tuple[float, ...]
    unit: str = ""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its rows are read.

    Parameters
    ----------
    columns : tuple of FileColumn
        In file order.
    notes : tuple of str
        What a user should know of the file, a line each.
    apart : tuple of (str, str)
        What else lies in the file, by its name, and why it is no column.
    medium : str
        What its wavelengths are in, ``vacuum`` or ``air``; empty where it does not say so.
    grid : EvenGrid or None
        The wavelengths of all its spectra, where the format says them for all at once.
    axes : tuple of FileAxis
        Columns of numbers, or of one list of them, that have another number of rows than the
        others: who does not need one notes that it is left out.
    """

    columns: tuple[FileColumn, ...]
    notes: tuple[str, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    medium: Literal["", "vacuum", "air"] = ""
    grid: EvenGrid | None = None
    axes: tuple[FileAxis, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns as the file spells them, in file order."""
        return tuple(column.name for column in self.columns)


class Batches(Iterator[Batch]):
    """The rows of a file, and how many records stand in it by another count.

    Parameters
    ----------
    batches : iterator of Batch
    records : callable
        The number of records in the file as its format states it (or, for text, as they are
        counted without a look at the values), whatever the reader made of them; called when
        the last batch has come.
    """

    def __init__(self, batches: Iterator[Batch], records: Callable[[], int]) -> None:
        self._batches, self._records = batches, records

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def records(self) -> int:
        """Records in the file; known when the last batch has come."""
        return self._records()


class Reader(Protocol):
    """One file format. Options of the format are in the constructor, the file is in the call."""

    def header(self, path: str) -> Header:
        """What the file says of its columns, without reading the data.

        Raises
        ------
        SpecError
            If there is no such file, or it is not of this format.
        DataError
            If the file is of this format but cut short or damaged.
        """
        ...

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns named in `types`, at most `rows` rows at a time.

        Memory does not grow with the file (but for a VOTable's).

        Parameters
        ----------
        path : str
        types : mapping of str to pyarrow.DataType
            The columns to read, as the file spells them, and what they should hold. A format
            that has types of its own keeps its number types, but in arrays
            (``fixed_shape_tensor``), which are of the type asked for. ``pa.null()`` takes a column
            as it comes (from CSV as text, an array as a flat list), and leaves it out where that
            cannot be.
        rows : int
            Rows in a batch, at most.

        Returns
        -------
        Batches
            In file order; none for a file without rows. Every record of the file is in one of
            them, as a row or among the rejected.

        Raises
        ------
        SpecError
            If the file cannot be used at all (when the first batch is asked for).
        DataError
            If it breaks on the way: it is cut short or damaged. The rows before that have been
            yielded.
        """
        ...
