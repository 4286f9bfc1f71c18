"""Arrays of a partition, gathered from the shards and partitions that hold its rows.

The keys of the rows are sorted first, without their arrays; then the arrays are read and written
one shard after the other: memory does not grow with the partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.store.arrays import Arrays, ArraySpec, ArrayWriter, GroupSpec, Span, Written
from galbatch.store.layout import Layout
from galbatch.store.shard_rows import read_arrays
from galbatch.store.shards import POSITION, SOURCE, Shard


class ArraySource(Protocol):
    """Where arrays are read from."""

    def read(
        self, rows: NDArray[np.int64], arrays: Sequence[ArraySpec]
    ) -> Mapping[str, NDArray[Any]]:
        """Arrays of some rows, by name: each of shape (n, ...)."""
        ...


@dataclass(frozen=True)
class FromShard:
    """Arrays in a shard between scan and ingest."""

    layout: Layout
    shard: Shard

    def read(
        self, rows: NDArray[np.int64], arrays: Sequence[ArraySpec]
    ) -> Mapping[str, NDArray[Any]]:
        """Arrays of some rows; see `ArraySource`."""
        return read_arrays(self.layout, self.shard, rows, arrays)


@dataclass(frozen=True)
class FromCatalogue:
    """Arrays of a partition that is in the store, in the place that its Parquet file names."""

    layout: Layout
    partition: str
    span: Span

    def read(
        self, rows: NDArray[np.int64], arrays: Sequence[ArraySpec]
    ) -> Mapping[str, NDArray[Any]]:
        """Arrays of some rows; see `ArraySource`."""
        names = [array.name for array in arrays]
        return self._arrays.read_span(self.partition, self.span, rows, names)[1]

    @cached_property
    def _arrays(self) -> Arrays:
        """Opened once: the group lists all partitions."""
        return Arrays(self.layout, None)


def gather_arrays(
    layout: Layout,
    spec: GroupSpec,
    span: Span,
    rows: pa.Table,
    id_column: str,
    sources: Sequence[ArraySource],
) -> Written:
    """Write the arrays of a partition of the catalogue.

    Parameters
    ----------
    layout : Layout
    spec : GroupSpec
    span : Span
        Where they go.
    rows : pyarrow.Table
        The partition's rows in their order: the id, and in `SOURCE` and `POSITION` where each lies
        in `sources`.
    id_column : str
    sources : sequence of ArraySource

    Returns
    -------
    Written

    Raises
    ------
    DataError
        If what is read cannot be relied on.
    SpecError
        If the disk is full, or a shard is gone.
    """
    with ArrayWriter(layout, None, spec, span) as writer:
        for start in range(0, rows.num_rows, spec.shard_rows):
            part = rows.slice(start, spec.shard_rows)
            source, position = part[SOURCE].to_numpy(), part[POSITION].to_numpy()
            values = {
                array.name: np.empty((part.num_rows, *array.shape), array.dtype)
                for array in spec.arrays
            }
            for number in np.unique(source).tolist():
                places = np.flatnonzero(source == number)
                # In the order in which they lie, so that files are read forward.
                places = places[np.argsort(position[places], kind="stable")]
                for name, found in sources[number].read(position[places], spec.arrays).items():
                    values[name][places] = found
            writer.write(part[id_column].to_numpy(), values)
        return writer.commit()
