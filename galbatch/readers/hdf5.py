"""HDF5: one dataset per column in a group, or one table-like dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from galbatch.errors import DataError, SpecError
from galbatch.readers.astropy_notes import HDF5_SUFFIX, Notes, read_notes
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
from galbatch.readers.opening import broken, head, not_that
from galbatch.readers.tables import TableOption, choose, wants_all

_OPTION = TableOption("hdf5", "group", "group")
# What h5py raises over a file that is damaged.
_RAISED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class Hdf5Reader:
    """Reads row ranges of HDF5 datasets.

    A dataset of several axes has a column's rows along its first; the others are the shape of a
    row. Chunks are read whole. Values that astropy masked (in a table that it wrote with
    ``serialize_meta``) are null. Enums are the integers that they are kept as.

    Parameters
    ----------
    group : str, optional
        The group of columns, or the compound dataset, or ``all`` for all of them one after the
        other; by default the only one there is.
    """

    def __init__(self, group: str | None = None) -> None:
        named = group is not None and not wants_all(group)
        self.group = (group or "").strip("/") or "/" if named else group

    def header(self, path: str) -> Header:
        """The datasets in the group, with the unit that their attribute `unit` names."""
        with _open(path) as file:
            groups = self._chosen(file, path)
            return header_of(path, groups, _OPTION)

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._records(path))

    def _records(self, path: str) -> int:
        """Rows by the shape of the datasets."""
        with _open(path) as file:
            return sum(one.rows for one in self._chosen(file, path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with _open(path) as file:
            groups = self._chosen(file, path)
            header_of(path, groups, _OPTION)
            yield from batches_of(path, groups, types, rows)

    def _chosen(self, file: h5py.File, path: str) -> list[ColumnGroup]:
        try:
            groups = _groups(file, path)
        except _RAISED as error:
            raise broken(path, error, 0) from error
        if not groups and (self.group is None or wants_all(self.group)):
            raise SpecError(path, "holds no columns (datasets of one or two axes) in any group")
        listed = [group.info for group in groups]
        return [groups[place] for place in choose(path, listed, self.group, _OPTION)]


def _open(path: str) -> h5py.File:
    start = head(path)
    if not start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise not_that(path, "HDF5", start)
    try:
        # Network file systems often cannot lock; nobody writes what is being read.
        return h5py.File(path, "r", locking="best-effort")
    except _RAISED as error:
        if "truncated" in str(error):
            hint = "the download may be incomplete"
            raise DataError(path, "the HDF5 file ends early", hint) from error
        raise broken(path, error, 0) from error


def _groups(file: h5py.File, path: str) -> list[ColumnGroup]:
    """The columns by group (or compound dataset)."""
    tables: dict[str, dict[str, GroupColumn]] = {}
    notes: dict[str, Notes] = {}

    def visit(name: str, item: Any) -> None:
        last = name.rpartition("/")[2]
        if not isinstance(item, h5py.Dataset):
            return
        # astropy keeps its own notes beside a table, under names like this.
        if last.endswith(HDF5_SUFFIX) and item.ndim == 1:
            lines = [line.decode(errors="replace") for line in item[:].tolist()]
            notes[name.removesuffix(f".{HDF5_SUFFIX}")] = read_notes(path, "\n".join(lines))
        elif last.startswith("__") or last.endswith(HDF5_SUFFIX):
            return
        elif item.dtype.names and item.ndim == 1:
            tables[name] = {field: _field(item, field) for field in item.dtype.names}
        elif item.ndim >= 1 and (item.dtype.kind in "biufSU" or _is_text(item.dtype)):
            group, _, column = name.rpartition("/")
            tables.setdefault(group, {})[column] = _dataset(item)

    file.visititems(visit)
    return [
        ColumnGroup(name, _noted(table, notes.get(name)), _RAISED)
        for name, table in tables.items()
        if not all(column.beside for column in table.values())
    ]


def _noted(columns: dict[str, GroupColumn], notes: Notes | None) -> dict[str, GroupColumn]:
    """The columns with what astropy noted of them; masks are no columns of their own."""
    if notes is None:
        return columns
    masks = {name: mask for name, mask in notes.masks.items() if {name, mask} <= set(columns)}
    return {
        name: replace(
            column,
            unit=notes.units.get(name, column.unit),
            mask=columns[masks[name]].values if name in masks else None,
        )
        for name, column in columns.items()
        if name not in masks.values()
    }


def _is_text(dtype: np.dtype[Any]) -> bool:
    return h5py.check_string_dtype(dtype) is not None


def _dataset(dataset: h5py.Dataset) -> GroupColumn:
    shape = dataset.shape[1:]
    problem = _problem(dataset.dtype, shape)
    if dataset.is_virtual:
        problem = "its values are in other files (a virtual dataset), which galbatch does not read"
    return GroupColumn(
        len(dataset),
        None if problem else row_type(dataset.dtype, shape),
        _unit(dataset),
        _rows(dataset, dataset),
        problem,
        beside=dataset.ndim > 2,
    )


def _field(dataset: h5py.Dataset, field: str) -> GroupColumn:
    base, shape = dataset.dtype[field].base, dataset.dtype[field].shape
    problem = _problem(base, shape)
    type_ = None if problem else row_type(base, shape)
    return GroupColumn(len(dataset), type_, "", _rows(dataset, dataset.fields(field)), problem)


def _rows(dataset: h5py.Dataset, values: Any) -> ReadRows:
    """Reads rows of a dataset, or of one of its fields."""

    def read(start: int, stop: int) -> Any:
        return values[start:stop]

    return WholeChunks(read, len(dataset), dataset.chunks[0]) if dataset.chunks else read


def _problem(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Why a column cannot be read, or nothing."""
    if _is_text(dtype):
        return "it holds several texts per row" if shape else ""
    if h5py.check_vlen_dtype(dtype) is not None:
        return "its rows have different lengths, which galbatch does not read"
    return row_problem(dtype, shape)


def _unit(dataset: h5py.Dataset) -> str:
    unit = dataset.attrs.get("unit", dataset.attrs.get("units", ""))
    if isinstance(unit, np.ndarray):
        unit = unit.flat[0] if unit.size else ""
    text = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)
    return text.strip()
