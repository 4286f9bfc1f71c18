"""Ids, exactly as their files hold them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_text
from galbatch.intake.types import item_type
from galbatch.spec.columns import Column
from galbatch.spec.survey import Survey

HYPHEN = "-"
"""Between the parts of an id that is made as text."""
_HALF = 2**32
_WIDE = pa.decimal128(38, 0)
_MOST_DIGITS = 21
"""Of a 64-bit integer, with its sign."""
# As text an id of digits keeps its zeros in front: 007 is not 7.
_INTEGER = r"^\s*(0|[+-]?[1-9]\d*)(\.0*)?\s*$"
_FLOAT = r"^\s*[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?\s*$"
_BEYOND_INT64, _BEYOND_UINT64 = 2**63, 2**64
_NOTHING = ("", "null", "none", "na", "n/a", "nan", "--", "\\n")
"""Spellings of "no value" in text, in small letters."""


def id_type(
    column: Column, arrived: pa.DataType | None, sample: pa.ChunkedArray | None
) -> pa.DataType:
    """The type that the ids of a file are read as.

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
        whole number, also where the survey wants text), int64 or uint64 for text of a text format
        whose first values are such numbers, and text.
    """
    is_float = arrived is not None and pa.types.is_floating(arrived)
    if is_float and column.dtype in (None, "string"):
        return pa.int64()
    if column.dtype is not None:
        return item_type(column)
    if arrived is None:
        return _type_of_text(sample)
    if pa.types.is_integer(arrived):
        return arrived
    return pa.int64() if pa.types.is_decimal(arrived) else pa.string()


def _type_of_text(sample: pa.ChunkedArray | None) -> pa.DataType:
    if sample is None or not len(sample):
        return pa.int64()
    known = sample.filter(pc.invert(no_ids(sample)))
    if not pc.all(pc.match_substring_regex(known, _INTEGER), min_count=0).as_py():
        # Numbers that are no integers are no ids: a spreadsheet may have rounded them.
        floats = pc.all(pc.match_substring_regex(known, _FLOAT), min_count=0).as_py()
        return pa.int64() if floats else pa.string()
    digits = pc.utf8_trim(pc.replace_substring_regex(known, r"\.0*\s*$", ""), characters=" +")
    values = [int(value) for value in digits.to_pylist()] or [0]
    if min(values) >= -_BEYOND_INT64 and max(values) < _BEYOND_INT64:
        return pa.int64()
    return pa.uint64() if min(values) >= 0 and max(values) < _BEYOND_UINT64 else pa.string()


def integers(
    text: pa.ChunkedArray, wanted: pa.DataType
) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Ids of a text format as the integers that the first of them are.

    Parameters
    ----------
    text : pyarrow.ChunkedArray, n rows
    wanted : pyarrow.DataType
        int64 or uint64.

    Returns
    -------
    tuple of pyarrow.ChunkedArray and array, shape (n,), bool
        The ids, null where there is none, and where there is text that is no such integer: with
        zeros in front, too, which an integer would lose.
    """
    missing = no_ids(text)
    whole = pc.match_substring_regex(text, _INTEGER)
    digits = pc.utf8_trim(pc.replace_substring_regex(text, r"\.0*\s*$", ""), characters=" \t+")
    short = pc.less_equal(pc.utf8_length(digits), _MOST_DIGITS)
    usable = pc.fill_null(pc.and_(whole, short), False)
    values = pc.if_else(usable, digits, pa.scalar(None, pa.string())).cast(_WIDE)
    low, high = (0, _BEYOND_UINT64) if wanted == pa.uint64() else (-_BEYOND_INT64, _BEYOND_INT64)
    fits = pc.and_(
        pc.greater_equal(values, pa.scalar(low, _WIDE)), pc.less(values, pa.scalar(high, _WIDE))
    )
    bad = pc.invert(pc.or_(missing, pc.fill_null(fits, False)))
    good = pc.fill_null(fits, False)
    found = pc.if_else(good, values, pa.scalar(None, _WIDE)).cast(wanted)
    return found, np.array(bad)


def no_ids(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where text is no id: it is null, empty, or spells "no value"."""
    known = pc.utf8_lower(pc.utf8_trim_whitespace(text))
    return pc.or_(pc.is_null(text), pc.is_in(known, value_set=pa.array(_NOTHING)))


def beyond(column: Column, ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Ids that the 64-bit integers which the survey wants do not hold."""
    if column.dtype not in ("int64", "uint64") or not pa.types.is_integer(ids.type):
        return np.zeros(len(ids), bool)
    signed = pa.types.is_signed_integer(ids.type)
    if column.dtype == "uint64" and signed:
        return _true(pc.less(ids, 0))
    if column.dtype == "int64" and ids.type == pa.uint64():
        return _true(pc.greater_equal(ids, pa.scalar(_BEYOND_INT64, pa.uint64())))
    return np.zeros(len(ids), bool)


def as_wanted(column: Column, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids in the type that the survey says, if that is text or of 64 bits.

    Those that are `beyond` it come out as other numbers.
    """
    if column.dtype in ("int64", "uint64", "string"):
        return ids.cast(item_type(column), safe=False)
    return ids


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
