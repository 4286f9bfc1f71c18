"""One number or text in a row, as the type that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_text
from galbatch.readers.numpy_arrow import as_text

NULLS = ("", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "--", "\\N")
"""What stands for "no value" in text."""

_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^-?(?i:nan|inf|infinity)$"
_FLOATS = {11: "float16", 24: "float32", 53: "float64"}
_WHOLE = r"^[+-]?\d+$"
_INFINITE = r"^[+-]?(?i:inf|infinity)$"
_EXACT = 2.0**53
"""From here on not every whole number is a float64."""
_WIDE = pa.decimal256(76, 0)


class Mismatch(Exception):
    """A column that cannot be what was asked for in any row."""


class Conformed:
    """A column as it was asked for.

    Parameters
    ----------
    values : pyarrow.Array or pyarrow.ChunkedArray
    bad : array of bool or None
        Rows that could not be converted; None where all could.
    expected : str
        ``a number``, for the message.
    text : pyarrow.Array or None
        What the bad rows held.
    beyond : array of bool or None
        Bad rows of which there is something else to say than what was expected.
    why : str
        That: ``is beyond 2**53, ...``.
    wanted : pyarrow.DataType or None
        What a number in the text should have become; None where the bad rows hold no numbers.
    problem : callable or None
        What is wrong with a bad row, by its place, where the rest does not say it.
    """

    def __init__(
        self,
        values: pa.Array | pa.ChunkedArray,
        bad: NDArray[np.bool_] | None = None,
        expected: str = "",
        text: pa.Array | None = None,
        beyond: NDArray[np.bool_] | None = None,
        why: str = "",
        wanted: pa.DataType | None = None,
        problem: Callable[[int], str] | None = None,
    ) -> None:
        self.values = values
        self.bad = bad if bad is not None and bad.any() else None
        self.expected = expected
        self.text = text
        self.beyond = beyond
        self.why = why
        self.wanted = wanted
        self.problem = problem

    def reason(self, name: str, row: int) -> str:
        """Why a row was rejected."""
        if self.problem is not None:
            return f"column '{name}': {self.problem(row)}"
        arrived = str(self.text[row].as_py()) if self.text is not None else ""
        beyond = _beyond(arrived.strip(), self.wanted) if self.wanted is not None else ""
        if len(arrived) > 40:
            arrived = arrived[:37] + "..."
        if self.beyond is not None and self.beyond[row]:
            return f"column '{name}': {arrived} {self.why}"
        if beyond:
            return f"column '{name}': {arrived.strip()} {beyond}"
        is_number = self.text is not None and is_numeric(self.text.type)
        shown = arrived if is_number else repr(arrived)
        return f"column '{name}': expected {self.expected}, got {shown}"


def _beyond(text: str, wanted: pa.DataType) -> str:
    """What is the matter with a number that `wanted` cannot hold; empty for none."""
    if re.match(_WHOLE, text, re.ASCII) is None:
        number = re.match(_NUMBER, text.lstrip("+"), re.ASCII)
        too_large = number is not None and pa.types.is_floating(wanted)
        return f"is too large for {_name(wanted)}" if too_large else ""
    if wanted not in (pa.int64(), pa.uint64()) and not pa.types.is_floating(wanted):
        return ""
    exactly = " exactly" if pa.types.is_floating(wanted) else ""
    # Python takes no more than 4,300 digits.
    whole = int(text) if len(text) < 40 else 10**40
    fitting = ["int64"] if -(2**63) <= whole < 2**63 else []
    fitting += ["uint64"] if 2**63 <= whole < 2**64 else []
    return (
        f"is a whole number that {_name(wanted)} cannot hold{exactly}: "
        f"give the column's dtype in the survey ({', '.join([*fitting, 'string'])})"
    )


def _name(type_: pa.DataType) -> str:
    return {"double": "float64", "float": "float32"}.get(str(type_), str(type_))


def conform_scalars(column: pa.Array | pa.ChunkedArray, wanted: pa.DataType) -> Conformed:
    """A column of one value in a row as `wanted`, with every number the one that the file holds.

    Integers where integers are wanted, and floats where floats are, keep the width that they have
    in the file. Otherwise a value that would become another one is bad: a float that is no whole
    number, or one so large that it stands for several, where an integer is wanted; an integer
    that no float64 holds where a float is wanted. NaN becomes null where it cannot be kept.
    Decimals are read as the digits that they are. Dates and times are text, never numbers.

    Raises
    ------
    Mismatch
        If that makes no sense for this column.
    """
    arrived = column.type
    if arrived.equals(wanted) or pa.types.is_null(wanted):
        return Conformed(column)
    if is_text(arrived) or _is_bytes(arrived):
        text = as_text(one_chunk(column))
        return Conformed(text) if pa.types.is_string(wanted) else _numbers(text, wanted)
    if pa.types.is_null(arrived):
        return Conformed(column.cast(wanted))
    if pa.types.is_string(wanted):
        return Conformed(_written(one_chunk(column)))
    if pa.types.is_boolean(arrived):
        return Conformed(column.cast(wanted))
    if not is_numeric(arrived):
        raise Mismatch(f"expected one number per row, the file holds {arrived}")
    if pa.types.is_decimal(arrived):
        return _of_decimals(one_chunk(column), wanted)
    if pa.types.is_integer(wanted) and pa.types.is_floating(arrived):
        return _whole_floats(one_chunk(column), wanted)
    if pa.types.is_floating(wanted) and pa.types.is_integer(arrived):
        return _floats(one_chunk(column))
    return Conformed(column)


def _whole_floats(column: pa.Array, wanted: pa.DataType) -> Conformed:
    """Floats that are integers as those; NaN as null."""
    # A float with as many digits as it has stands for its neighbours too.
    digits = {16: 11, 32: 24, 64: 53}[column.type.bit_width]
    values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    missing = np.isnan(values)
    limits = np.iinfo(wanted.to_pandas_dtype())
    beyond = np.isfinite(values) & (np.abs(values) >= 2.0**digits)
    bad = ~missing & (values != np.trunc(values))
    bad |= ~missing & ~beyond & ((values < float(limits.min)) | (values > float(limits.max)))
    bad |= beyond
    whole = np.where(missing | bad, 0, values).astype(wanted.to_pandas_dtype())
    result = pa.array(whole, wanted, mask=missing | bad)
    why = f"is beyond 2**{digits}, where a {_FLOATS[digits]} no longer says which integer it is"
    return Conformed(result, bad, f"a whole number ({wanted})", column, beyond, why)


def _floats(column: pa.Array) -> Conformed:
    """Integers as float64."""
    null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    size = values.astype(np.uint64)
    if values.dtype.kind == "i":
        size = np.where(values < 0, ~size + np.uint64(1), size)
    large = size > 2**53
    bad = np.zeros(len(values), dtype=bool)
    if large.any():
        # A float64 holds an integer that has 53 digits or fewer from its first 1 to its last.
        lowest = size[large] & (~size[large] + np.uint64(1))
        bad[large] = size[large] // lowest >= 2**53
    result = pa.array(values.astype(np.float64), mask=null | bad)
    why = (
        "is beyond 2**53, where a float64 no longer says which integer it is (give the column's "
        "dtype in the survey: int64 or string)"
    )
    return Conformed(result, bad, "a number", column, bad, why)


def _of_decimals(column: pa.Array, wanted: pa.DataType) -> Conformed:
    """Decimals as integers, digit by digit, or as floats."""
    if pa.types.is_floating(wanted) and column.type.scale > 0:
        return Conformed(column.cast(wanted))
    digits = pc.replace_substring_regex(column.cast(pa.string()), r"\.0*$", "")
    if pa.types.is_integer(wanted):
        return _numbers(digits, wanted)
    values = column.cast(pa.float64())
    exact = pc.equal(values.cast(pa.decimal128(38, 0), safe=False), column)
    bad = ~np.asarray(pc.fill_null(exact, True).to_numpy(zero_copy_only=False), dtype=bool)
    return Conformed(values, bad, "a number that a float64 holds", digits)


def _written(column: pa.Array) -> pa.Array:
    """Numbers, dates and times as they are written; whole numbers as such."""
    arrived = column.type
    if pa.types.is_floating(arrived):
        if pa.types.is_float16(arrived):
            column = column.cast(pa.float32())
        values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        whole = (values == np.trunc(values)) & (np.abs(values) < 2.0**53)
        integers = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
        text = pc.if_else(pa.array(whole), integers, column.cast(pa.string()))
        return pc.if_else(pa.array(np.isnan(values)), pa.scalar(None, pa.string()), text)
    if is_numeric(arrived) or pa.types.is_temporal(arrived):
        return column.cast(pa.string())
    raise Mismatch(f"expected text, the file holds {arrived}")


def one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
        or pa.types.is_fixed_size_binary(type_)
    )


def is_numeric(type_: pa.DataType) -> bool:
    """Whether a type is of numbers, decimals too."""
    return bool(
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    )


def _numbers(text: pa.Array, wanted: pa.DataType) -> Conformed:
    """Text as numbers, empty as null."""
    trimmed = pc.utf8_trim_whitespace(text)
    empty = pc.is_in(trimmed, value_set=pa.array(NULLS))
    trimmed = pc.if_else(empty, pa.scalar(None, pa.string()), trimmed)
    try:
        values = trimmed.cast(wanted)
        if not misread(trimmed, values).any():
            return Conformed(values)
    except pa.ArrowInvalid:
        pass
    trimmed = pc.replace_substring_regex(trimmed, r"^\+([0-9.])", r"\1")
    if pa.types.is_floating(wanted):
        good = pc.match_substring_regex(trimmed, _NUMBER)
        values = text_where(good, trimmed).cast(wanted)
        good = pc.and_(good, pa.array(~misread(trimmed, values)))
        expected = "a number"
    elif pa.types.is_integer(wanted):
        values, good = _whole_numbers(trimmed, wanted)
        expected = f"a whole number ({wanted})"
    else:
        raise Mismatch(f"expected {wanted}, the file holds text")
    bad = ~np.asarray(pc.fill_null(good, True).to_numpy(zero_copy_only=False), dtype=bool)
    return Conformed(values, bad, expected, text, wanted=wanted)


def text_where(good: pa.Array, text: pa.Array) -> pa.Array:
    """The texts where something holds, null elsewhere."""
    return pc.if_else(pc.fill_null(good, False), text, pa.scalar(None, pa.string()))


def is_large(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether there are floats in it that may be rounded whole numbers: a quick look."""
    if not pa.types.is_floating(values.type):
        return False
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    return any(
        bool((np.abs(chunk.to_numpy(zero_copy_only=False)) >= _EXACT).any()) for chunk in chunks
    )


