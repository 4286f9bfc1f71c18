"""Columns as the type that was asked for, and the rows where that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import is_tensor, shape_of
from galbatch.errors import SpecError
from galbatch.readers.base import Batch
from galbatch.readers.scalars import Conformed, Mismatch, conform_scalars, one_chunk
from galbatch.readers.shaped import conform_arrays, conform_lists
from galbatch.values import RejectedRow


def make_batch(
    path: str,
    rows: NDArray[np.int64],
    columns: Mapping[str, pa.Array | pa.ChunkedArray],
    types: Mapping[str, pa.DataType],
    rejected: tuple[RejectedRow, ...] = (),
) -> Batch:
    """A batch with the columns as asked for, without the rows where they cannot be.

    Parameters
    ----------
    path : str
        For messages.
    rows : array, shape (n,), int64
        Row numbers.
    columns : mapping of str to pyarrow array of length n
        As read.
    types : mapping of str to pyarrow.DataType
        What each should be.
    rejected : tuple of RejectedRow
        Rows that were rejected before.

    Raises
    ------
    SpecError
        If a column can be it in no row: a list where a number is wanted, say.
    """
    conformed: dict[str, Conformed] = {}
    for name, wanted in types.items():
        try:
            conformed[name] = conform(columns[name], wanted)
        except Mismatch as mismatch:
            raise SpecError(path, f"column '{name}': {mismatch}") from None
    table = pa.table({name: column.values for name, column in conformed.items()})
    bad = [column.bad for column in conformed.values() if column.bad is not None]
    if not bad:
        return Batch(rows, table, rejected)
    failed = np.logical_or.reduce(bad)
    found = [
        RejectedRow(path, int(rows[index]), _first_reason(conformed, int(index)))
        for index in np.flatnonzero(failed)
    ]
    together = tuple(sorted([*rejected, *found], key=lambda row: row.row))
    return Batch(rows[~failed], table.filter(pa.array(~failed)), together)


def _first_reason(conformed: Mapping[str, Conformed], index: int) -> str:
    return next(
        column.reason(name, index)
        for name, column in conformed.items()
        if column.bad is not None and column.bad[index]
    )


def conform(column: pa.Array | pa.ChunkedArray, wanted: pa.DataType) -> Conformed:
    """A column as `wanted`: of one value, of a short list, or of an array in each row.

    An array that is taken as it comes (``pa.null()``) is the flat list of its values.

    Raises
    ------
    Mismatch
        If that makes no sense for this column.
    """
    if isinstance(column.type, pa.DictionaryType):
        column = column.cast(column.type.value_type)
    if is_tensor(wanted):
        return conform_arrays(one_chunk(column), wanted)
    if pa.types.is_null(wanted):
        return Conformed(one_chunk(column).storage if is_tensor(column.type) else column)
    if column.type.equals(wanted):
        return Conformed(column)
    if pa.types.is_fixed_size_list(wanted):
        return conform_lists(one_chunk(column), wanted)
    if is_tensor(column.type):
        shape = shape_of(column.type)
        raise Mismatch(f"expected one number per row, the file holds rows of shape {shape}")
    return conform_scalars(column, wanted)
