"""Columns of a VOTable: what they hold, and their values as Arrow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io.votable import tree
from numpy.typing import NDArray

from galbatch.readers.numpy_arrow import from_numpy

TEXT = ("char", "unicodeChar")
ELEMENTS = {
    "boolean": pa.bool_(), "bit": pa.bool_(), "unsignedByte": pa.uint8(), "short": pa.int16(),
    "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
}  # fmt: skip
_BYTES = {
    "boolean": 1, "unsignedByte": 1, "char": 1, "unicodeChar": 2, "short": 2, "int": 4, "float": 4,
    "long": 8, "double": 8, "floatComplex": 8, "doubleComplex": 16,
}  # fmt: skip


def name_of(column: tree.Field) -> str:
    """The name of a column, or its ID."""
    return str(column.name or column.ID)


def unit_of(column: tree.Field) -> str:
    """The unit of a column; empty where none is stated."""
    return str(column.unit or "").strip()


def type_of(column: tree.Field) -> pa.DataType | None:
    """What a column holds; None where that cannot be read."""
    if problem_of(column):
        return None
    if column.datatype in TEXT:
        return pa.string()
    one = ELEMENTS[column.datatype]
    if not column.arraysize:
        return one
    shape = str(column.arraysize)
    return pa.list_(one) if "*" in shape else pa.list_(one, math.prod(map(int, shape.split("x"))))


def bytes_in_cell(column: tree.Field) -> int | None:
    """What a cell takes in BINARY; None where that varies."""
    shape = str(column.arraysize or "1")
    if "*" in shape:
        return None
    count = math.prod(int(size) for size in shape.split("x"))
    return -(-count // 8) if column.datatype == "bit" else count * _BYTES[column.datatype]


def problem_of(column: tree.Field) -> str:
    """Why a column cannot be read, or nothing."""
    return "its numbers are complex" if column.datatype not in (*ELEMENTS, *TEXT) else ""


def expected_of(column: tree.Field) -> str:
    """What a cell should hold, for messages."""
    what = {"boolean": "true or false", "bit": "0 or 1", "float": "a number", "double": "a number"}
    one = what.get(column.datatype, f"a whole number ({ELEMENTS[column.datatype]})")
    if not column.arraysize:
        return one
    return "numbers" if "*" in column.arraysize else f"{column.arraysize} numbers"


def to_arrow(values: NDArray[Any], null: NDArray[Any], column: tree.Field) -> pa.Array:
    """The cells of a column, as astropy has them."""
    if column.datatype in TEXT:
        text = pa.array([value or None for value in values.tolist()], pa.string())
        return pc.utf8_rtrim_whitespace(text)
    if values.dtype.kind != "O":
        # Several axes are one list: arrays of a shape are read from other formats.
        size = math.prod(values.shape[1:])
        shape = (len(values), size) if values.ndim > 1 else (len(values),)
        return from_numpy(values.reshape(shape), np.asarray(null, dtype=bool).reshape(shape))
    rows = [np.ma.ravel(value) for value in values.tolist()]
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    null = np.concatenate([np.ma.getmaskarray(row) for row in rows])
    flat = from_numpy(np.concatenate([row.data for row in rows]), null)
    numbers = flat.cast(ELEMENTS[column.datatype], safe=False)
    return pa.ListArray.from_arrays(pa.array(offsets), numbers, mask=pa.array(lengths == 0))
