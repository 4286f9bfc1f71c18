"""From NumPy columns, as files hold them, to Arrow."""

from __future__ import annotations

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
        Numbers, booleans, or text (bytes, unicode, objects). More than one dimension makes a
        fixed-size list of all the values of a row.
    null : array of bool, same shape, optional
        Values that are missing.

    Returns
    -------
    pyarrow.Array
        Of length n.
    """
    if values.dtype.kind in "SUO":
        return _text(values)
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    flat = pa.array(native.reshape(-1), mask=None if null is None else null.reshape(-1))
    if values.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def _text(values: NDArray[Any]) -> pa.Array:
    if values.ndim > 1:
        raise TypeError("a column of several texts per row")
    array = pa.array(values)
    if pa.types.is_binary(array.type):
        try:
            array = array.cast(pa.string())
        except pa.ArrowInvalid:
            array = pa.array([value.decode("latin-1") for value in values.tolist()])
    return pc.utf8_rtrim_whitespace(array)
