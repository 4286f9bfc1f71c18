"""Rows of shards: counted, found and read by where they are on the sky or in the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.store.arrays import ArraySpec
from galbatch.store.layout import Layout
from galbatch.store.partitions import PixelCounts
from galbatch.store.shards import POSITION, SOURCE, Shard, open_shard
from galbatch.store.tables import FILE, HEALPIX, ROW


def count_pixels(
    layout: Layout, shards: Sequence[Shard], order: int, without: pa.Table | None = None
) -> dict[int, PixelCounts]:
    """Rows per HEALPix pixel over the shards of each source (of a survey with a sky).

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
    dict of int to Histogram
        By the number of the source file.
    """
    excluded = _positions(without, len(shards))
    histograms: dict[int, list[PixelCounts]] = {}
    for shard, gone in zip(shards, excluded, strict=True):
        healpix = _healpix(open_shard(layout, shard))
        kept = np.delete(healpix, gone) if len(gone) else healpix
        histograms.setdefault(shard.file, []).append(PixelCounts.of(kept, order))
    return {file: PixelCounts.total(found, order) for file, found in histograms.items()}


def row_numbers(shards: Sequence[Shard], without: pa.Table) -> NDArray[np.int64]:
    """Numbers of the rows to leave out, counted over all shards, for `plan_row_ranges`.

    Parameters
    ----------
    shards : sequence of Shard
    without : pyarrow.Table
        From `find_duplicates` over the same shards.

    Returns
    -------
    array of int64
    """
    starts = np.array(_starts(shards), np.int64)
    places: NDArray[np.int64] = (
        starts[without["_shard"].to_numpy()] + without["_position"].to_numpy()
    )
    return places


def files_between(
    layout: Layout, shards: Sequence[Shard], row_range: tuple[int, int]
) -> dict[int, tuple[int, int]]:
    """The sources of a range of rows, each with its first and last row in the range.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        Of a survey without a sky, in the order of the files.
    row_range : tuple of int
        The first row and the one after the last.

    Returns
    -------
    dict of int to (int, int)
    """
    first, stop = row_range
    found: dict[int, tuple[int, int]] = {}
    for shard, start in zip(shards, _starts(shards), strict=False):
        begin, end = max(0, first - start), min(shard.rows, stop - start)
        if begin >= end:
            continue
        rows = open_shard(layout, shard)[ROW]
        low, high = rows[begin].as_py(), rows[end - 1].as_py()
        found[shard.file] = (found.get(shard.file, (low, high))[0], high)
    return found


def read_pixels(
    layout: Layout,
    shards: Sequence[Shard],
    pixels: tuple[int, int],
    schema: pa.Schema,
    without: pa.Table | None = None,
) -> pa.Table:
    """Rows of a survey with a sky in a range of HEALPix pixels.

    Takes memory for the rows, however many shards there are.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    pixels : tuple of int
        The first pixel (order 29) and the one after the last.
    schema : pyarrow.Schema
        From `catalogue_schema`; the result has it, field metadata included.
    without : pyarrow.Table, optional
        Rows to leave out, from `find_duplicates` over the same shards.

    Returns
    -------
    pyarrow.Table
        Not sorted.
    """
    first, stop = pixels
    slices = [schema.empty_table()]
    for number, (shard, gone) in enumerate(
        zip(shards, _positions(without, len(shards)), strict=True)
    ):
        if shard.rows == 0 or shard.high < first or shard.low >= stop:
            continue
        table = open_shard(layout, shard)
        begin, end = np.searchsorted(_healpix(table), pixels).tolist()
        slices.append(_selected(table, np.arange(begin, end), gone, schema, number))
    return pa.concat_tables(slices)


def read_row_range(
    layout: Layout,
    shards: Sequence[Shard],
    row_range: tuple[int, int],
    schema: pa.Schema,
    without: pa.Table | None = None,
) -> pa.Table:
    """Rows of a survey without a sky by their number, counted over all shards.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        In the order of the files.
    row_range : tuple of int
        The first row and the one after the last; rows to leave out are counted as well.
    schema : pyarrow.Schema
        From `catalogue_schema`; the result has it, field metadata included.
    without : pyarrow.Table, optional
        Rows to leave out, from `find_duplicates` over the same shards.

    Returns
    -------
    pyarrow.Table
        In the order of the files.
    """
    first, stop = row_range
    slices = [schema.empty_table()]
    starts = _starts(shards)
    positions = _positions(without, len(shards))
    for number, (shard, start, gone) in enumerate(zip(shards, starts, positions, strict=False)):
        if start + shard.rows <= first or start >= stop:
            continue
        rows = np.arange(max(0, first - start), min(shard.rows, stop - start))
        slices.append(_selected(open_shard(layout, shard), rows, gone, schema, number))
    return pa.concat_tables(slices)


def read_file_rows(
    layout: Layout,
    shards: Sequence[Shard],
    files: Mapping[int, tuple[int, int]],
    schema: pa.Schema,
    without: pa.Table | None = None,
) -> pa.Table:
    """Rows by the file that they came from.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        In the order of the files.
    files : mapping of int to (int, int)
        The first and the last row wanted of each source file.
    schema : pyarrow.Schema
        From `catalogue_schema`; the result has it, field metadata included.
    without : pyarrow.Table, optional
        Rows to leave out, from `find_duplicates` over the same shards.

    Returns
    -------
    pyarrow.Table
        In the order of the files.
    """
    slices = [schema.empty_table()]
    for number, (shard, gone) in enumerate(
        zip(shards, _positions(without, len(shards)), strict=True)
    ):
        if shard.file not in files:
            continue
        low, high = files[shard.file]
        table = open_shard(layout, shard)
        row = table[ROW].to_numpy()
        slices.append(
            _selected(table, np.flatnonzero((row >= low) & (row <= high)), gone, schema, number)
        )
    return pa.concat_tables(slices)


def find_rows(
    layout: Layout, shards: Sequence[Shard], rows: Mapping[int, NDArray[np.int64]]
) -> pa.Table:
    """Where rows of given files are in the shards, in the form of `without` of the functions here.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    rows : mapping of int to array
        Row numbers, by the number of the file.

    Returns
    -------
    pyarrow.Table
        ``_shard``, ``_position``.
    """
    numbers, positions = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for number, shard in enumerate(shards):
        wanted = rows.get(shard.file)
        if wanted is None or not len(wanted):
            continue
        found = np.flatnonzero(np.isin(open_shard(layout, shard)[ROW].to_numpy(), wanted))
        numbers.append(np.full(len(found), number, np.int32))
        positions.append(found.astype(np.int64))
    return pa.table({"_shard": np.concatenate(numbers), "_position": np.concatenate(positions)})


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of the catalogue; null where it lacks a column."""
    # Not `in column_names`: that makes a list of them all for every column that is asked for.
    place = {name: number for number, name in enumerate(table.schema.names)}
    columns = [
        table.column(place[field.name]).cast(field.type)
        if field.name in place
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def ids_with_provenance(
    layout: Layout, shards: Sequence[Shard], column: str, kind: pa.DataType
) -> Iterator[pa.RecordBatch]:
    """One column of every shard with where each row is and came from.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    column : str
    kind : pyarrow.DataType
        Type that the column is converted to, the same in every shard: native code that reads the
        batches assumes that all have the type of the first.

    Yields
    ------
    pyarrow.RecordBatch
        The column as ``id``, `_file`, `_row`, `_shard` (number in `shards`) and `_position` (row
        in the shard).
    """
    for number, shard in enumerate(shards):
        table = open_shard(layout, shard)
        columns: list[pa.Array[Any] | pa.ChunkedArray[Any]] = [
            table[column].cast(kind),
            table[FILE].cast(pa.int32()),
            table[ROW].cast(pa.int64()),
            pa.array(np.full(shard.rows, number, np.int32), pa.int32()),
            pa.array(np.arange(shard.rows), pa.int64()),
        ]
        yield from pa.table(columns, names=["id", FILE, ROW, "_shard", "_position"]).to_batches()


def _selected(
    table: pa.Table,
    rows: NDArray[np.int64],
    gone: NDArray[np.int64],
    schema: pa.Schema,
    number: int,
) -> pa.Table:
    """Some rows of the shard with this number, and where each lies if the schema asks for it."""
    kept = rows[~np.isin(rows, gone)] if len(gone) else rows
    known = [name for name in table.schema.names if schema.get_field_index(name) >= 0]
    # take() copies, so that the file need not stay mapped.
    found = table.select(known).take(kept)
    if schema.get_field_index(SOURCE) >= 0:
        found = located(found, number, kept)
    return with_schema(found, schema)


def located(table: pa.Table, source: int, positions: NDArray[np.int64]) -> pa.Table:
    """A table with the columns that say where its rows are from."""
    numbers = pa.array(np.full(len(positions), source, np.int32))
    return table.append_column(SOURCE, numbers).append_column(POSITION, pa.array(positions))


def read_arrays(
    layout: Layout, shard: Shard, rows: NDArray[np.int64], arrays: Iterable[ArraySpec]
) -> dict[str, NDArray[Any]]:
    """Arrays of some rows of a shard.

    The file is mapped for as long as that takes: memory is that of the rows.

    Parameters
    ----------
    layout : Layout
    shard : Shard
    rows : array of int, shape (n,)
        Positions in it.
    arrays : iterable of ArraySpec

    Returns
    -------
    dict of str to ndarray, shape (n, ...)
        A row without a value is full of `ArraySpec.missing`.
    """
    table = open_shard(layout, shard)
    found = {}
    for array in arrays:
        if table.schema.get_field_index(array.name) < 0:
            found[array.name] = np.full((len(rows), *array.shape), array.missing, array.dtype)
            continue
        found[array.name] = array.values_of(table[array.name], rows)
    return found


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


def _healpix(table: pa.Table) -> NDArray[np.int64]:
    """The column without a copy: it is one chunk of the mapped file."""
    column = table[HEALPIX]
    if column.num_chunks == 0:
        return np.empty(0, np.int64)
    healpix: NDArray[np.int64] = column.chunk(0).to_numpy(zero_copy_only=True)
    return healpix
