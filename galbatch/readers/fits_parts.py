"""FITS files of several parts whose rows belong together, through astropy."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.readers.fits_file import RAISED, contents
from galbatch.readers.groups import GroupColumn, row_problem, row_type
from galbatch.readers.opening import broken, cut_short
from galbatch.values import EvenGrid

WHEN_DAMAGED = (*RAISED, OSError, EOFError)
_EVEN = 0.01
"""Of a pixel: how far the wavelengths of a file may be from an even grid."""


def open_parts(path: str, stack: ExitStack, wanted: tuple[str, ...], what: str) -> fits.HDUList:
    """The parts of a file, mapped into memory.

    Parameters
    ----------
    path : str
    stack : ExitStack
        Closes the file.
    wanted : tuple of str
        Names of parts that it must have.
    what : str
        The file is expected to be, for messages.

    Raises
    ------
    SpecError
        If it is no FITS, or lacks a part.
    DataError
        If it is cut short.
    """
    if failure := contents(path).failure:
        raise type(failure)(*failure.args)
    stream = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 (the stack closes it)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            file = stack.enter_context(fits.open(stream, memmap=True, lazy_load_hdus=False))
    except AstropyUserWarning as error:  # of the last part, there is not all
        raise cut_short(path, 0, "the last part of the file") from error
    except WHEN_DAMAGED as error:
        raise broken(path, error, 0) from error
    names = [one.name for one in file]
    for name in wanted:
        if name not in names:
            there = ", ".join(one or f"HDU {place}" for place, one in enumerate(names))
            raise SpecError(path, f"expected {what}, there is no part '{name}'", f"it has {there}")
    return file


def see_table(path: str, part: Any, what: str, columns: tuple[str, ...] = ()) -> None:
    """See that a part is a table with rows and with some columns.

    Raises
    ------
    SpecError
        If it is not.
    """
    name = f"'{part.name}'"
    if not isinstance(part, fits.BinTableHDU) or part.data is None:
        raise SpecError(path, f"expected {what}, the part {name} is no table with rows")
    missing = [one for one in columns if one not in part.columns.names]
    if missing:
        raise SpecError(path, f"expected {what}, the table {name} has no column '{missing[0]}'")


def see_image(path: str, part: Any, what: str, axes: int) -> None:
    """See that a part is an image with some number of axes.

    Raises
    ------
    SpecError
        If it is not.
    """
    image = part.data if part.is_image else None
    if image is None or image.ndim != axes:
        got = "none" if image is None else f"one of shape {image.shape}"
        name = part.name or "PRIMARY"
        raise SpecError(
            path, f"expected {what} with an image of {axes} axes in the part '{name}', got {got}"
        )


def table_columns(table: Any, *, beside: bool = False) -> dict[str, GroupColumn]:
    """The columns of a binary table, a value or a list in each row."""
    return {
        one.name: array_column(table.data.field(one.name), one.unit or "", beside=beside)
        for one in table.columns
    }


def array_column(values: NDArray[Any], unit: str = "", *, beside: bool = False) -> GroupColumn:
    """An array as a column: its first axis are the rows."""
    dtype, shape = np.asarray(values[:0]).dtype, values.shape[1:]
    problem = row_problem(dtype, shape)

    def read(start: int, stop: int) -> NDArray[Any]:
        rows = np.asarray(values[start:stop])
        return np.char.rstrip(rows) if rows.dtype.kind in "SU" else rows

    kind = None if problem else row_type(dtype, shape)
    return GroupColumn(len(values), kind, unit, read, problem, beside=beside)


def even_grid(path: str, values: NDArray[np.float64], *, logarithmic: bool) -> EvenGrid:
    """The grid that wavelengths in Angstrom, or their logarithms, are.

    Raises
    ------
    DataError
        If they are not evenly spaced.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise DataError(path, "expected a wavelength for each pixel, some are missing")
    step = float(values[-1] - values[0]) / (len(values) - 1)
    # Of single precision, in which SDSS writes them, the mean of many steps is better than one.
    rounded = round(step, 7)
    step = rounded if abs(step - rounded) * len(values) < _EVEN * abs(step) else step
    if step < 0:
        raise DataError(
            path,
            f"expected rising wavelengths, they fall from {values[0]:.7g} to {values[-1]:.7g}",
            "turn the spectra round",
        )
    off = np.abs(values - values[0] - step * np.arange(len(values)))
    if step == 0 or off.max() > _EVEN * step:
        place = int(np.argmax(off)) + 1
        raise DataError(path, f"expected evenly rising wavelengths, pixel {place:,} is off")
    return EvenGrid(float(values[0]), step, len(values), logarithmic)


def same_rows(path: str, columns: dict[str, GroupColumn], rows: int, of: str) -> None:
    """Refuse images that have another number of rows than the table.

    Raises
    ------
    DataError
        Naming the first.
    """
    for name, column in columns.items():
        if column.rows != rows:
            raise DataError(path, f"'{name}' has {column.rows:,} rows, {of} has {rows:,}")
