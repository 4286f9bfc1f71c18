"""Which table of a file is meant, where a file may hold several."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from galbatch.errors import SpecError, did_you_mean
from galbatch.readers.base import FileColumn, Header

ALL = "all"
"""What a job says for every table, one after the other."""

_SHOWN = 8
_PLAIN = re.compile(r"(?!(?i:all|null|true|false|yes|no|on|off)$)[A-Za-z_][\w./-]*")


@dataclass(frozen=True)
class TableOption:
    """The option of a format that names one of its tables.

    Parameters
    ----------
    kind : str
        The format, as a job names it.
    key : str
        Its name in ``source.format``.
    noun : str
        What the format calls one.
    """

    kind: str
    key: str
    noun: str

    def hint(self, value: str) -> str:
        """What to write in the job."""
        return f"source.format: {{kind: {self.kind}, {self.key}: {value}}}"


@dataclass(frozen=True)
class TableInfo:
    """One of the tables in a file.

    Parameters
    ----------
    names : tuple of str
        What the file calls it, any of which a job may write.
    number : int or None
        Its place in the file, where the format counts.
    rows : int or None
        None where the file does not say.
    columns : int
        How many there are.
    aside : bool
        Whether the file itself says that it is not a result but a note about one.
    """

    names: tuple[str, ...]
    number: int | None
    rows: int | None
    columns: int
    is_metadata: bool = False

    def label(self, option: TableOption) -> str:
        """For a list in a message: ``NORTH (HDU 1, 750 rows)``."""
        size = "rows not stated"
        if self.rows is not None:
            size = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        place = "" if self.number is None else f"{option.noun} {self.number}"
        if not self.names:
            return f"{place} ({size})"
        return f"{self.names[0]} ({place}{', ' if place else ''}{size})"


def wants_all(wanted: int | str | None) -> bool:
    """Whether a job asks for every table."""
    return isinstance(wanted, str) and wanted.strip().lower() == ALL


def choose(
    path: str, tables: Sequence[TableInfo], wanted: int | str | None, option: TableOption
) -> tuple[int, ...]:
    """The tables to read, as places in `tables`.

    Unless the job names one, those count that have columns and rows (or else columns), and are
    notes about another; there must be one. With `ALL` every one of them is read.

    Parameters
    ----------
    path : str
        For messages.
    tables : sequence of TableInfo
        In file order.
    wanted : int, str or None
        What the job says.
    option : TableOption

    Raises
    ------
    SpecError
        If there is no table, several and none named, or not the one that the job names.
    """
    if wanted is None or wants_all(wanted):
        found = _countable(tables)
        if not found:
            raise SpecError(path, "none of its tables has columns")
        if len(found) > 1 and wanted is None:
            raise SpecError(
                path,
                f"holds several tables: {_shown([tables[place] for place in found], option)}",
                f"name one, {option.hint(_writable(tables, found[0]))}, or {option.key}: {ALL} to "
                "read them one after the other, where they have the same columns",
            )
        return found
    found = _named(tables, wanted)
    if len(found) > 1:
        raise SpecError(
            path,
            f"several tables are called '{wanted}': "
            f"{_shown([tables[place] for place in found], option)}",
            f"write the number, {option.hint(str(tables[found[0]].number))}",
        )
    if not found:
        names = [name for table in tables for name in table.names]
        hint = did_you_mean(str(wanted), names) if isinstance(wanted, str) else ""
        if not hint.startswith("did"):
            hint = f"tables in it: {_shown(tables, option)}" if tables else ""
        raise SpecError(path, f"there is no {option.noun} '{wanted}'", hint)
    return found


def common_header(
    path: str, tables: Sequence[TableInfo], headers: Sequence[Header], option: TableOption
) -> Header:
    """The header of tables that are read one after the other.

    Parameters
    ----------
    path : str
        For messages.
    tables : sequence of TableInfo
    headers : sequence of Header
        One for each.
    option : TableOption

    Raises
    ------
    SpecError
        If they do not have the same columns: names, types and units.
    """
    first = {column.name: column for column in headers[0].columns}
    for table, header in zip(tables[1:], headers[1:], strict=True):
        other = {column.name: column for column in header.columns}
        if other != first:
            a, b = tables[0].label(option), table.label(option)
            raise SpecError(
                path,
                f"its tables have not the same columns, which '{option.key}: {ALL}' needs: "
                f"{_difference(a, first, b, other)}",
                f"name one, {option.hint(_writable(tables, 0))}",
            )
    notes = tuple(dict.fromkeys(note for header in headers for note in header.notes))
    if len(tables) > 1:
        notes = (f"read one after the other: {_shown(tables, option)}", *notes)
    every = dict.fromkeys(axis for header in headers for axis in header.axes)
    axes = tuple(axis for axis in every if all(axis in header.axes for header in headers))
    others = dict.fromkeys(axis.name for axis in every if axis not in axes)
    if others:
        notes += (f"left out, as not all of its tables have the same: {', '.join(others)}",)
    apart = tuple((name, "it is not the same in all tables that are read") for name in others)
    return Header(headers[0].columns, notes, apart, axes=axes)


def _countable(tables: Sequence[TableInfo]) -> tuple[int, ...]:
    found = [place for place, table in enumerate(tables) if table.columns]
    for counts in (lambda one: not one.is_metadata, lambda one: one.rows != 0):
        better = [place for place in found if counts(tables[place])]
        found = better or found
    return tuple(found)


def _named(tables: Sequence[TableInfo], wanted: int | str) -> tuple[int, ...]:
    if isinstance(wanted, int):
        return tuple(place for place, one in enumerate(tables) if one.number == wanted)
    name = wanted.strip()
    exact = tuple(place for place, one in enumerate(tables) if name in one.names)
    return exact or tuple(
        place
        for place, one in enumerate(tables)
        if name.lower() in (other.lower() for other in one.names)
    )


def _writable(tables: Sequence[TableInfo], place: int) -> str:
    """How a job names a table, with quotes where YAML needs them."""
    table = tables[place]
    for name in table.names:
        if len(_named(tables, name)) == 1:
            return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)
    return str(table.number)


def _shown(tables: Sequence[TableInfo], option: TableOption) -> str:
    labels = [table.label(option) for table in tables[:_SHOWN]]
    more = len(tables) - len(labels)
    return ", ".join(labels) + (f" and {more} more" if more > 0 else "")


def _difference(a: str, first: dict[str, FileColumn], b: str, other: dict[str, FileColumn]) -> str:
    found = []
    for only, mine, yours in ((a, first, other), (b, other, first)):
        names = [name for name in mine if name not in yours]
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" * (len(names) > 5))
            found.append(f"only {only} has {shown}")
    for name, column in first.items():
        there = other.get(name, column)
        if there.type != column.type:
            found.append(f"{name} is {column.type} in {a}, {there.type} in {b}")
        elif there.unit != column.unit:
            units = (column.unit or "no unit", there.unit or "no unit")
            found.append(f"{name} has {units[0]} in {a}, {units[1]} in {b}")
    return "; ".join(found[:3])
