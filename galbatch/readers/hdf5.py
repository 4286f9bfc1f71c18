"""HDF5: one dataset per column in a group, or one table-like dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError, did_you_mean
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.door import broken, head, must_have, not_that
from galbatch.readers.numpy_arrow import from_numpy


class Hdf5Reader:
    """Reads row ranges of HDF5 datasets.

    Parameters
    ----------
    group : str, optional
        The group of columns, or the compound dataset; by default the only one there is.
    """

    def __init__(self, group: str | None = None) -> None:
        self.group = group

    def header(self, path: str) -> Header:
        """The datasets in the group, with the unit that their attribute `unit` names."""
        with _open(path) as file:
            found = self._found(file, path).items()
            return Header(tuple(FileColumn(name, one.type, one.unit) for name, one in found))

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._rows(path))

    def _rows(self, path: str) -> int:
        """Rows by the shape of the datasets."""
        with _open(path) as file:
            return max(column.rows for column in self._found(file, path).values())

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with _open(path) as file:
            found = self._found(file, path)
            must_have(path, types, list(found))
            columns = {name: found[name] for name in types}
            total = _length(columns, path)
            for start in range(0, total, rows):
                stop = min(start + rows, total)
                try:
                    arrays = {
                        name: from_numpy(column.read(start, stop))
                        for name, column in columns.items()
                    }
                except (OSError, RuntimeError) as error:
                    raise broken(path, error, start) from error
                numbers = np.arange(start + 1, stop + 1, dtype=np.int64)
                yield make_batch(path, numbers, arrays, types)

    def _found(self, file: h5py.File, path: str) -> dict[str, _Column]:
        tables = _tables(file)
        if self.group is not None:
            name = self.group.strip("/")
            if name not in tables:
                raise SpecError(
                    path,
                    f"there are no columns in '{self.group}'",
                    did_you_mean(name, [table or "/" for table in tables]),
                )
            return tables[name]
        if not tables:
            raise SpecError(path, "holds no columns (one-dimensional datasets) in any group")
        if len(tables) > 1:
            names = ", ".join(table or "/" for table in tables)
            raise SpecError(
                path,
                f"several groups hold columns: {names}",
                f"choose one: source.format: {{kind: hdf5, group: {next(iter(tables)) or '/'}}}",
            )
        return next(iter(tables.values()))


@dataclass(frozen=True)
class _Column:
    """How many rows a column has, what they are, and how to read some of them."""

    rows: int
    type: pa.DataType
    unit: str
    slice: Callable[[slice], NDArray[Any]]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return self.slice(slice(start, stop))


def _open(path: str) -> h5py.File:
    start = head(path)
    if not start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise not_that(path, "HDF5", start)
    try:
        # Network file systems often cannot lock; nobody writes what is being read.
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if "truncated" in str(error):
            hint = "the download may be incomplete"
            raise DataError(path, "the HDF5 file ends early", hint) from error
        raise broken(path, error, 0) from error


def _tables(file: h5py.File) -> dict[str, dict[str, _Column]]:
    """The columns by name, by group (or compound dataset)."""
    tables: dict[str, dict[str, _Column]] = {}

    def visit(name: str, item: Any) -> None:
        # astropy keeps its own notes beside a table, under names like this.
        if not isinstance(item, h5py.Dataset) or name.split("/")[-1].startswith("__"):
            return
        if item.dtype.names and item.ndim == 1:
            tables[name] = {field: _field(item, field) for field in item.dtype.names}
        elif item.ndim in (1, 2) and (item.dtype.kind in "biufSU" or _is_text(item)):
            group, _, column = name.rpartition("/")
            tables.setdefault(group, {})[column] = _dataset(item)

    file.visititems(visit)
    return tables


def _is_text(dataset: h5py.Dataset) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _dataset(dataset: h5py.Dataset) -> _Column:
    source = dataset.asstr(errors="replace") if _is_text(dataset) else dataset
    return _Column(
        len(dataset), _type(dataset.dtype, dataset.shape[1:]), _unit(dataset), source.__getitem__
    )


def _field(dataset: h5py.Dataset, field: str) -> _Column:
    base, shape = dataset.dtype[field].base, dataset.dtype[field].shape
    return _Column(len(dataset), _type(base, shape), "", dataset.fields(field).__getitem__)


def _type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    is_number = dtype.kind in "iufb" and h5py.check_enum_dtype(dtype) is None
    kind = pa.from_numpy_dtype(dtype.newbyteorder("=")) if is_number else pa.string()
    return pa.list_(kind, int(np.prod(shape))) if shape else kind


def _unit(dataset: h5py.Dataset) -> str:
    unit = dataset.attrs.get("unit", dataset.attrs.get("units", ""))
    return unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)


def _length(columns: Mapping[str, _Column], path: str) -> int:
    lengths = {name: column.rows for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length:,}" for name, length in list(lengths.items())[:6])
        raise SpecError(path, f"the columns have different numbers of rows: {shown}")
    return next(iter(lengths.values()), 0)
