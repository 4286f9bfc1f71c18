"""The rows of one partition: from the shards of the scan, and from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import DataError
from galbatch.store.facts import RowRanges, StoredPartition
from galbatch.store.layout import Layout
from galbatch.store.partitions import HEALPIX_ORDER
from galbatch.store.receipts import Need
from galbatch.store.shards import Shard, fit, read_pixels, read_places, read_rows, sort_rows
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
    places : tuple of int
        Rows of the changed files, by their place, for a survey without a sky.
    files : mapping of int to (int, int)
        Sources that it has rows of: the first and last row at most.
    """

    partition: Partition
    need: Need
    stored: tuple[Partition, ...]
    lost: tuple[StoredPartition, ...]
    places: tuple[int, int]
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
    replaced : tuple of int
        Files whose rows in the store do not count: the shards stand for them, if there are any.
    """

    changed: tuple[Shard, ...]
    changed_without: pa.Table
    reread: tuple[Shard, ...]
    reread_without: pa.Table
    schema: pa.Schema
    replaced: tuple[int, ...]


def partition_rows(
    layout: Layout, sources: RowSources, plan: PartitionPlan, id_column: str
) -> pa.Table:
    """All rows of a partition, sorted. Takes memory for about two copies of them.

    Raises
    ------
    DataError
        If files could not be read that lost rows come from.
    """
    partition, schema = plan.partition, sources.schema
    parts = [_changed_rows(layout, sources, plan)]
    for stored in plan.stored:
        rows = rows_that_stay(layout, stored, None, sources.replaced)
        parts.append(fit(_within(rows, partition), schema))
    parts += [_lost_rows(layout, sources, partition, lost) for lost in plan.lost]
    return sort_rows(pa.concat_tables(parts), id_column)


def _changed_rows(layout: Layout, sources: RowSources, plan: PartitionPlan) -> pa.Table:
    """Those of new and changed files."""
    shards, without = sources.changed, sources.changed_without
    if plan.partition.kind == "rows":
        return read_places(layout, shards, plan.places, sources.schema, without)
    return read_pixels(layout, shards, pixel_range(plan.partition), sources.schema, without)


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
    schema, without = sources.schema, sources.reread_without
    if partition.kind == "rows":
        return read_rows(layout, sources.reread, files, schema, without)
    low, high = pixel_range(partition)
    first, stop = pixel_range(lost.partition)
    pixels = (max(low, first), min(high, stop))
    rows = read_pixels(layout, sources.reread, pixels, schema, without)
    return rows.filter(pc.is_in(rows[FILE], pa.array(list(files), pa.int32())))


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
    table = read_partition(layout, partition, columns)
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
