"""Zarr, versions 2 and 3: a folder with a group of arrays, one for each column."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

from galbatch.errors import DataError, SpecError
from galbatch.readers.base import Batch, Batches, Header
from galbatch.readers.groups import (
    ColumnGroup,
    GroupColumn,
    ReadRows,
    WholeChunks,
    batches_of,
    header_of,
    row_problem,
    row_type,
)
from galbatch.readers.opening import head, not_that
from galbatch.readers.tables import TableOption, choose, wants_all

_OPTION = TableOption("zarr", "group", "group")
_GROUP_FILES = ("zarr.json", ".zgroup", ".zmetadata")
_CODECS = ("codecs", "filters", "compressor")


class ZarrReader:
    """Reads row ranges of the arrays of a group, chunk by chunk.

    The first axis of an array counts the rows, the others are the shape of a row. A chunk that is
    not there holds the fill value, as the format has it: a lost one cannot be told from one that
    was never written.

    Parameters
    ----------
    group : str, optional
        The group of columns, or ``all`` for all of them one after the other; by default the only
        one there is.
    """

    def __init__(self, group: str | None = None) -> None:
        named = group is not None and not wants_all(group)
        self.group = (group or "").strip("/") or "/" if named else group

    def header(self, path: str) -> Header:
        """The arrays of the group, with the unit that their attribute `unit` or `units` names."""
        return header_of(path, self._chosen(path), _OPTION)

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._records(path))

    def _records(self, path: str) -> int:
        """Rows by the shape of the arrays."""
        return sum(one.rows for one in self._chosen(path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        groups = self._chosen(path)
        header_of(path, groups, _OPTION)
        yield from batches_of(path, groups, types, rows)

    def _chosen(self, path: str) -> list[ColumnGroup]:
        groups = _groups(path)
        if not groups:
            raise SpecError(path, "holds no columns (arrays of one or two axes) in any group")
        listed = [group.info for group in groups]
        return [groups[place] for place in choose(path, listed, self.group, _OPTION)]


def _groups(path: str) -> list[ColumnGroup]:
    _see_group(path)
    tables: dict[str, dict[str, GroupColumn]] = {}
    for name in _array_names(Path(path)):
        column = _column(path, name)
        if column is not None:
            group, _, last = name.rpartition("/")
            tables.setdefault(group, {})[last] = column
    # Every codec raises errors of its own.
    return [
        ColumnGroup(name, table, (Exception,))
        for name, table in tables.items()
        if not all(column.beside for column in table.values())
    ]


def _see_group(path: str) -> None:
    """See that a path is a Zarr group.

    Raises
    ------
    SpecError
    """
    folder = Path(path)
    if not folder.is_dir():
        raise not_that(path, "Zarr (a folder)", head(path))
    found = next((folder / name for name in _GROUP_FILES if (folder / name).is_file()), None)
    if (folder / ".zarray").is_file() or (found and _metadata(path, found).get("shape")):
        raise SpecError(path, "is one Zarr array, not a group of them", "name the folder around it")
    if found is None:
        hint = f"expected {folder / _GROUP_FILES[0]} or {_GROUP_FILES[1]}: is the copy done?"
        raise SpecError(path, "is a folder, but no Zarr group", hint)


def _array_names(folder: Path) -> list[str]:
    """The arrays in a folder, however deep: `phot/flux`, sorted."""
    names = []
    for here, folders, files in os.walk(folder):
        place = Path(here)
        is_array = ".zarray" in files
        if "zarr.json" in files:
            is_array = _metadata(str(folder), place / "zarr.json").get("node_type") == "array"
        if is_array:
            names.append(place.relative_to(folder).as_posix())
            folders.clear()  # they hold chunks
    return sorted(names)


def _metadata(path: str, file: Path) -> dict[str, Any]:
    try:
        head(str(file))
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(path, f"{file.name} of '{file.parent.name}' is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def _column(path: str, name: str) -> GroupColumn | None:
    """An array as a column; None for a single number."""
    place = Path(path) / name
    version_2 = (place / ".zarray").is_file()
    metadata = _metadata(path, place / (".zarray" if version_2 else "zarr.json"))
    shape = metadata.get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise DataError(path, f"the array '{name}' has no shape", "fetch it again")
    if not shape:
        return None
    problem = _unreadable(metadata)
    array: Any = None
    if not problem:
        try:
            with warnings.catch_warnings():
                # zarr warns of what the format has not settled yet.
                warnings.simplefilter("ignore")
                array = zarr.open_array(str(place), mode="r")
                dtype, attributes = np.dtype(array.dtype), dict(array.attrs)
            problem = row_problem(dtype, tuple(shape[1:]))
        except Exception as error:  # every codec and every type raises errors of its own
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            problem = f"zarr cannot open it: {first_line[:200]}"
    beside = len(shape) > 2
    if problem:
        return GroupColumn(shape[0], None, "", _nothing, problem, beside=beside)
    unit = str(attributes.get("unit", attributes.get("units", ""))).strip()
    kind = pa.string() if dtype.kind == "T" else row_type(dtype, tuple(shape[1:]))
    return GroupColumn(shape[0], kind, unit, _rows(array, dtype), beside=beside)


def _unreadable(metadata: Mapping[str, Any]) -> str:
    """Why an array is not even opened, or nothing."""
    codecs = json.dumps([metadata.get(key) for key in _CODECS])
    if "pickle" in codecs:
        return "it is packed by pickle, which could run any program: galbatch does not read it"
    if metadata.get("dtype") == "|O" and '"vlen-utf8"' not in codecs:
        return "its values are Python objects, which galbatch does not read"
    return ""


def _nothing(start: int, stop: int) -> Any:
    raise AssertionError("a column that cannot be read is read")


def _rows(array: Any, dtype: np.dtype[Any]) -> ReadRows:
    def read(start: int, stop: int) -> Any:
        values = np.asarray(array[start:stop])
        return values.astype(object) if dtype.kind == "T" else values

    return WholeChunks(read, array.shape[0], array.chunks[0])
