"""What every reader promises, and which reader reads a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import SpecError, counted, did_you_mean
from galbatch.readers.door import no_file
from galbatch.readers.hats import PIXEL_COLUMNS, check_rows, is_pixel_file, pixel_files
from galbatch.readers.packed import PACKINGS
from galbatch.readers.remote import expand_url, is_url, stamp_url
from galbatch.spec.job import (
    CsvFormat,
    FitsFormat,
    Format,
    Hdf5Format,
    ParquetFormat,
    VotableFormat,
)
from galbatch.values import RejectedRow

ENDINGS: dict[str, type[CsvFormat | ParquetFormat | FitsFormat | Hdf5Format | VotableFormat]] = {
    ".csv": CsvFormat,
    ".parquet": ParquetFormat,
    ".pq": ParquetFormat,
    ".parq": ParquetFormat,
    ".fits": FitsFormat,
    ".fit": FitsFormat,
    ".hdf5": Hdf5Format,
    ".h5": Hdf5Format,
    ".vot": VotableFormat,
    ".votable": VotableFormat,
    ".xml": VotableFormat,
}
PACKABLE = (CsvFormat, FitsFormat, VotableFormat)
"""Formats that are read packed, too; of the others no part could be read without the rest."""


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
        What the file keeps it as, a fixed-size list for several values in a row; None where the
        format does not say (CSV).
    unit : str
        As the file writes it; empty where it says none.
    """

    name: str
    type: pa.DataType | None = None
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
    """

    columns: tuple[FileColumn, ...]
    notes: tuple[str, ...] = ()

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
            that has types of its own keeps its number types. ``pa.null()`` takes a column as it
            comes (from CSV as text), and leaves it out where that cannot be.
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


def open_reader(format: Format | None, path: str) -> Reader:
    """The reader for a file.

    Parameters
    ----------
    format : Format or None
        What the job says; None to go by the ending of the file's name.
    path : str

    Raises
    ------
    SpecError
        If the ending says nothing.
    """
    # Imported when needed: astropy and h5py take longer to import than a small file to read.
    match format if format is not None else _format_by_ending(path):
        case CsvFormat(delimiter=delimiter):
            from galbatch.readers.csv import CsvReader

            return CsvReader(delimiter)
        case ParquetFormat():
            from galbatch.readers.parquet import ParquetReader

            return ParquetReader(leave_out=PIXEL_COLUMNS if is_pixel_file(path) else ())
        case FitsFormat(hdu=hdu):
            from galbatch.readers.fits import FitsReader

            return FitsReader(hdu)
        case Hdf5Format(group=group):
            from galbatch.readers.hdf5 import Hdf5Reader

            return Hdf5Reader(group)
        case VotableFormat(table=table, overflow=overflow):
            from galbatch.readers.votable import VotableReader

            return VotableReader(table, overflow=overflow == "accept")


def _format_by_ending(path: str) -> Format:
    if is_pixel_file(path):
        # A HATS catalogue gives its files what ending it likes.
        return ParquetFormat()
    name = Path(path).name.lower()
    packed = [packing.ending for packing in PACKINGS]
    inside = name
    for ending in packed:
        inside = inside.removesuffix(ending)
    for ending, format in ENDINGS.items():
        if name.endswith(ending) or (inside.endswith(ending) and format in PACKABLE):
            return format()
    packable = [ending for ending, format in ENDINGS.items() if format in PACKABLE]
    raise SpecError(
        path,
        f"its ending is none of {', '.join(ENDINGS)}, "
        f"nor {', '.join(packed)} behind {', '.join(packable)}",
        "say what it is, e.g. source.format: {kind: csv}",
    )


def expand(paths: Sequence[str]) -> tuple[str, ...]:
    """The files behind paths, globs and folders of HATS catalogues.

    Parameters
    ----------
    paths : sequence of str
        ``data/part-*.csv.gz``, ``data/**/*.fits`` (any depth), ``~/alhambra.csv``,
        ``s3://bucket/tiles/*.fits``; and ``data/gaia``, where that is a HATS catalogue or a HATS
        collection (its primary catalogue).

    Returns
    -------
    tuple of str
        Each file once: in the order of `paths`, those of one glob by name, those of a catalogue
        by their place on the sky.

    Raises
    ------
    SpecError
        If a path does not exist, a glob matches no file, or a folder is no HATS catalogue.
    """
    found: dict[str, None] = {}
    matches: Sequence[str]
    for pattern in paths:
        if is_url(pattern):
            found.update(dict.fromkeys(expand_url(pattern)))
            continue
        path = Path(pattern).expanduser()
        if has_magic(pattern) and not path.exists():
            # Unlike Path.glob, glob leaves out hidden files (half-written copies, say).
            names = glob(str(path), recursive=True)  # noqa: PTH207
            lost = next((name for name in names if not Path(name).exists()), None)
            if lost is not None:
                raise SpecError(lost, "is a link to a file that is not there", "mend or remove it")
            matches = sorted(name for name in names if Path(name).is_file())
            if not matches:
                raise SpecError(pattern, "no file matches", _nearby(path))
        else:
            if not path.exists():
                raise SpecError(pattern, "there is no such file", _nearby(path))
            matches = _inside(path) if path.is_dir() else [str(path)]
        found.update(dict.fromkeys(matches))
    return tuple(found)


def check_catalogues(paths: Sequence[str]) -> None:
    """See that the HATS catalogues among the paths of a job have the rows that they say.

    Parameters
    ----------
    paths : sequence of str
        As for `expand`.

    Raises
    ------
    SpecError
        If one has not.
    """
    for pattern in paths:
        folder = Path(pattern).expanduser()
        if not is_url(pattern) and folder.is_dir():
            check_rows(folder)


def stamp(path: str) -> tuple[int, int | str]:
    """Size of a file in bytes, and what changes when its content does.

    Parameters
    ----------
    path : str
        From `expand`.
    """
    if is_url(path):
        return stamp_url(path)
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def _inside(folder: Path) -> Sequence[str]:
    files = pixel_files(folder)
    if files is None:
        raise no_file(str(folder))
    return files


def _nearby(path: Path) -> str:
    """What may have been meant, for a file that is not there."""
    folder = path.parent
    if has_magic(str(folder)):
        return ""
    if not folder.is_dir():
        return f"there is no folder '{folder}' either; the working directory is {Path.cwd()}"
    names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    hint = did_you_mean(path.name, names)
    if hint:
        return hint
    return f"'{folder}' holds {counted(len(names), 'file')}"
