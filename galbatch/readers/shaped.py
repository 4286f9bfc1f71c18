"""Several values in a row, a short list or an array, as the type that was asked for."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_list, is_tensor, is_text, shape_of
from galbatch.readers.scalars import (
    NULLS,
    Conformed,
    Mismatch,
    conform_scalars,
    is_numeric,
    one_chunk,
    text_where,
)

_BRACKETS = r"[\[\](){},;\s]+"
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""By bits of a float: up to here it holds every integer."""


def conform_lists(column: pa.Array, wanted: pa.FixedSizeListType) -> Conformed:
    """Fixed-size lists, from lists or from text like `1.0 2.0 3.0` or `[1.0, 2.0]`."""
    size = wanted.list_size
    if is_tensor(column.type):
        if shape_of(column.type) != (size,):
            raise _another_shape((size,), column.type)
        column = column.storage
    arrived = column.type
    if pa.types.is_fixed_size_list(arrived):
        if arrived.list_size != size:
            raise Mismatch(f"expected {size} values per row, the file holds {arrived.list_size}")
        inner = arrived.value_type
        if not is_numeric(inner) and not pa.types.is_boolean(inner):
            raise Mismatch(f"expected {size} numbers per row, the file holds {arrived}")
        return _fixed(column, wanted)
    if is_text(arrived):
        text = column.cast(pa.string())
        if pc.any(pc.match_substring_regex(text, r"[\[({,;]")).as_py():
            text = pc.replace_substring_regex(text, _BRACKETS, " ")
        text = pc.utf8_trim_whitespace(text)
        empty = pc.is_in(text, value_set=pa.array(NULLS))
        lists = pc.ascii_split_whitespace(text_where(pc.invert(empty), text))
    elif pa.types.is_list(arrived) or pa.types.is_large_list(arrived):
        text, lists = None, column
        if not (is_numeric(arrived.value_type) or is_text(arrived.value_type)):
            raise Mismatch(f"expected {size} numbers per row, the file holds {arrived}")
    elif pa.types.is_null(arrived):
        return Conformed(pa.nulls(len(column), wanted))
    else:
        raise Mismatch(f"expected {size} values per row, the file holds {arrived}")
    return _from_lists(lists, wanted, text)


def _fixed(column: pa.Array, wanted: pa.FixedSizeListType) -> Conformed:
    size = wanted.list_size
    inner = conform_scalars(
        column.values.slice(column.offset * size, len(column) * size), wanted.value_type
    )
    null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    values = pa.FixedSizeListArray.from_arrays(one_chunk(inner.values), size, mask=pa.array(null))
    if inner.bad is None:
        return Conformed(values)
    bad = inner.bad.reshape(-1, size).any(axis=1) & ~null
    return Conformed(values, bad, f"{size} values, each {inner.expected}", column)


def _from_lists(lists: pa.Array, wanted: pa.FixedSizeListType, text: pa.Array | None) -> Conformed:
    size = wanted.list_size
    lengths = pc.list_value_length(lists)
    null = np.asarray(pc.is_null(lists).to_numpy(zero_copy_only=False), dtype=bool)
    wrong = ~null & (pc.fill_null(lengths, size).to_numpy(zero_copy_only=False) != size)
    # Null and wrong rows keep `size` places, so that all rows have the same length.
    usable = ~null & ~wrong
    kept = lists.filter(pa.array(usable)).flatten()
    numbers = conform_scalars(kept, wanted.value_type)
    values = one_chunk(numbers.values)
    if usable.all():
        spread = values
    else:
        place = np.full(len(lists), -1, dtype=np.int64)
        place[usable] = np.arange(usable.sum())
        index = place[:, None] * size + np.arange(size)
        spread = values.take(pa.array(index.ravel(), mask=np.repeat(~usable, size)))
    result = pa.FixedSizeListArray.from_arrays(spread, size, mask=pa.array(~usable))
    bad = wrong.copy()
    if numbers.bad is not None:
        bad[usable] |= numbers.bad.reshape(-1, size).any(axis=1)
    shown = text if text is not None else lists
    return Conformed(result, bad, f"{size} numbers", shown)


