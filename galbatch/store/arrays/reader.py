"""Rows of the arrays, read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import DataError
from galbatch.store.arrays.group import open_array, open_store, read_stored
from galbatch.store.arrays.spans import Span
from galbatch.store.arrays.spec import NO_ID, id_kind
from galbatch.store.layout import Layout
from galbatch.values import ID

RowSelection = slice | NDArray[np.integer[Any]] | None


class Arrays:
    """The arrays of a group, to read; nothing is read before it is asked for.

    Parameters
    ----------
    layout : Layout
    table : str or None
        A model's name; None for the catalogue.

    Raises
    ------
    DataError
        If there is no such group.
    """

    def __init__(self, layout: Layout, table: str | None) -> None:
        self._where = layout.arrays(table)
        stored = read_stored(self._where)
        if stored is None:
            raise DataError(str(self._where), "no arrays here", "run the job that makes them")
        store = open_store(self._where, read_only=True)
        self.spans: Mapping[str, Span] = stored.spans
        self.values: dict[str, Any] = {name: open_array(store, name) for name in stored.arrays}
        """The Zarr arrays by name, each of shape (rows, ...)."""
        self.ids: Any = open_array(store, ID)
        """The Zarr array of the ids, shape (rows,)."""

    @property
    def shard_rows(self) -> int:
        """Rows of one shard."""
        return int(self.ids.chunks[0])

    def read(
        self, partition: str, rows: RowSelection = None, names: Collection[str] | None = None
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Some rows of a partition.

        Parameters
        ----------
        partition : str
        rows : slice or array of int, optional
            Numbers of rows in the partition's file, in any order; by default all.
        names : collection of str, optional
            Of the arrays to read; by default all.

        Returns
        -------
        ids : ndarray, shape (n,)
        values : dict of str to ndarray, shape (n, ...)

        Raises
        ------
        DataError
            If the partition is not there, or has not been written.
        """
        try:
            span = self.spans[partition]
        except KeyError:
            raise DataError(str(self._where), f"has no partition '{partition}'") from None
        return self.read_span(partition, span, rows, names)

    def read_span(
        self,
        partition: str,
        span: Span,
        rows: RowSelection = None,
        names: Collection[str] | None = None,
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """As `read`, for a partition whose Parquet file says that its arrays lie in this span."""
        chosen: Any
        if isinstance(rows, np.ndarray):
            if rows.size and (rows.min() < 0 or rows.max() >= span.rows):
                raise IndexError(f"partition {partition} has {span.rows} rows")
            chosen = span.first + rows.astype(np.int64)
        else:
            begin, end, step = (rows or slice(None)).indices(span.rows)
            if step != 1:
                return self.read_span(partition, span, np.arange(begin, end, step), names)
            chosen = slice(span.first + begin, span.first + max(begin, end))
        ids = self.ids.oindex[chosen]
        # Where there is no shard, Zarr answers with the fill value.
        if (ids == NO_ID[id_kind(ids.dtype.name)]).any():
            raise DataError(str(self._where), f"partition '{partition}' has not been written")
        wanted = self.values if names is None else names
        return ids, {name: self.values[name].oindex[chosen] for name in wanted}

    def batches(self, partition: str) -> Iterator[tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
        """All rows of a partition, one shard after the other.

        Yields
        ------
        ids : ndarray, shape (n,)
        values : dict of str to ndarray, shape (n, ...)
        """
        if partition not in self.spans:
            raise DataError(str(self._where), f"has no partition '{partition}'")
        for begin in range(0, self.spans[partition].rows, self.shard_rows):
            yield self.read(partition, slice(begin, begin + self.shard_rows))
