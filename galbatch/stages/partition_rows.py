"""The rows of one partition: from the shards of the scan, and from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.columns import is_tensor
from galbatch.errors import DataError
from galbatch.store.arrays import GroupSpec, outputs_digest, shard_outputs
from galbatch.store.facts import RowRanges, StoredPartition
from galbatch.store.gather import ArraySource, FromCatalogue, FromShard
from galbatch.store.layout import Layout
from galbatch.store.partitions import HEALPIX_ORDER
from galbatch.store.receipts import Need
from galbatch.store.rows import arrays_named
from galbatch.store.shard_rows import (
    located,
    read_file_rows,
    read_pixels,
    read_row_range,
    with_schema,
)
from galbatch.store.shards import POSITION, SOURCE, Shard, sort_rows
from galbatch.store.tables import FILE, HEALPIX, read_partition
from galbatch.values import Partition


@dataclass(frozen=True)
class PartitionPlan:
    """What a partition is made of.

    Parameters
    ----------
    partition : Partition
    need : Need
        What its receipt must have been made from.
    stored : tuple of Partition
        Partitions in the store that hold rows of it.
    lost : tuple of StoredPartition
        Those of the published catalogue that held rows of it and cannot be read any more.
    row_range : tuple of int
        Rows of the changed files, by their place, for a survey without a sky.
    files : mapping of int to (int, int)
        Sources that it has rows of: the first and last row at most.
    """

    partition: Partition
    need: Need
    stored: tuple[Partition, ...]
    lost: tuple[StoredPartition, ...]
    row_range: tuple[int, int]
    files: RowRanges


@dataclass(frozen=True)
class RowSources:
    """Where the rows of all partitions are.

    Parameters
    ----------
    changed : tuple of Shard
        Of new and changed files, in the order of the files.
    changed_without : pyarrow.Table
        Rows of them that repeat an id.
    reread : tuple of Shard
        Of sources that were read again, for the partitions that are lost.
    reread_without : pyarrow.Table
        Rows of them that repeat an id.
    schema : pyarrow.Schema
        Arrays among the columns.
    replaced : tuple of int
        Files whose rows in the store do not count: the shards stand for them, if there are any.
    """

    changed: tuple[Shard, ...]
    changed_without: pa.Table
    reread: tuple[Shard, ...]
    reread_without: pa.Table
    schema: pa.Schema
    replaced: tuple[int, ...]

    @cached_property
    def has_arrays(self) -> bool:
        """Whether rows have arrays, which are gathered when their order is known."""
        return any(is_tensor(field.type) for field in self.schema)

    @cached_property
    def plain(self) -> pa.Schema:
        """The columns that are gathered at once; with arrays, where each row lies besides."""
        if not self.has_arrays:
            return self.schema
        fields = [field for field in self.schema if not is_tensor(field.type)]
        origins = [pa.field(SOURCE, pa.int32()), pa.field(POSITION, pa.int64())]
        return pa.schema([*fields, *origins])


def partition_rows(
    layout: Layout, sources: RowSources, plan: PartitionPlan, id_column: str
) -> pa.Table:
    """All rows of a partition, sorted. Takes memory for about two copies of them.

    Returns
    -------
    pyarrow.Table
        With the columns of `RowSources.plain`: where there are arrays, `SOURCE` and `POSITION` say
        where in `array_sources` those of each row lie.

    Raises
    ------
    DataError
        If files could not be read that lost rows come from.
    """
    partition, schema = plan.partition, sources.plain
    first = len(sources.changed) + len(sources.reread)
    parts = [_changed_rows(layout, sources, plan)]
    for number, stored in enumerate(plan.stored):
        rows = read_partition(layout, stored)
        if sources.has_arrays:
            rows = located(rows, first + number, np.arange(rows.num_rows))
        rows = _that_stay(rows, sources.replaced)
        parts.append(with_schema(_within(rows, partition), schema))
    parts += [_lost_rows(layout, sources, partition, lost) for lost in plan.lost]
    return sort_rows(pa.concat_tables(parts), id_column)


def array_sources(
    layout: Layout, sources: RowSources, plan: PartitionPlan, spec: GroupSpec
) -> tuple[ArraySource, ...]:
    """Where the arrays of a partition's rows are read from, by the number in `SOURCE`.

    Raises
    ------
    DataError
        If a partition in the store has other arrays than its file names: they would be given to
        rows that they do not belong to.
    """
    shards = (*sources.changed, *sources.reread)
    stored = []
    for partition in plan.stored:
        span, digest = arrays_named(layout, partition)
        if outputs_digest(shard_outputs(layout, None, spec, span)) != digest:
            raise DataError(
                str(layout.partition(partition)),
                "the arrays in the place that it names are not those that were written with it",
                "run `galbatch verify`, and then the job again",
            )
        stored.append(FromCatalogue(layout, partition.name, span))
    return (*(FromShard(layout, shard) for shard in shards), *stored)


def _changed_rows(layout: Layout, sources: RowSources, plan: PartitionPlan) -> pa.Table:
    """Those of new and changed files."""
    shards, without = sources.changed, sources.changed_without
    if plan.partition.kind == "rows":
        return read_row_range(layout, shards, plan.row_range, sources.plain, without)
    return read_pixels(layout, shards, pixel_range(plan.partition), sources.plain, without)


def _lost_rows(
    layout: Layout, sources: RowSources, partition: Partition, lost: StoredPartition
) -> pa.Table:
    """Those that a partition of the published catalogue held which cannot be read any more."""
    files = {number: rows for number, rows in lost.files.items() if number not in sources.replaced}
    missing = files.keys() - {shard.file for shard in sources.reread}
    if missing:
        raise DataError(
            f"partition {lost.partition.name}",
            f"{len(missing)} of the files that its rows come from could not be read",
            "see what is quarantined, and run again",
        )
    schema, without = sources.plain, sources.reread_without
    if partition.kind == "rows":
        return _behind(sources, read_file_rows(layout, sources.reread, files, schema, without))
    low, high = pixel_range(partition)
    first, stop = pixel_range(lost.partition)
    pixels = (max(low, first), min(high, stop))
    rows = read_pixels(layout, sources.reread, pixels, schema, without)
    rows = rows.filter(pc.is_in(rows[FILE], pa.array(list(files), pa.int32())))
    return _behind(sources, rows)


def _behind(sources: RowSources, rows: pa.Table) -> pa.Table:
    """With the numbers of shards that were read again behind those of changed files."""
    place = rows.schema.get_field_index(SOURCE)
    if place < 0:
        return rows
    numbers = pc.add(rows[SOURCE], pa.scalar(len(sources.changed), pa.int32()))
    return rows.set_column(place, SOURCE, numbers)


def rows_that_stay(
    layout: Layout, partition: Partition, columns: Sequence[str] | None, replaced: Sequence[int]
) -> pa.Table:
    """Rows of a partition in the store whose source has not changed.

    Parameters
    ----------
    layout : Layout
    partition : Partition
    columns : sequence of str or None
        `FILE` among them; None for all.
    replaced : sequence of int
        Numbers of the files that changed.
    """
    return _that_stay(read_partition(layout, partition, columns), replaced)


def _that_stay(table: pa.Table, replaced: Sequence[int]) -> pa.Table:
    changed = pa.array(list(replaced), table[FILE].type)
    return table.filter(pc.invert(pc.is_in(table[FILE], changed)))


def _within(table: pa.Table, partition: Partition) -> pa.Table:
    if partition.kind == "rows":
        return table
    first, stop = pixel_range(partition)
    healpix = table[HEALPIX].to_numpy()
    return table.filter(pa.array((healpix >= first) & (healpix < stop)))


def pixel_range(partition: Partition) -> tuple[int, int]:
    """The first pixel of order 29, and the one after the last."""
    shift = 2 * (HEALPIX_ORDER - partition.order)
    return partition.index << shift, (partition.index + 1) << shift


def position(partition: Partition) -> int:
    """What partitions are sorted by: along the sky, or by the number of the row range."""
    return partition.index if partition.kind == "rows" else pixel_range(partition)[0]