def conform_arrays(column: pa.Array, wanted: pa.FixedShapeTensorType) -> Conformed:
    """Arrays, from arrays and lists of any kind whose rows have the wanted shape.

    Every number stays the one that the file holds: floats are widened and never narrowed,
    integers must fit. A value that is missing inside a row is NaN.

    Parameters
    ----------
    column : pyarrow array of n rows
    wanted : pyarrow.FixedShapeTensorType

    Raises
    ------
    Mismatch
        If the file's rows have another shape, or its numbers could not be kept.
    """
    shape, arrived = shape_of(wanted), column.type
    if pa.types.is_null(arrived):
        return Conformed(pa.nulls(len(column), wanted))
    if is_tensor(arrived):
        if shape_of(arrived) != shape:
            raise _another_shape(shape, arrived)
        if arrived.permutation not in (None, list(range(len(shape)))):
            raise Mismatch(f"the axes of its arrays are permuted ({arrived.permutation})")
        column = column.storage
    elif is_text(arrived):
        formats = "FITS, HDF5, Zarr, Parquet and NumPy files"
        raise Mismatch(f"expected rows of shape {shape}, the file holds text: take {formats}")
    elif not is_list(arrived):
        raise Mismatch(f"expected rows of shape {shape}, the file holds {arrived}")
    elif _stated_shape(arrived) not in (None, shape):
        raise _another_shape(shape, arrived)
    null = _bools(column.is_null())
    if is_tensor(arrived) or (pa.types.is_fixed_size_list(arrived) and len(shape) == 1):
        size = column.type.list_size
        flat = column.values.slice(column.offset * size, len(column) * size)
        kept = np.ones(len(column), dtype=bool)
    else:
        flat, kept = _flattened(column, shape, ~null)
    values, bad = _exact_items(flat, wanted.value_type, shape)
    wrong = ~kept & ~null
    if bad is not None:
        wrong[kept] |= bad
    wrong &= ~null
    item = wanted.value_type

    def problem(row: int) -> str:
        if kept[row]:
            return f"expected values of {item} in the array, got {_first_unfit(column, row, item)}"
        outer = pc.list_value_length(column.slice(row, 1))[0].as_py()
        got = f"got {outer} values" if outer != shape[0] else "got another"
        return f"expected an array of shape {shape}, {got}"

    storage = _rows_of(values, kept, null | ~kept, math.prod(shape))
    return Conformed(wanted.wrap_array(storage), wrong, problem=problem)


def _another_shape(shape: tuple[int, ...], arrived: pa.DataType) -> Mismatch:
    found = _stated_shape(arrived) or ()
    problem = f"expected rows of shape {shape}, the file holds rows of shape {found}"
    if sorted(found) != sorted(shape):
        return Mismatch(problem)
    listed = ", ".join(map(str, found))
    return Mismatch(f"{problem}, with its axes in another order: write shape: [{listed}]")


def _first_unfit(column: pa.Array, row: int, item: pa.DataType) -> str:
    """The first value of an array's row that is missing, or that `item` cannot hold."""
    values = column.slice(row, 1)
    while is_list(values.type):
        values = values.flatten()
    low, high = _range(item)
    for place, value in enumerate(values.to_pylist()):
        if value is None or not low <= value <= high:
            return f"{'none' if value is None else value} at value {place + 1:,} of {len(values):,}"
    return "another"


def _stated_shape(arrived: pa.DataType) -> tuple[int, ...] | None:
    """The shape of all rows of a type; None where the rows may differ."""
    if is_tensor(arrived):
        return shape_of(arrived)
    sizes = []
    while pa.types.is_fixed_size_list(arrived):
        sizes.append(arrived.list_size)
        arrived = arrived.value_type
    return None if is_list(arrived) or not sizes else tuple(sizes)


