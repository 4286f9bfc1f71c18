"""Between scan and ingest: batches of rows, each sorted on the sky.

A shard is an uncompressed Arrow file that is memory-mapped: a partition reads just its own rows
of each, found by bisection, however many shards there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.partitions import HEALPIX_ORDER, Histogram
from galbatch.store.tables import HEALPIX
from galbatch.values import Partition

FILE = "_file"
"""Provenance column of a shard: number of the source file (int32)."""
ROW = "_row"
"""Provenance column of a shard: number of the row in that file, from 1 (int64)."""
PROVENANCE = (FILE, ROW)

_WHOLE_SKY = 12 * 4**HEALPIX_ORDER


@dataclass(frozen=True)
class Shard:
    """One batch of rows in the work folder.

    Parameters
    ----------
    name : str
        Unique in the store; `Layout.shard` makes its path of it.
    rows : int
        Rows it holds.
    low, high : int
        Smallest and largest HEALPix pixel (order 29); 0 for a survey without sky.
    digest : str
        SHA-256 of the file.
    """

    name: str
    rows: int
    low: int
    high: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary, for a receipt's facts."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Shard:
        """The inverse of `to_json`."""
        return cls(**record)


def write_shard(layout: Layout, name: str, table: pa.Table) -> Shard:
    """Write a batch of rows for `read_shards`.

    Parameters
    ----------
    layout : Layout
    name : str
        Unique in the store.
    table : pyarrow.Table
        The catalogue's columns, `_healpix_29` where the survey has a sky, `_file` and `_row`.
        Without a sky, shards and their rows are in the order of the files.

    Returns
    -------
    Shard
    """
    missing = [column for column in PROVENANCE if column not in table.column_names]
    if missing:
        raise ValueError(f"shard {name}: needs the columns {', '.join(missing)}")
    table = table.combine_chunks()
    low = high = 0
    if HEALPIX in table.column_names and table.num_rows:
        table = _sorted(table, HEALPIX, FILE, ROW)
        low, high = table[HEALPIX][0].as_py(), table[HEALPIX][-1].as_py()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    digest = commit_bytes(layout.shard(name), sink.getvalue())
    return Shard(name, table.num_rows, low, high, digest)


def count_pixels(
    layout: Layout, shards: Sequence[Shard], order: int, without: pa.Table | None = None
) -> Histogram:
    """Rows per HEALPix pixel over shards (of a survey with a sky).

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    order : int
        HEALPix order of the pixels, at most 29.
    without : pyarrow.Table, optional
        Rows that do not count, from `find_duplicates` over the same shards.

    Returns
    -------
    Histogram
    """
    excluded = _positions(without, len(shards))
    histograms = []
    for shard, gone in zip(shards, excluded, strict=True):
        healpix = _healpix(_mapped(layout, shard))
        kept = np.delete(healpix, gone) if len(gone) else healpix
        histograms.append(Histogram.of(kept, order))
    return Histogram.total(histograms, order)


def kept_rows(shards: Sequence[Shard], without: pa.Table | None = None) -> NDArray[np.bool_]:
    """Which rows belong to the catalogue, for `plan_row_ranges`.

    Parameters
    ----------
    shards : sequence of Shard
    without : pyarrow.Table, optional
        From `find_duplicates` over the same shards.

    Returns
    -------
    array of bool, shape (rows of all shards,)
    """
    starts = _starts(shards)
    kept = np.ones(starts[-1], bool)
    for start, gone in zip(starts, _positions(without, len(shards)), strict=False):
        kept[start + gone] = False
    return kept


def catalogue_schema(layout: Layout, shards: Sequence[Shard]) -> pa.Schema:
    """The schema that fits all shards, without the provenance columns.

    Files of one survey may keep the same column as float32 and as float64, or lack one: the
    catalogue takes the wider type, and nothing where a file has no such column.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        One of each source file is enough.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    SpecError
        If a column is text in one file and a number in another.
    """
    unified: pa.Schema | None = None
    for shard in shards:
        schema = _mapped(layout, shard).drop_columns(list(PROVENANCE)).schema
        if unified is None:
            unified = schema
        elif schema != unified:
            try:
                unified = pa.unify_schemas([unified, schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise SpecError(
                    f"shard {shard.name}",
                    f"a column has another type than in the files before it: {error}",
                    "give the column's dtype in the survey, or convert the file",
                ) from error
    if unified is None:
        raise ValueError("there are no shards")
    return unified


def read_shards(
    layout: Layout,
    shards: Sequence[Shard],
    partition: Partition,
    *,
    schema: pa.Schema,
    id_column: str,
    range_rows: int = 0,
    without: pa.Table | None = None,
) -> pa.Table:
    """Gather the rows of one partition.

    Takes memory for about two copies of the partition's rows, however many shards there are.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        All of them, in the order of the files.
    partition : Partition
    schema : pyarrow.Schema
        From `catalogue_schema`; the result has it, field metadata included.
    id_column : str
        Rows are sorted by (`_healpix_29`, id); a row range keeps the order of the files.
    range_rows : int
        Rows in a full row range (`PartitionSpec.rows`); not needed for HEALPix partitions.
    without : pyarrow.Table, optional
        Rows to leave out, from `find_duplicates` over the same shards.

    Returns
    -------
    pyarrow.Table
    """
    if partition.kind == "healpix":
        shift = 2 * (HEALPIX_ORDER - partition.order)
        first, stop = partition.index << shift, (partition.index + 1) << shift
    else:
        first, stop = partition.index * range_rows, (partition.index + 1) * range_rows
    starts = _starts(shards)
    slices = [schema.empty_table()]
    for shard, start, gone in zip(shards, starts, _positions(without, len(shards)), strict=False):
        if partition.kind == "healpix":
            if shard.rows == 0 or shard.high < first or shard.low >= stop:
                continue
        elif start + shard.rows <= first or start >= stop:
            continue
        table = _mapped(layout, shard)
        if partition.kind == "healpix":
            begin, end = np.searchsorted(_healpix(table), (first, stop)).tolist()
        else:
            begin, end = max(0, first - start), min(shard.rows, stop - start)
        rows = np.arange(begin, end)
        rows = rows[~np.isin(rows, gone)] if len(gone) else rows
        if len(rows):
            # take() copies, so that the file need not stay mapped.
            slices.append(_fit(table.take(rows), schema))
    gathered = pa.concat_tables(slices).combine_chunks()
    del slices
    if partition.kind == "healpix":
        gathered = _sorted(gathered, HEALPIX, id_column)
    return gathered


def provenance(layout: Layout, shards: Sequence[Shard], column: str) -> Iterator[pa.RecordBatch]:
    """One column of every shard with where each row is and came from.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    column : str

    Yields
    ------
    pyarrow.RecordBatch
        The column as ``id``, `_file`, `_row`, `_shard` (number in `shards`) and `_position` (row
        in the shard).
    """
    for number, shard in enumerate(shards):
        table = _mapped(layout, shard)
        columns: list[pa.Array[Any] | pa.ChunkedArray[Any]] = [
            table[column],
            table[FILE].cast(pa.int32()),
            table[ROW].cast(pa.int64()),
            pa.array(np.full(shard.rows, number, np.int32), pa.int32()),
            pa.array(np.arange(shard.rows), pa.int64()),
        ]
        yield from pa.table(columns, names=["id", FILE, ROW, "_shard", "_position"]).to_batches()


def _sorted(table: pa.Table, *columns: str) -> pa.Table:
    keys: list[tuple[str, Literal["ascending", "descending"]]]
    keys = [(column, "ascending") for column in columns]
    return table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _starts(shards: Sequence[Shard]) -> list[int]:
    """Number of the first row of each shard among all, and the number of rows."""
    return list(accumulate((shard.rows for shard in shards), initial=0))


def _positions(without: pa.Table | None, shards: int) -> list[NDArray[np.int64]]:
    """Rows to leave out of each shard."""
    if without is None or without.num_rows == 0:
        return [np.empty(0, np.int64)] * shards
    ordered = without.select(["_shard", "_position"]).sort_by("_shard")
    number = ordered["_shard"].to_numpy()
    position = ordered["_position"].to_numpy()
    return np.split(position, np.searchsorted(number, np.arange(1, shards)))


def _mapped(layout: Layout, shard: Shard) -> pa.Table:
    """The shard's columns in the mapped file, which lives as long as any of them."""
    path = layout.shard(shard.name)
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
    except FileNotFoundError as error:
        raise DataError(str(path), "is gone", "run again: it will be made anew") from error
    except pa.ArrowInvalid as error:
        raise DataError(str(path), f"cannot be read: {error}", "delete it, run again") from error
    if table.num_rows != shard.rows:
        raise DataError(str(path), f"expected {shard.rows} rows, has {table.num_rows}")
    return table


def _healpix(table: pa.Table) -> NDArray[np.int64]:
    """The column without a copy: it is one chunk of the mapped file."""
    column = table[HEALPIX]
    if column.num_chunks == 0:
        return np.empty(0, np.int64)
    healpix: NDArray[np.int64] = column.chunk(0).to_numpy(zero_copy_only=True)
    return healpix