def misread(
    text: pa.Array | pa.ChunkedArray, values: pa.Array | pa.ChunkedArray
) -> NDArray[np.bool_]:
    """Where numbers are not what a text says.

    A whole number is rounded to a float, a number is too large for one, or an integer is written
    as 0xFF (Arrow takes one of 64 bits for a negative one).

    Parameters
    ----------
    text : pyarrow array of n strings
    values : pyarrow array of n numbers
        Read from `text`.
    """
    if not pa.types.is_floating(values.type):
        found = pc.fill_null(pc.match_substring(one_chunk(text), "x", ignore_case=True), False)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)
    numbers = one_chunk(values).to_numpy(zero_copy_only=False).astype(np.float64)
    wrong: NDArray[np.bool_] = np.abs(numbers) >= _EXACT
    large = pa.array(np.flatnonzero(wrong))
    found = pc.utf8_trim_whitespace(one_chunk(text).take(large))
    infinite = np.isinf(numbers[wrong])
    claimed = pc.match_substring_regex(found, _INFINITE).to_numpy(zero_copy_only=False)
    whole = pc.match_substring_regex(found, _WHOLE)
    # Decimals have 76 digits; a whole number with more is rounded, but for rare chance.
    short = pc.and_(whole, pc.less(pc.utf8_length(found), 76))
    short = pc.and_(short, pa.array(np.abs(numbers[wrong]) < 1e75))
    exact = pc.equal(
        text_where(short, found).cast(_WIDE),
        pa.array(np.where(short, numbers[wrong], 0)).cast(_WIDE),
    )
    rounded = pc.and_(whole, pc.invert(pc.fill_null(exact, False)))
    wrong[wrong] = np.where(infinite, ~claimed, rounded)
    return wrong