def _bools(array: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _flattened(
    column: pa.Array, shape: tuple[int, ...], usable: NDArray[np.bool_]
) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The values of the rows that have the shape, and which rows these are."""
    axes, inner = 0, column.type
    while is_list(inner):
        axes, inner = axes + 1, inner.value_type
    if axes != len(shape):
        held = "a flat list in each row" if axes == 1 else f"lists of {axes} axes"
        raise Mismatch(f"expected rows of shape {shape}, the file holds {held}")
    kept = usable.copy()
    level = column if kept.all() else column.filter(pa.array(kept))
    each = 1
    for size in shape:
        lengths = pc.fill_null(pc.list_value_length(level), -1)
        good = (np.asarray(lengths) == size).reshape(-1, each).all(axis=1)
        if not good.all():
            level = level.filter(pa.array(np.repeat(good, each)))
            kept[kept] = good
        level, each = level.flatten(), each * size
    return level, kept


def _rows_of(
    values: pa.Array, kept: NDArray[np.bool_], null: NDArray[np.bool_], size: int
) -> pa.FixedSizeListArray:
    """Values of the rows that were kept, with room for those that were not."""
    if not kept.all():
        room = np.zeros((len(kept), size), dtype=values.type.to_pandas_dtype())
        room[kept] = np.asarray(values).reshape(-1, size)
        values = pa.array(room.reshape(-1))
    mask = pa.array(null) if null.any() else None
    return pa.FixedSizeListArray.from_arrays(values, size, mask=mask)


def _exact_items(
    flat: pa.Array, item: pa.DataType, shape: tuple[int, ...]
) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """The values as `item`, and rows that hold one that it cannot; None where all are fine."""
    arrived = flat.type
    size = math.prod(shape)
    if pa.types.is_boolean(arrived):
        flat = flat.cast(pa.uint8())
    elif pa.types.is_null(arrived):
        flat = flat.cast(item)
    elif not is_numeric(arrived) or pa.types.is_decimal(arrived):
        raise Mismatch(f"expected rows of numbers ({item}), the file holds {arrived}")
    if pa.types.is_floating(flat.type):
        if not pa.types.is_floating(item) or flat.type.bit_width > item.bit_width:
            raise _would_round(flat.type, item)
        floats = flat.cast(item)
        return (_filled(floats) if floats.null_count else floats), None
    bad = _bools(flat.is_null()) if flat.null_count and not pa.types.is_floating(item) else None
    values = np.asarray(flat.fill_null(0) if flat.null_count else flat)
    limits = np.iinfo(values.dtype)
    low, high = _range(item)
    if limits.min < low or limits.max > high:
        beyond = (values < low) | (values > high)
        bad = beyond if bad is None else bad | beyond
    result = pa.array(values.astype(item.to_pandas_dtype(), copy=False))
    if pa.types.is_floating(item) and flat.null_count:
        result = _filled(pc.if_else(flat.is_null(), pa.scalar(None, item), result))
    return result, None if bad is None else _any_in_row(bad, size)


def _any_in_row(values: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    return np.asarray(values.reshape(-1, size).any(axis=1))


def _filled(floats: pa.Array) -> pa.Array:
    return pc.fill_null(floats, pa.scalar(np.nan, floats.type))


def _range(item: pa.DataType) -> tuple[int, int]:
    """The integers that a type holds exactly: from, to."""
    if pa.types.is_floating(item):
        return -_EXACT[item.bit_width], _EXACT[item.bit_width]
    limits = np.iinfo(item.to_pandas_dtype())
    return int(limits.min), int(limits.max)


def _would_round(arrived: pa.DataType, item: pa.DataType) -> Mismatch:
    found, wanted = (np.dtype(kind.to_pandas_dtype()).name for kind in (arrived, item))
    return Mismatch(
        f"expected arrays of {wanted}, the file holds {found}, which {wanted} would round: write "
        f"dtype: {found} for the column in the survey"
    )
