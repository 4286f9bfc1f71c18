"""A partition's rows as one table: columns in Parquet, and arrays in Zarr.

The arrays are written first and the Parquet file last: when the file is there, so are its arrays.
A file of the catalogue says where its arrays lie, so that old rows can be read while new ones are
written elsewhere, and one rename replaces both. Arrays of predictions lie where the group says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galbatch.columns import arrow_type, from_numpy, is_tensor
from galbatch.errors import DataError, SpecError, did_you_mean
from galbatch.store.arrays import Arrays, ArraySpec, ArrayWriter, GroupSpec, Span, Written
from galbatch.store.layout import Layout
from galbatch.store.tables import ROW_GROUP_ROWS, PartitionWriter, opened_partition
from galbatch.values import Partition

ARRAYS = b"galbatch.arrays"


@dataclass(frozen=True)
class ArraysBeside:
    """Where the arrays of a Parquet file lie, as its metadata says.

    Parameters
    ----------
    first : int
        Its first row in them.
    room : int
        Rows that are kept for it there.
    digest : str
        SHA-256 over its shards.
    missing : mapping of str to int
        Rows without a value, by array.
    """

    first: int
    room: int
    digest: str
    missing: Mapping[str, int]

    @classmethod
    def of(cls, span: Span, written: Written) -> ArraysBeside:
        """For arrays that were written into a span."""
        return cls(span.first, span.room, written.digest, written.missing)

    def span(self, rows: int) -> Span:
        """Where the rows of a file of so many lie."""
        return Span(self.first, rows, self.room)

    def to_metadata(self) -> dict[str, str]:
        """For the metadata of the file."""
        name = ARRAYS.decode().removeprefix("galbatch.")
        return {name: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> ArraysBeside | None:
        """From the metadata of a file; None where it has no arrays."""
        text = (metadata or {}).get(ARRAYS)
        return None if text is None else cls(**json.loads(text))


@dataclass(frozen=True)
class Committed:
    """The files that `RowsWriter` wrote.

    Parameters
    ----------
    outputs : mapping of str to str
        SHA-256 of each file by its path relative to the store: the Parquet file first.
    missing : mapping of str to int
        Rows without a value, by array.
    """

    outputs: Mapping[str, str]
    missing: Mapping[str, int]


class RowsWriter(AbstractContextManager["RowsWriter"]):
    """A partition that is written piece by piece, whole or not at all.

    Arrays are written as they come, the other columns as whole row groups: the same rows make the
    same bytes, in pieces of whatever size.

    Parameters
    ----------
    layout : Layout
    partition : Partition
    model : str or None
        Whose predictions it is; None for the catalogue.
    metadata : mapping of str to str
        What the file says of itself; see `PartitionWriter`.
    id_column : str
        The survey's id.
    arrays : (GroupSpec, Span), optional
        Of the columns that are arrays, and where they go.
    """

    def __init__(
        self,
        layout: Layout,
        partition: Partition,
        model: str | None,
        metadata: Mapping[str, str],
        id_column: str,
        arrays: tuple[GroupSpec, Span] | None = None,
    ) -> None:
        self._path, self._id_column = layout.partition(partition, model), id_column
        self._name = layout.relative(self._path)
        self._stack, self._parts = ExitStack(), list[pa.Table]()
        self._arrays: ArrayWriter | None = None
        if arrays is not None:
            self._arrays = self._stack.enter_context(ArrayWriter(layout, model, *arrays))
        self._file = self._stack.enter_context(PartitionWriter(self._path, metadata))

    def write(self, table: pa.Table) -> None:
        """Add rows: columns of arrays go to Zarr, the others to Parquet."""
        if self._arrays is not None:
            ids = table[self._id_column].to_numpy()
            arrays = self._arrays.spec.of
            values = {name: array.values_of(table[name]) for name, array in arrays.items()}
            self._arrays.write(ids, values)
        self._parts.append(table.select(plain_columns(table.schema)))
        if sum(part.num_rows for part in self._parts) >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write whole row groups, and keep what is left."""
        together = pa.concat_tables(self._parts)
        whole = together.num_rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS
        self._file.write(together.slice(0, whole))
        self._parts = [together.slice(whole)]

    def commit(self) -> Committed:
        """Put the arrays in place, and then the file."""
        written = None if self._arrays is None else self._arrays.commit()
        rest = pa.concat_tables(self._parts) if self._parts else None
        if rest is not None and (rest.num_rows or not self._file.rows):
            self._file.write(rest)
        digest = self._file.commit()
        if written is None:
            return Committed({self._name: digest}, {})
        return Committed({self._name: digest, **written.outputs}, written.missing)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def plain_columns(schema: pa.Schema) -> list[str]:
    """The columns of a table that Parquet holds."""
    return [field.name for field in schema if not is_tensor(field.type)]


