"""Ids, exactly as their files hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.intake.types import is_number, is_text, item_type
from galbatch.spec.survey import Column, Survey

HYPHEN = "-"
"""Between the parts of an id that is made as text."""
_HALF = 2**32
# As text an id of digits keeps its zeros in front: 007 is not 7.
_INTEGER = r"^\s*(0|[+-]?[1-9]\d*)(\.0*)?\s*$"
_BEYOND_INT64 = 2**63


def id_type(
    column: Column, arrived: pa.DataType | None, sample: pa.ChunkedArray | None
) -> pa.DataType:
    """What the ids of a file are read as.

    Parameters
    ----------
    column : Column
        Of the id, or of a part of it.
    arrived : pyarrow.DataType or None
        What the file keeps it as; None for text formats.
    sample : pyarrow.ChunkedArray or None
        The first values of a text format.

    Returns
    -------
    pyarrow.DataType
        What the survey says; otherwise the file's own integers, int64 for floats (each must be a
        whole number), int64 or uint64 for text of a text format whose first values are such
        numbers, and text.
    """
    if column.dtype is not None:
        return item_type(column)
    if arrived is None:
        return _type_of_text(sample)
    if pa.types.is_integer(arrived):
        return arrived
    return pa.int64() if is_number(arrived) or pa.types.is_decimal(arrived) else pa.string()


def _type_of_text(sample: pa.ChunkedArray | None) -> pa.DataType:
    if sample is None or not len(sample):
        return pa.int64()
    known = sample.filter(pc.not_equal(pc.utf8_trim_whitespace(sample), ""))
    if not pc.all(pc.match_substring_regex(known, _INTEGER), min_count=0).as_py():
        return pa.string()
    digits = pc.utf8_trim(pc.replace_substring_regex(known, r"\.0*\s*$", ""), characters=" +")
    largest = max((int(value) for value in digits.to_pylist()), default=0)
    return pa.uint64() if largest >= _BEYOND_INT64 else pa.int64()


def common_id_type(types: Iterable[pa.DataType], low: int, high: int) -> pa.DataType:
    """One type for the ids of all files.

    Parameters
    ----------
    types : iterable of pyarrow.DataType
        Integers of any kind, and text.
    low, high : int
        The smallest and the largest of the integers.

    Returns
    -------
    pyarrow.DataType
        The widest of the integers; uint64 where they are beyond int64 and none is negative; text
        where one is text, or no integer type holds them all.
    """
    found = set(types)
    if any(is_text(one) for one in found):
        return pa.string()
    if len(found) == 1:
        return found.pop()
    if high < _BEYOND_INT64:
        return pa.int64()
    return pa.uint64() if low >= 0 else pa.string()


def refused_parts(
    survey: Survey, name: str, column: pa.ChunkedArray
) -> tuple[str, NDArray[np.bool_]]:
    """Rows whose part of an id of several columns cannot be one.

    Parameters
    ----------
    survey : Survey
    name : str
        Of the part.
    column : pyarrow.ChunkedArray, n rows

    Returns
    -------
    tuple of str and array, shape (n,), bool
        What was expected, and which rows hold something else.
    """
    if survey.id_is_text:
        text = column.cast(pa.string())
        holds = pc.match_substring(text, HYPHEN)
        if not is_text(column.type):  # a minus sign
            holds = pc.starts_with(text, HYPHEN)
        return f"a part of the id without '{HYPHEN}'", _true(holds)
    # The high half leaves room for the sign.
    stop = _HALF // 2 if name == survey.id.parts[0] else _HALF
    expected = f"a whole number from 0 to {stop - 1}, a part of the id"
    if not pa.types.is_integer(column.type):
        return expected, np.ones(len(column), bool)
    return expected, _true(pc.or_(pc.less(column, 0), pc.greater_equal(column, stop)))


def made_id(survey: Survey, parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The id of rows whose key is in several columns.

    Parameters
    ----------
    survey : Survey
    parts : sequence of pyarrow.ChunkedArray, n rows each
        In the order of the survey's. What `refused_parts` refuses makes an id without meaning.

    Returns
    -------
    pyarrow.ChunkedArray, n rows
        int64: high * 2**32 + low; or text with a hyphen between the parts.
    """
    if survey.id_is_text:
        return pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), HYPHEN)
    high, low = (_half(part) for part in parts)
    return pa.chunked_array([pa.array(high * _HALF + low)])


def _half(part: pa.ChunkedArray) -> NDArray[np.int64]:
    if not pa.types.is_integer(part.type):
        return np.zeros(len(part), np.int64)
    whole = pc.fill_null(part, 0).to_numpy()
    return np.where((whole >= 0) & (whole < _HALF), whole, 0).astype(np.int64)


def _true(mask: pa.ChunkedArray) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy()
    return found
