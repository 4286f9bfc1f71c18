"""HDF5: one dataset per column in a group, or one table-like dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.readers.astropy_notes import HDF5_SUFFIX, Notes, read_notes
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.numpy_arrow import from_numpy
from galbatch.readers.opening import broken, head, must_have, not_that
from galbatch.readers.tables import TableInfo, TableOption, choose, common_header, wants_all

_OPTION = TableOption("hdf5", "group", "group")
# What h5py raises over a file that is damaged.
_RAISED = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class Hdf5Reader:
    """Reads row ranges of HDF5 datasets.

    Values that astropy masked (in a table that it wrote with ``serialize_meta``) are null. Enums
    are the integers that they are kept as.

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
            return common_header(
                path, [one.info for one in groups], [one.header for one in groups], _OPTION
            )

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._rows(path))

    def _rows(self, path: str) -> int:
        """Rows by the shape of the datasets."""
        with _open(path) as file:
            return sum(one.rows for one in self._chosen(file, path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with _open(path) as file:
            groups = self._chosen(file, path)
            common_header(
                path, [one.info for one in groups], [one.header for one in groups], _OPTION
            )
            before = 0
            for group in groups:
                yield from group.batches(path, types, rows, before)
                before += group.rows

    def _chosen(self, file: h5py.File, path: str) -> list[_Group]:
        try:
            groups = _groups(file, path)
        except _RAISED as error:
            raise broken(path, error, 0) from error
        if not groups and (self.group is None or wants_all(self.group)):
            raise SpecError(path, "holds no columns (one-dimensional datasets) in any group")
        listed = [group.info for group in groups]
        return [groups[place] for place in choose(path, listed, self.group, _OPTION)]


@dataclass(frozen=True)
class _Column:
    """How many rows a column has, what they are, and how to read some of them."""

    rows: int
    type: pa.DataType | None
    unit: str
    values: Callable[[slice], NDArray[Any]]
    problem: str = ""
    mask: Callable[[slice], NDArray[Any]] | None = None

    def read(self, start: int, stop: int) -> pa.Array:
        part = slice(start, stop)
        null = self.mask(part).astype(bool) if self.mask is not None else None
        return from_numpy(self.values(part), null)


@dataclass(frozen=True)
class _Group:
    """Columns that belong together."""

    name: str
    columns: dict[str, _Column]

    @property
    def rows(self) -> int:
        """How many most of the columns have: beside them there may be an axis, or a note."""
        lengths = Counter(column.rows for column in self.columns.values())
        return max(lengths, key=lambda length: (lengths[length], length))

    @property
    def info(self) -> TableInfo:
        return TableInfo((self.name or "/",), None, self.rows, len(self.columns))

    @property
    def header(self) -> Header:
        others = [f"{name} {one.rows:,}" for name, one in self.columns.items()
                  if one.rows != self.rows]  # fmt: skip
        notes = (f"left out, as the other columns have {self.rows:,} rows: {', '.join(others)}",)
        columns = (FileColumn(name, one.type, one.unit) for name, one in self.columns.items())
        return Header(tuple(columns), notes if others else ())

    def batches(
        self, path: str, types: Mapping[str, pa.DataType], rows: int, before: int
    ) -> Iterator[Batch]:
        """The rows; `before` of the file come before them."""
        must_have(path, types, list(self.columns))
        wanted = {name: self.columns[name] for name, type_ in types.items()
                  if not pa.types.is_null(type_)}  # fmt: skip
        for name, column in wanted.items():
            if column.problem:
                raise SpecError(path, f"column '{name}': {column.problem}")
        if any(column.rows != self.rows for column in wanted.values()):
            shown = ", ".join(f"{name} {one.rows:,}" for name, one in list(wanted.items())[:6])
            problem = f"the columns have different numbers of rows: {shown}"
            raise SpecError(path, problem, f"most of the group's have {self.rows:,}")
        columns = {name: self.columns[name] for name in types
                   if self.columns[name].rows == self.rows
                   and not self.columns[name].problem}  # fmt: skip
        types = {name: types[name] for name in columns}
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            try:
                arrays = {name: column.read(start, stop) for name, column in columns.items()}
            except _RAISED as error:
                raise broken(path, error, before + start) from error
            numbers = np.arange(before + start + 1, before + stop + 1, dtype=np.int64)
            yield make_batch(path, numbers, arrays, types)


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


def _groups(file: h5py.File, path: str) -> list[_Group]:
    """The columns by group (or compound dataset)."""
    tables: dict[str, dict[str, _Column]] = {}
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
        elif item.ndim in (1, 2) and (item.dtype.kind in "biufSU" or _is_text(item.dtype)):
            group, _, column = name.rpartition("/")
            tables.setdefault(group, {})[column] = _dataset(item)

    file.visititems(visit)
    return [_Group(name, _noted(table, notes.get(name))) for name, table in tables.items()]


def _noted(columns: dict[str, _Column], notes: Notes | None) -> dict[str, _Column]:
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


def _dataset(dataset: h5py.Dataset) -> _Column:
    shape = dataset.shape[1:]
    problem = _problem(dataset.dtype, shape)
    if dataset.is_virtual:
        problem = "its values are in other files (a virtual dataset), which galbatch does not read"
    type_ = None if problem else _type(dataset.dtype, shape)
    return _Column(len(dataset), type_, _unit(dataset), dataset.__getitem__, problem)


def _field(dataset: h5py.Dataset, field: str) -> _Column:
    base, shape = dataset.dtype[field].base, dataset.dtype[field].shape
    problem = _problem(base, shape)
    type_ = None if problem else _type(base, shape)
    return _Column(len(dataset), type_, "", dataset.fields(field).__getitem__, problem)


def _problem(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Why a column cannot be read, or nothing."""
    if _is_text(dtype) or dtype.kind in "SU":
        return "it holds several texts per row" if shape else ""
    if dtype.kind == "c":
        return "its numbers are complex"
    if h5py.check_vlen_dtype(dtype) is not None:
        return "its rows have different lengths, which galbatch does not read"
    return "" if dtype.kind in "biuf" else "its values are neither numbers nor text"


def _type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    found: pa.DataType = from_numpy(np.zeros((1, *shape), dtype)).type
    return pa.string() if pa.types.is_null(found) else found


def _unit(dataset: h5py.Dataset) -> str:
    unit = dataset.attrs.get("unit", dataset.attrs.get("units", ""))
    if isinstance(unit, np.ndarray):
        unit = unit.flat[0] if unit.size else ""
    text = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)
    return text.strip()