def read_rows(
    layout: Layout, partition: Partition, columns: Sequence[str], *, model: str | None = None
) -> Iterator[pa.Table]:
    """Read some columns of a partition, one piece after the other.

    Memory does not grow with the partition.

    Parameters
    ----------
    layout : Layout
    partition : Partition
    columns : sequence of str
        Scalars, lists and arrays.
    model : str, optional
        Predictions of this model instead of the catalogue.

    Yields
    ------
    pyarrow.Table
        At most a row group, and where there are arrays among the columns at most the rows of one
        of their shards. A row without a value is null.

    Raises
    ------
    SpecError
        If there is no such column.
    DataError
        If a file is missing or is not what was written.
    """
    with opened_partition(layout, partition, model) as file:
        there = set(file.schema_arrow.names)
        wanted = [name for name in columns if name not in there]
        others = [name for name in columns if name in there]
        if not wanted:
            for group in _groups(file, others):
                yield group.select(list(columns))
            return
        arrays = _arrays_of(layout, partition, model, file, wanted)
        beside = ArraysBeside.from_metadata(file.schema_arrow.metadata)
        span = (
            arrays.spans[partition.name] if beside is None else beside.span(file.metadata.num_rows)
        )
        done = 0
        for group in _groups(file, others):
            for start in range(0, max(group.num_rows, 1), arrays.shard_rows):
                part = group.slice(start, arrays.shard_rows)
                rows = slice(done, done + part.num_rows)
                _, values = arrays.read_span(partition.name, span, rows, wanted)
                for name in wanted:
                    part = part.append_column(name, _column(arrays, name, values[name]))
                done += part.num_rows
                yield part.select(list(columns))


def read_places(
    layout: Layout, partition: Partition, columns: Sequence[str], places: NDArray[np.int64]
) -> pa.Table:
    """A few rows of a partition of the catalogue, by their place in it.

    Parameters
    ----------
    layout : Layout
    partition : Partition
    columns : sequence of str
        Scalars, lists and arrays.
    places : ndarray, shape (n,)
        Rising.

    Returns
    -------
    pyarrow.Table
        n rows. A row without a value is null.

    Raises
    ------
    SpecError, DataError
        As `read_rows`.
    """
    with opened_partition(layout, partition) as file:
        there = set(file.schema_arrow.names)
        wanted = [name for name in columns if name not in there]
        table = file.read(columns=[name for name in columns if name in there]).take(places)
        if wanted:
            arrays = _arrays_of(layout, partition, None, file, wanted)
            beside = ArraysBeside.from_metadata(file.schema_arrow.metadata)
            rows = file.metadata.num_rows
            span = arrays.spans[partition.name] if beside is None else beside.span(rows)
            _, values = arrays.read_span(partition.name, span, places, wanted)
            for name in wanted:
                table = table.append_column(name, _column(arrays, name, values[name]))
    return table.select(list(columns))


def partition_metadata(layout: Layout, partition: Partition) -> Mapping[bytes, bytes]:
    """Metadata of a partition's file of the catalogue; empty where it cannot be read."""
    try:
        with opened_partition(layout, partition) as file:
            return file.schema_arrow.metadata or {}
    except DataError:
        return {}


def arrays_named(layout: Layout, partition: Partition) -> tuple[Span, str]:
    """Where the arrays of a partition of the catalogue lie, and their digest, as its file says.

    Raises
    ------
    DataError
        If it says nothing of arrays, or cannot be read.
    """
    with opened_partition(layout, partition) as file:
        beside = ArraysBeside.from_metadata(file.schema_arrow.metadata)
        if beside is None:
            raise DataError(
                str(layout.partition(partition)),
                "does not say where its arrays are",
                "run `galbatch verify`, and then the job again",
            )
        return beside.span(file.metadata.num_rows), beside.digest


def _arrays_of(
    layout: Layout,
    partition: Partition,
    model: str | None,
    file: pq.ParquetFile,
    wanted: Iterable[str],
) -> Arrays:
    """The arrays that hold the columns which a file does not."""
    known = list(file.schema_arrow.names)
    arrays = Arrays(layout, model) if layout.arrays(model).exists() else None
    if arrays is not None:
        known += arrays.values
    for name in wanted:
        if arrays is None or name not in arrays.values:
            where = str(layout.partition(partition, model))
            raise SpecError(where, f"has no column '{name}'", did_you_mean(name, known))
    assert arrays is not None
    return arrays


def _groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns=columns).select(columns)


def _column(arrays: Arrays, name: str, values: NDArray[Any]) -> pa.Array:
    stored = arrays.values[name]
    dimensions = tuple(stored.metadata.dimension_names[1:])
    kind = arrow_type(values.dtype.name, values.shape[1:], dimensions)  # type: ignore[arg-type]
    spec = ArraySpec(name, values.shape[1:], dimensions, values.dtype.name)
    missing = spec.is_missing(values)
    return from_numpy(values, kind, missing if missing.any() else None)
