"""Arrow types of a survey's columns."""

from __future__ import annotations

import pyarrow as pa

from galbatch.spec.survey import Column

_ITEMS: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "int16": pa.int16(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
}


def item_type(column: Column) -> pa.DataType:
    """Type of one value of a column, where neither survey nor file says otherwise float64."""
    return _ITEMS[column.kind]


def arrow_type(column: Column) -> pa.DataType:
    """Type of a column: of one value, or of a list of so many."""
    item = item_type(column)
    return pa.list_(item, column.length) if column.length else item


def wanted_type(column: Column, arrived: pa.DataType | None) -> pa.DataType:
    """What a reader is asked for.

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
    if column.dtype is None and not column.length and arrived is not None and is_number(arrived):
        return arrived
    return arrow_type(column)


def is_number(type_: pa.DataType) -> bool:
    """Whether a type is of integers or floats."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def is_text(type_: pa.DataType) -> bool:
    """Whether a type is of texts."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )
