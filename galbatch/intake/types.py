"""Arrow types of a survey's columns."""

from __future__ import annotations

import pyarrow as pa

from galbatch import columns
from galbatch.columns import is_number
from galbatch.spec.columns import Column


def item_type(column: Column) -> pa.DataType:
    """Type of one value of a column, where neither survey nor file says otherwise float64."""
    return columns.arrow_type(column.kind)


def arrow_type(column: Column) -> pa.DataType:
    """Type of a column: of one value, of a list, or of an array in each row."""
    return columns.arrow_type(column.kind, column.shape, column.axes)


def wanted_type(column: Column, arrived: pa.DataType | None) -> pa.DataType:
    """The type that a reader is asked for.

    Parameters
    ----------
    column : Column
    arrived : pyarrow.DataType or None
        What the file keeps the column as; None for text formats.

    Returns
    -------
    pyarrow.DataType
        What the survey says; where it says nothing, the number type of the file itself.
    """
    if column.dtype is None and not column.shape and arrived is not None and is_number(arrived):
        return arrived
    return arrow_type(column)
