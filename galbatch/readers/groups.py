"""Columns that are arrays of their own, side by side in a group: HDF5, Zarr, NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_number
from galbatch.errors import SpecError
from galbatch.readers.base import Batch, FileAxis, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.numpy_arrow import from_numpy
from galbatch.readers.opening import broken, must_have
from galbatch.readers.tables import TableInfo, TableOption, common_header

ReadRows = Callable[[int, int], NDArray[Any]]
"""Reads the rows from one to before another."""
_LONGEST_AXIS = 500_000
"""Numbers that are read with the header, at most."""


@dataclass(frozen=True)
class GroupColumn:
    """How many rows a column has, what they are, and how to read some of them.

    Parameters
    ----------
    rows : int
    type : pyarrow.DataType or None
        None where it cannot be read.
    unit : str
    values : callable
        Of rows.
    problem : str
        Why it cannot be read; empty where it can.
    mask : callable or None
        Of rows: where there is no value.
    beside : bool
        See `FileColumn`.
    """

    rows: int
    type: pa.DataType | None
    unit: str
    values: ReadRows
    problem: str = ""
    mask: ReadRows | None = None
    beside: bool = False

    def read(self, start: int, stop: int) -> pa.Array:
        """The values of some rows."""
        null = self.mask(start, stop).astype(bool) if self.mask is not None else None
        return from_numpy(self.values(start, stop), null)

    @property
    def is_axis(self) -> bool:
        """Whether it may be an axis: numbers, or one list of them."""
        if self.type is None:
            return False
        if pa.types.is_fixed_size_list(self.type):
            points = self.type.list_size if self.rows == 1 else 0
            return is_number(self.type.value_type) and 0 < points <= _LONGEST_AXIS
        return is_number(self.type) and 0 < self.rows <= _LONGEST_AXIS

    def axis(self, name: str) -> FileAxis:
        """All of its numbers."""
        values = self.read(0, self.rows)
        flat = values.flatten() if pa.types.is_fixed_size_list(values.type) else values
        numbers = pc.fill_null(flat.cast(pa.float64(), safe=False), np.nan)
        return FileAxis(name, tuple(numbers.to_pylist()), self.unit)


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that belong together.

    Parameters
    ----------
    name : str
        Empty for the root.
    columns : dict of str to ArrayColumn
    raised : tuple of type
        What reading values raises where the file is damaged.
    """

    name: str
    columns: dict[str, GroupColumn]
    raised: tuple[type[Exception], ...]

    @property
    def rows(self) -> int:
        """How many most of the columns have: beside them there may be an axis, or a note."""
        counted = [column.rows for column in self.columns.values() if not column.beside]
        lengths = Counter(counted or [column.rows for column in self.columns.values()])
        return max(lengths, key=lambda length: (lengths[length], length))

    @property
    def info(self) -> TableInfo:
        """The group, for those who choose one."""
        return TableInfo((self.name or "/",), None, self.rows, len(self.columns))

    def header(self, path: str) -> Header:
        """Its columns; those with another number of rows are axes, or noted."""
        apart = {name: one for name, one in self.columns.items()
                 if one.rows != self.rows and not one.beside}  # fmt: skip
        try:
            axes = tuple(one.axis(name) for name, one in apart.items() if one.is_axis)
        except self.raised as error:
            raise broken(path, error, 0) from error
        others = [f"{name} {one.rows:,}" for name, one in apart.items() if not one.is_axis]
        notes = (f"left out, as the other columns have {self.rows:,} rows: {', '.join(others)}",)
        columns = (
            FileColumn(name, one.type, one.unit, one.beside, one.problem)
            for name, one in self.columns.items()
        )
        return Header(tuple(columns), notes if others else (), axes=axes)

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
        others = [f"'{name}' has {column.rows:,}" for name, column in wanted.items()
                  if column.rows != self.rows]  # fmt: skip
        if others:
            problem = f"the columns have different numbers of rows: {', '.join(others[:6])}"
            raise SpecError(path, problem, f"most of the group's have {self.rows:,}")
        columns = {name: self.columns[name] for name in types
                   if self.columns[name].rows == self.rows
                   and not self.columns[name].problem}  # fmt: skip
        types = {name: types[name] for name in columns}
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            try:
                arrays = {name: column.read(start, stop) for name, column in columns.items()}
            except self.raised as error:
                raise broken(path, error, before + start) from error
            numbers = np.arange(before + start + 1, before + stop + 1, dtype=np.int64)
            yield make_batch(path, numbers, arrays, types)


def header_of(path: str, groups: Sequence[ColumnGroup], option: TableOption) -> Header:
    """The header of groups that are read one after the other."""
    return common_header(
        path, [one.info for one in groups], [one.header(path) for one in groups], option
    )


def batches_of(
    path: str, groups: Sequence[ColumnGroup], types: Mapping[str, pa.DataType], rows: int
) -> Iterator[Batch]:
    """The rows of groups, one after the other."""
    before = 0
    for group in groups:
        yield from group.batches(path, types, rows, before)
        before += group.rows


class WholeChunks:
    """Rows of an array, read in whole chunks, so that none is unpacked twice.

    What is left of a chunk is kept for the next rows, which must be those that follow.

    Parameters
    ----------
    values : callable
        Reads rows.
    rows : int
        How many there are.
    chunk : int
        Rows in a chunk.
    """

    def __init__(self, values: ReadRows, rows: int, chunk: int) -> None:
        self._values, self._rows, self._chunk = values, rows, chunk
        self._left: NDArray[Any] | None = None
        self._next = 0

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from `start` to before `stop`."""
        left = self._left if self._left is not None and start == self._next else None
        begin = start + (0 if left is None else len(left))
        if left is not None and stop <= begin:
            self._keep(left[stop - start :], stop)
            return left[: stop - start]
        block = self._values(begin, min(-(-stop // self._chunk) * self._chunk, self._rows))
        self._keep(block[stop - begin :], stop)
        part = block[: stop - begin]
        return part if left is None or not len(left) else np.concatenate([left, part])

    def _keep(self, left: NDArray[Any], after: int) -> None:
        # A copy, as the rows that were given out are to be freed.
        self._left, self._next = left.copy(), after


def row_type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    """What rows of this shape are in Arrow."""
    found: pa.DataType = from_numpy(np.zeros((1, *shape), dtype)).type
    return pa.string() if pa.types.is_null(found) else found


def row_problem(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Why rows of this shape cannot be read, or nothing."""
    if dtype.kind in "SUT":
        return "it holds several texts per row" if shape else ""
    if dtype.hasobject:
        return "its values are Python objects, which galbatch does not read"
    if dtype.names:
        return "its rows have fields: keep each column in an array of its own"
    if dtype.kind == "c":
        return "its numbers are complex"
    if dtype.kind not in "biuf":
        return "its values are neither numbers nor text"
    return "its rows hold no values" if 0 in shape else ""
