"""One type for a column that files keep in several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pyarrow as pa

from galbatch.columns import is_number, is_text
from galbatch.errors import SpecError

Limits = Callable[[str, Collection[str]], tuple[int, int]]
"""Smallest and largest integer of a column in some files."""
_EXACT = 2**53
"""Beyond it a float64 does not say which integer it was."""
_INT64 = 2**63
_UNIT = b"unit"
THE_STORE = "the store"
"""Used in place of a file name, for the columns in the store."""
_HINT = "say its dtype in the survey's 'columns'"


def common_field(
    name: str, fields: Sequence[tuple[str, pa.Field]], limits: Limits, *, is_id: bool
) -> pa.Field:
    """The field that holds a column of all files exactly.

    Parameters
    ----------
    name : str
        Of the column.
    fields : sequence of (str, pyarrow.Field)
        Files that have it, in order (the store first), and what it is there.
    limits : callable
        Asked only where the width of integers matters.
    is_id : bool
        Whether it is the survey's id: text of digits, where one file has text.

    Returns
    -------
    pyarrow.Field
        With the unit that the files state, if they do.

    Raises
    ------
    SpecError
        If there is none, or the files state different units.
    """
    kinds: dict[pa.DataType, list[str]] = {}
    for file, field in fields:
        if not pa.types.is_null(field.type):
            kinds.setdefault(_plain(field.type), []).append(file)
    kind = _type(name, kinds, limits, is_id=is_id) if kinds else pa.null()
    file, first = fields[0]
    if is_id and file == THE_STORE and is_text(kind) and not is_text(first.type):
        raise SpecError(
            f"column '{name}'",
            f"the ids are text in {next(one for one, of in fields if is_text(of.type))}, and "
            f"{first.type} in the store",
            f"say dtype: {first.type} for it in the survey's 'columns', or choose another 'store'",
        )
    field = pa.field(name, kind)
    unit = _unit(name, fields)
    return field.with_metadata({_UNIT: unit}) if unit else field


def _plain(kind: pa.DataType) -> pa.DataType:
    """Lists with one name for their values: otherwise equal types have different hashes."""
    return pa.list_(kind.value_type, kind.list_size) if pa.types.is_fixed_size_list(kind) else kind


def _unit(name: str, found: Sequence[tuple[str, pa.Field]]) -> bytes:
    stated = [(file, (field.metadata or {}).get(_UNIT, b"")) for file, field in found]
    stated = [(file, unit) for file, unit in stated if unit]
    for file, unit in stated[1:]:
        if unit != stated[0][1]:
            raise SpecError(
                f"column '{name}'",
                f"its unit is '{stated[0][1].decode()}' in {stated[0][0]} and "
                f"'{unit.decode()}' in {file}",
                "say its unit in the survey's 'columns': files in another one are converted",
            )
    return stated[0][1] if stated else b""


def _type(
    name: str, kinds: dict[pa.DataType, list[str]], limits: Limits, *, is_id: bool
) -> pa.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    if all(pa.types.is_integer(kind) for kind in kinds):
        return _integers(name, kinds, limits, is_id=is_id)
    if all(pa.types.is_floating(kind) for kind in kinds):
        return max(kinds, key=lambda kind: kind.bit_width)
    if all(is_number(kind) for kind in kinds):
        _refuse_rounding(name, kinds, limits)
        return pa.float64()
    if all(is_text(kind) or (is_id and pa.types.is_integer(kind)) for kind in kinds):
        return pa.string()
    if all(pa.types.is_fixed_size_list(kind) for kind in kinds):
        sizes = {kind.list_size for kind in kinds}
        if len(sizes) == 1:
            inner = {kind.value_type: files for kind, files in kinds.items()}
            return pa.list_(_list_items(name, inner), sizes.pop())
    raise _differ(name, kinds)


def _integers(
    name: str, kinds: dict[pa.DataType, list[str]], limits: Limits, *, is_id: bool
) -> pa.DataType:
    if pa.uint64() not in kinds:
        if all(pa.types.is_unsigned_integer(kind) for kind in kinds):
            return max(kinds, key=lambda kind: kind.bit_width)
        return pa.int64() if any(kind.bit_width > 16 for kind in kinds) else pa.int32()
    low, high = limits(name, [file for files in kinds.values() for file in files])
    if high < _INT64:
        return pa.int64()
    if low >= 0:
        return pa.uint64()
    if is_id:
        return pa.string()
    raise SpecError(
        f"column '{name}'",
        f"no integer type holds all of {low:,} to {high:,}, which {_files(kinds)} hold",
        "say dtype: string for it in the survey's 'columns'",
    )


def _refuse_rounding(name: str, kinds: dict[pa.DataType, list[str]], limits: Limits) -> None:
    """Integers beside floats become floats, where that rounds none of them."""
    files = [file for kind, where in kinds.items() if pa.types.is_integer(kind) for file in where]
    low, high = limits(name, files)
    if max(-low, high) > _EXACT:
        raise SpecError(
            f"column '{name}'",
            f"{_files(kinds)}: as float64 {high if high > _EXACT else low:,} would be rounded",
            f"{_HINT} (int64, string), or convert the file",
        )


def _list_items(name: str, kinds: dict[pa.DataType, list[str]]) -> pa.DataType:
    if all(pa.types.is_floating(kind) for kind in kinds):
        return max(kinds, key=lambda kind: kind.bit_width)
    if all(pa.types.is_signed_integer(kind) for kind in kinds):
        return max(kinds, key=lambda kind: kind.bit_width)
    narrow = all(pa.types.is_floating(kind) or kind.bit_width <= 32 for kind in kinds)
    if narrow and all(is_number(kind) for kind in kinds):
        return pa.float64()
    raise _differ(name, kinds)


def _differ(name: str, kinds: dict[pa.DataType, list[str]]) -> SpecError:
    return SpecError(
        f"column '{name}'",
        f"no type holds it in all files: {_files(kinds)}",
        f"{_HINT}, or convert the files",
    )


def _files(kinds: dict[pa.DataType, list[str]]) -> str:
    return ", ".join(f"{kind} in {files[0]}" for kind, files in kinds.items())
