"""From NumPy columns, as files hold them, to Arrow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def from_numpy(values: NDArray[Any], null: NDArray[np.bool_] | None = None) -> pa.Array:
    """A column as an Arrow array of native byte order.

    Parameters
    ----------
    values : array, shape (n,) or (n, ...)
        Numbers, booleans, or text (bytes, unicode, objects). A second axis makes a
        fixed-size list, more of them an array of their shape. Text ends at its first zero byte.
    null : array of bool, same shape, optional
        Values that are missing.

    Returns
    -------
    pyarrow.Array
        Of length n.
    """
    if values.dtype.kind in "SUO":
        return _text(values, null)
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    flat = pa.array(native.reshape(-1), mask=None if null is None else null.reshape(-1))
    if values.ndim == 1:
        return flat
    rows = pa.FixedSizeListArray.from_arrays(flat, math.prod(values.shape[1:]))
    if values.ndim == 2:
        return rows
    return pa.fixed_shape_tensor(flat.type, values.shape[1:]).wrap_array(rows)


def as_text(values: pa.Array) -> pa.Array:
    """Bytes as text: UTF-8, or Latin-1 where they are not that."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        decoded = [None if one is None else _decoded(one) for one in values.to_pylist()]
        return pa.array(decoded, pa.string())


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _text(values: NDArray[Any], null: NDArray[np.bool_] | None) -> pa.Array:
    if values.ndim > 1:
        raise TypeError("a column of several texts per row")
    array = pa.array(values, mask=null)
    if not pa.types.is_string(array.type):
        array = as_text(array)
    if pc.any(pc.match_substring(array, "\0")).as_py():
        array = pc.replace_substring_regex(array, r"(?s)\x00.*", "")
    return pc.utf8_rtrim_whitespace(array)
