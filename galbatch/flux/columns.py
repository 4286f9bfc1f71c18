"""Arrays out of a table, as the survey lays its columns out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.errors import DataError
from galbatch.spec.survey import Survey


@dataclass(frozen=True)
class RawPhotometry:
    """Photometry of n objects in b bands as the catalogue states it.

    Parameters
    ----------
    value : ndarray, shape (n, b), float64
        In the survey's unit, sentinels included; NaN for null.
    error : ndarray, shape (n, b), float64
        As the survey states it.
    mask : ndarray, shape (n, b), bool, optional
        True where a flag of the band tells not to use it.
    saturated : ndarray, shape (n,), bool, optional
        The object's saturation flag is set.
    reddening : ndarray, shape (n,), float64, optional
        Galactic E(B-V), magnitudes.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    mask: NDArray[np.bool_] | None = None
    saturated: NDArray[np.bool_] | None = None
    reddening: NDArray[np.float64] | None = None


def has(table: pa.Table, name: str) -> bool:
    """Whether a table has a column."""
    # Not `in column_names`: that makes a list of them all for every column that is asked for.
    return bool(table.schema.get_field_index(name) >= 0)


def numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A scalar column as float64.

    Parameters
    ----------
    table : pa.Table
    name : str

    Returns
    -------
    ndarray, shape (n,)
        NaN for null. A view of Arrow's memory where it is float64, whole and without nulls.

    Raises
    ------
    DataError
        If there is no such column, or it does not hold numbers.
    """
    column = _column(table, name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"column '{name}'", f"expected numbers, not {kind}")
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.int8())
    # Arrow turns integers with nulls into floats with NaN.
    values: NDArray[np.float64] = column.to_numpy().astype(np.float64, copy=False)
    return values


def vectors(table: pa.Table, name: str, length: int) -> NDArray[np.float64]:
    """An array-valued column as a matrix.

    Parameters
    ----------
    table : pa.Table
    name : str
    length : int
        Values in a row.

    Returns
    -------
    ndarray, shape (n, length), float64
        NaN for null, and for a row without an array.

    Raises
    ------
    DataError
        If there is no such column, or its rows do not hold `length` numbers.
    """
    column = _column(table, name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        if kind.list_size != length:
            raise DataError(
                f"column '{name}'", f"expected {length} values in a row, not {kind.list_size}"
            )
        # Arrow keeps (meaningless) values for null rows of a fixed-size list.
        flat = column.values.slice(column.offset * length, len(column) * length)
        matrix = _floats(flat, name).reshape(len(column), length)
        if column.null_count:
            matrix = np.where(np.asarray(column.is_valid())[:, None], matrix, np.nan)
        return matrix
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        sizes = np.asarray(column.value_lengths().fill_null(0))
        wrong = np.flatnonzero((sizes != length) & (sizes != 0))
        if wrong.size:
            raise DataError(
                f"column '{name}'",
                f"expected {length} values in a row, not {sizes[wrong[0]]}",
                f"row {wrong[0] + 1} of this batch",
            )
        matrix = np.full((len(column), length), np.nan)
        matrix[sizes == length] = _floats(column.flatten(), name).reshape(-1, length)
        return matrix
    raise DataError(f"column '{name}'", f"expected {length} numbers in a row, not {kind}")


def raw_photometry(
    table: pa.Table, survey: Survey, bands: Sequence[str], *, reddening: bool = False
) -> RawPhotometry:
    """The photometry of a table's rows.

    Parameters
    ----------
    table : pa.Table
        With the columns of the bands' values and errors. A mask, a saturation flag or an E(B-V)
        that it does not have are None.
    survey : Survey
    bands : sequence of str
        Which bands, in this order.
    reddening : bool
        Whether to read the E(B-V).

    Returns
    -------
    RawPhotometry

    Raises
    ------
    DataError
        If a column of a band is not there, or one does not hold numbers.
    """
    columns = survey.photometry.vectors
    mask = None
    if columns:
        index = [survey.band_names.index(band) for band in bands]
        value, error = (
            vectors(table, name, len(survey.bands))[:, index]
            for name in (columns.value, columns.error)
        )
        if columns.mask and has(table, columns.mask):
            # A missing flag does not exclude the band.
            flags = vectors(table, columns.mask, len(survey.bands))[:, index]
            mask = np.nan_to_num(flags) != 0
    else:
        value, error = (np.empty((table.num_rows, len(bands))) for _ in range(2))
        for index_, band in enumerate(survey.named(bands)):
            value[:, index_] = numbers(table, str(band.value))
            error[:, index_] = numbers(table, str(band.error))
    saturated = None
    flag = survey.photometry.saturation
    if flag and has(table, flag.column):
        saturated = np.isin(numbers(table, flag.column), flag.values)
    dust = None
    if reddening and survey.extinction and has(table, survey.extinction):
        dust = numbers(table, survey.extinction)
    return RawPhotometry(value, error, mask, saturated, dust)


def photometry_inputs(
    survey: Survey, bands: Sequence[str], *, reddening: bool = False
) -> tuple[str, ...]:
    """Columns that `raw_photometry` reads.

    Parameters
    ----------
    survey : Survey
    bands : sequence of str
    reddening : bool

    Returns
    -------
    tuple of str
    """
    names: list[str | None] = []
    if survey.photometry.vectors:
        names += survey.photometry_columns
    else:
        names += [name for band in survey.named(bands) for name in (band.value, band.error)]
    if survey.photometry.saturation:
        names.append(survey.photometry.saturation.column)
    if reddening:
        names.append(survey.extinction)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if not has(table, name):
        raise DataError(f"column '{name}'", "is not in the table")
    return table.column(name)


def _floats(array: pa.Array, name: str) -> NDArray[np.float64]:
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise DataError(f"column '{name}'", f"expected numbers, not {array.type}")
    values: NDArray[np.float64] = array.to_numpy(zero_copy_only=False).astype(
        np.float64, copy=False
    )
    return values
