"""Arrow types of columns: one number or text in a row, a short list, or an array of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.values import Dtype, is_array


def arrow_type(
    dtype: Dtype, shape: Sequence[int] = (), dimensions: Sequence[str] = ()
) -> pa.DataType:
    """The type of a column.

    Parameters
    ----------
    dtype : str
        Of one value.
    shape : sequence of int
        Of one row; empty for a scalar.
    dimensions : sequence of str
        A name for each axis; or none.

    Returns
    -------
    pyarrow.DataType
        ``fixed_shape_tensor`` for an array, a fixed-size list for a short list.
    """
    item = pa.string() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))
    if not shape:
        return item
    if is_array(shape):
        return pa.fixed_shape_tensor(item, list(shape), dim_names=list(dimensions) or None)
    return pa.list_(item, shape[0])


def is_tensor(kind: pa.DataType) -> bool:
    """Whether a type is of arrays."""
    return isinstance(kind, pa.FixedShapeTensorType)


def shape_of(kind: pa.DataType) -> tuple[int, ...]:
    """Shape of one row of a column of a type; empty for a scalar, or for rows of any length."""
    if is_tensor(kind):
        return tuple(kind.shape)
    return (kind.list_size,) if pa.types.is_fixed_size_list(kind) else ()


def value_type(kind: pa.DataType) -> pa.DataType:
    """Type of one value of a column of a type."""
    if is_tensor(kind) or pa.types.is_fixed_size_list(kind):
        return kind.value_type
    return kind


def bytes_in_row(kind: pa.DataType) -> int:
    """Bytes of one row of a column of a type; a guess for a text."""
    item = value_type(kind)
    size = max(item.bit_width // 8, 1) if pa.types.is_primitive(item) else 16
    return int(size * math.prod(shape_of(kind)))


def to_numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers as an array.

    Parameters
    ----------
    column : pyarrow array of n rows
        Scalars, fixed-size lists or arrays.

    Returns
    -------
    ndarray, shape (n, ...)
        A view where the column is in one chunk. Rows that are null hold anything.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    shape = shape_of(column.type)
    if not shape:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    storage = column.storage if is_tensor(column.type) else column
    size = math.prod(shape)
    flat = storage.values.slice(storage.offset * size, len(storage) * size)
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(storage), *shape)


def words(table: pa.Table, name: str) -> NDArray[np.str_]:
    """A column of words.

    Parameters
    ----------
    table : pyarrow.Table
    name : str

    Returns
    -------
    ndarray of str, shape (n,)
        Without spaces around them; empty where null, and of a column that is not there.
    """
    if name not in table.column_names:
        return np.zeros(table.num_rows, "U1")
    found = ["" if word is None else str(word).strip() for word in table[name].to_pylist()]
    return np.array(found, dtype=np.str_)


def from_numpy(
    values: NDArray[Any], kind: pa.DataType, null: NDArray[np.bool_] | None = None
) -> pa.Array:
    """An array as a column.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        NaN stays NaN.
    kind : pyarrow.DataType
        From `arrow_type`: of this shape.
    null : ndarray, shape (n,), bool, optional
        Rows that are missing.

    Returns
    -------
    pyarrow.Array
        n rows.
    """
    shape, item = shape_of(kind), value_type(kind)
    if values.shape[1:] != shape:
        raise ValueError(f"rows of shape {values.shape[1:]} for a column of {shape}")
    if not shape:
        return pa.array(values.astype(item.to_pandas_dtype(), copy=False), item, mask=null)
    flat = pa.array(np.ascontiguousarray(values, item.to_pandas_dtype()).reshape(-1), item)
    mask = None if null is None else pa.array(null)
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape), mask=mask)
    return kind.wrap_array(storage) if is_tensor(kind) else storage


def no_rows(kind: pa.DataType) -> pa.Array:
    """A column of a type without rows; pyarrow makes none of a tensor whose axes are permuted."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(pa.array([], kind.storage_type))
    return pa.array([], kind)


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is of integers or floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is of lists of any kind."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is of texts."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