def _whole_numbers(text: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Integers, also where they are written as `3.0` or `nan`; which are fine (null: was null)."""
    limits = np.iinfo(wanted.to_pandas_dtype())
    low, high = int(limits.min), int(limits.max)
    digits = pc.utf8_ltrim(pc.utf8_ltrim(text, characters="-"), characters="0")
    minus = pc.starts_with(text, "-")
    # As text of the same length, numbers compare in the same order.
    most = pc.if_else(minus, str(-low), str(high))
    length, longest = pc.utf8_length(digits), pc.utf8_length(most)
    fits = pc.or_(
        pc.less(length, longest), pc.and_(pc.equal(length, longest), pc.less_equal(digits, most))
    )
    fits = pc.and_(fits, pc.match_substring_regex(text, _WHOLE))
    sign = pc.if_else(pc.and_(minus, pc.greater(length, 0)), "-", "")
    plain = pc.binary_join_element_wise(sign, pc.if_else(pc.equal(length, 0), "0", digits), "")
    exact = text_where(fits, plain).cast(wanted)
    real = text_where(pc.match_substring_regex(text, _NUMBER), text).cast(pa.float64())
    missing = pc.is_nan(real)
    # From 2**53 on a float no longer says which integer it was.
    integral = pc.and_(pc.equal(real, pc.trunc(real)), pc.less(pc.abs(real), _EXACT))
    inside = pc.and_(pc.greater_equal(real, float(low)), pc.less_equal(real, float(high)))
    rounded = pc.if_else(
        pc.fill_null(pc.and_(integral, inside), False), real, pa.scalar(None, pa.float64())
    )
    values = pc.coalesce(exact, rounded.cast(wanted))
    good = pc.or_(pc.is_valid(values), pc.fill_null(missing, False))
    return values, pc.if_else(pc.is_null(text), pa.scalar(None, pa.bool_()), good)
