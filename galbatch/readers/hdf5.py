"""HDF5: one dataset per column in a group, or one table-like dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from galbatch.errors import DataError, SpecError, did_you_mean
from galbatch.readers.base import Batch
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

    def columns(self, path: str) -> tuple[str, ...]:
        """Names of the datasets in the group."""
        with _open(path) as file:
            return tuple(self._found(file, path))

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        """Read the columns in `types`, at most `rows` rows at a time."""
        with _open(path) as file:
            found = self._found(file, path)
            must_have(path, types, list(found))
            columns = {name: found[name] for name in types}
            total = _length(columns, path)
            for start in range(0, total, rows):
                stop = min(start + rows, total)
                try:
                    arrays = {name: from_numpy(read(start, stop)) for name, (_, read) in
                              columns.items()}  # fmt: skip
                except (OSError, RuntimeError) as error:
                    raise broken(path, error, start) from error
                numbers = np.arange(start + 1, stop + 1, dtype=np.int64)
                yield make_batch(path, numbers, arrays, types)

    def _found(self, file: h5py.File, path: str) -> dict[str, tuple[int, Any]]:
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


def _tables(file: h5py.File) -> dict[str, dict[str, tuple[int, Any]]]:
    """Length and slice function of each column, by group (or compound dataset)."""
    tables: dict[str, dict[str, tuple[int, Any]]] = {}

    def visit(name: str, item: Any) -> None:
        # astropy keeps its own notes beside a table, under names like this.
        if not isinstance(item, h5py.Dataset) or name.split("/")[-1].startswith("__"):
            return
        if item.dtype.names and item.ndim == 1:
            tables[name] = {field: (len(item), _field(item, field)) for field in item.dtype.names}
        elif item.ndim in (1, 2) and (item.dtype.kind in "biufSU" or _is_text(item)):
            group, _, column = name.rpartition("/")
            tables.setdefault(group, {})[column] = (len(item), _slice(item))

    file.visititems(visit)
    return tables


def _is_text(dataset: h5py.Dataset) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _slice(dataset: h5py.Dataset) -> Any:
    source = dataset.asstr(errors="replace") if _is_text(dataset) else dataset
    return lambda start, stop: source[start:stop]


def _field(dataset: h5py.Dataset, field: str) -> Any:
    return lambda start, stop: dataset.fields(field)[start:stop]


def _length(columns: Mapping[str, tuple[int, Any]], path: str) -> int:
    lengths = {name: length for name, (length, _) in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length:,}" for name, length in list(lengths.items())[:6])
        raise SpecError(path, f"the columns have different numbers of rows: {shown}")
    return next(iter(lengths.values()), 0)
