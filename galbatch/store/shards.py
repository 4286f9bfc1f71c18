"""Between scan and ingest: batches of rows, each sorted on the sky.

A shard is an uncompressed Arrow file that is memory-mapped: a partition reads just its own rows
of each, found by bisection, however many shards there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import to_numpy
from galbatch.errors import SpecError, counted
from galbatch.store.arrays import ArraySpec
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.partitions import Histogram
from galbatch.store.tables import FILE, HEALPIX, ROW
from galbatch.store.unify import THE_STORE, unify

PROVENANCE = (FILE, ROW)
SOURCE, POSITION = "_source", "_position"
"""Columns that say which shard a row lies in, and where in it: asked for by a schema that has
them, so that arrays can be read when their place is known."""


@dataclass(frozen=True)
class Shard:
    """One batch of rows in the work folder.

    Parameters
    ----------
    name : str
        Unique in the store; `Layout.shard` makes its path of it.
    file : int
        Number of the source file.
    rows : int
        Rows it holds.
    low, high : int
        Smallest and largest HEALPix pixel (order 29); 0 for a survey without sky.
    digest : str
        SHA-256 of the file.
    """

    name: str
    file: int
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


def write_shard(layout: Layout, name: str, table: pa.Table, *, file: int) -> Shard:
    """Write a batch of rows for `read_shards`.

    Parameters
    ----------
    layout : Layout
    name : str
        Unique in the store.
    table : pyarrow.Table
        The catalogue's columns, `_healpix_29` where the survey has a sky, `_file` and `_row`.
        Without a sky, shards and their rows are in the order of the files.
    file : int
        Number of the source file that its rows come from.

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
    return Shard(name, file, table.num_rows, low, high, digest)


def count_pixels(
    layout: Layout, shards: Sequence[Shard], order: int, without: pa.Table | None = None
) -> dict[int, Histogram]:
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
    histograms: dict[int, list[Histogram]] = {}
    for shard, gone in zip(shards, excluded, strict=True):
        healpix = _healpix(_mapped(layout, shard))
        kept = np.delete(healpix, gone) if len(gone) else healpix
        histograms.setdefault(shard.file, []).append(Histogram.of(kept, order))
    return {file: Histogram.total(found, order) for file, found in histograms.items()}


def places_of(shards: Sequence[Shard], without: pa.Table) -> NDArray[np.int64]:
    """Where rows to leave out are among all rows of the shards, for `plan_row_ranges`.

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
    layout: Layout, shards: Sequence[Shard], places: tuple[int, int]
) -> dict[int, tuple[int, int]]:
    """The sources of the rows between two places, each with its first and last row there.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        Of a survey without a sky, in the order of the files.
    places : tuple of int
        The first row and the one after the last.

    Returns
    -------
    dict of int to (int, int)
    """
    first, stop = places
    found: dict[int, tuple[int, int]] = {}
    for shard, start in zip(shards, _starts(shards), strict=False):
        begin, end = max(0, first - start), min(shard.rows, stop - start)
        if begin >= end:
            continue
        rows = _mapped(layout, shard)[ROW]
        low, high = rows[begin].as_py(), rows[end - 1].as_py()
        found[shard.file] = (found.get(shard.file, (low, high))[0], high)
    return found


def catalogue_schema(
    layout: Layout,
    shards: Sequence[Shard],
    id_column: str,
    names: Mapping[int, str],
    held: pa.Schema | None = None,
    stored: Callable[[str], Iterable[pa.ChunkedArray]] = lambda column: (),
) -> pa.Schema:
    """The schema that fits all shards (and what is in the store), provenance columns last.

    Files of one survey may keep the same column in types of different width, or lack one: the
    catalogue takes the type that holds all of them exactly, and nothing where a file has no such
    column. Ids become text where those of one file are.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    id_column : str
    names : mapping of int to str
        The source files by their numbers, for messages.
    held : pyarrow.Schema, optional
        Of the partitions that there are already.
    stored : callable, optional
        A column of them, one after the other: asked only where widths of integers matter.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    SpecError
        If no type holds what the files say of a column, naming two of the files.
    """
    fields: dict[str, list[tuple[str, pa.Field]]] = {}
    if held is not None:
        for field in held:
            fields.setdefault(field.name, []).append((THE_STORE, field))
    firsts = {shard.file: shard for shard in reversed(shards)}
    for number, shard in sorted(firsts.items()):
        for field in _mapped(layout, shard).schema:
            fields.setdefault(field.name, []).append((names[number], field))
    if not fields:
        raise ValueError("there are no shards")
    numbers = {name: number for number, name in names.items()}

    def limits(column: str, files: Collection[str]) -> tuple[int, int]:
        """Smallest and largest integer of a column in some of the files."""
        wanted = {numbers.get(file) for file in files}
        columns = chain(
            (_mapped(layout, shard)[column] for shard in shards if shard.file in wanted),
            stored(column) if THE_STORE in files else (),
        )
        known = [one for one in map(pc.min_max, columns) if one["min"].is_valid]
        low = min((one["min"].as_py() for one in known), default=0)
        return low, max((one["max"].as_py() for one in known), default=0)

    unified = [
        unify(name, found, limits, is_id=name == id_column) for name, found in fields.items()
    ]
    own = [field for name in (HEALPIX, *PROVENANCE) for field in unified if field.name == name]
    others = [field for field in unified if field.name not in (HEALPIX, *PROVENANCE)]
    return pa.schema([*others, *own])


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
        table = _mapped(layout, shard)
        begin, end = np.searchsorted(_healpix(table), pixels).tolist()
        slices.append(_taken(table, np.arange(begin, end), gone, schema, number))
    return pa.concat_tables(slices)


def read_places(
    layout: Layout,
    shards: Sequence[Shard],
    places: tuple[int, int],
    schema: pa.Schema,
    without: pa.Table | None = None,
) -> pa.Table:
    """Rows of a survey without a sky by their place in all shards.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
        In the order of the files.
    places : tuple of int
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
    first, stop = places
    slices = [schema.empty_table()]
    starts = _starts(shards)
    places_out = _positions(without, len(shards))
    for number, (shard, start, gone) in enumerate(zip(shards, starts, places_out, strict=False)):
        if start + shard.rows <= first or start >= stop:
            continue
        rows = np.arange(max(0, first - start), min(shard.rows, stop - start))
        slices.append(_taken(_mapped(layout, shard), rows, gone, schema, number))
    return pa.concat_tables(slices)


def read_rows(
    layout: Layout,
    shards: Sequence[Shard],
    files: Mapping[int, tuple[int, int]],
    schema: pa.Schema,
    without: pa.Table | None = None,
) -> pa.Table:
    """Rows by where they came from.

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
        table = _mapped(layout, shard)
        row = table[ROW].to_numpy()
        slices.append(
            _taken(table, np.flatnonzero((row >= low) & (row <= high)), gone, schema, number)
        )
    return pa.concat_tables(slices)


def find_rows(
    layout: Layout, shards: Sequence[Shard], rows: Mapping[int, NDArray[np.int64]]
) -> pa.Table:
    """Where rows of given files are in the shards, as the functions here take them out.

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
        found = np.flatnonzero(np.isin(_mapped(layout, shard)[ROW].to_numpy(), wanted))
        numbers.append(np.full(len(found), number, np.int32))
        positions.append(found.astype(np.int64))
    return pa.table({"_shard": np.concatenate(numbers), "_position": np.concatenate(positions)})


def sort_rows(table: pa.Table, id_column: str) -> pa.Table:
    """In the order of a partition's file: along the sky and by id, in one chunk.

    Without a sky, rows stay in the order of the files.
    """
    if HEALPIX in table.column_names:
        return _sorted(table, HEALPIX, id_column)
    return table.combine_chunks()


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of the catalogue: nothing where it has no such column."""
    # Not `in column_names`: that makes a list of them all for every column that is asked for.
    place = {name: number for number, name in enumerate(table.schema.names)}
    columns = [
        table.column(place[field.name]).cast(field.type)
        if field.name in place
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def provenance(
    layout: Layout, shards: Sequence[Shard], column: str, kind: pa.DataType
) -> Iterator[pa.RecordBatch]:
    """One column of every shard with where each row is and came from.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    column : str
    kind : pyarrow.DataType
        What the column is made, in every shard alike: native code that reads the batches takes
        the type of the first for that of all.

    Yields
    ------
    pyarrow.RecordBatch
        The column as ``id``, `_file`, `_row`, `_shard` (number in `shards`) and `_position` (row
        in the shard).
    """
    for number, shard in enumerate(shards):
        table = _mapped(layout, shard)
        columns: list[pa.Array[Any] | pa.ChunkedArray[Any]] = [
            table[column].cast(kind),
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


def _taken(
    table: pa.Table,
    rows: NDArray[np.int64],
    gone: NDArray[np.int64],
    schema: pa.Schema,
    number: int,
) -> pa.Table:
    """Rows of the shard with a number; where each lies, if the schema asks for it."""
    kept = rows[~np.isin(rows, gone)] if len(gone) else rows
    known = [name for name in table.schema.names if schema.get_field_index(name) >= 0]
    # take() copies, so that the file need not stay mapped.
    found = table.select(known).take(kept)
    if schema.get_field_index(SOURCE) >= 0:
        found = located(found, number, kept)
    return fit(found, schema)


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
    table = _mapped(layout, shard)
    found = {}
    for array in arrays:
        if table.schema.get_field_index(array.name) < 0:
            found[array.name] = np.full((len(rows), *array.shape), array.missing, array.dtype)
            continue
        column = table[array.name]
        values = to_numpy(column)[rows]
        if column.null_count:
            values[np.asarray(column.is_null())[rows]] = array.missing
        found[array.name] = values
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


def _mapped(layout: Layout, shard: Shard) -> pa.Table:
    """The shard's columns in the mapped file, which lives as long as any of them.

    Raises
    ------
    SpecError
        If it is not as it was written: its rows were read and found good, and to go on without
        them would lose them.
    """
    path = layout.shard(shard.name)
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        problem = f"has {table.num_rows:,} rows" if table.num_rows != shard.rows else ""
    except FileNotFoundError:
        problem = "is gone"
    except (OSError, pa.ArrowInvalid) as error:
        problem = f"cannot be read: {error}"
    if problem:
        raise SpecError(
            str(path),
            f"scan wrote {counted(shard.rows, 'row')} there, and it {problem}",
            "is 'scratch' on a disk that all workers share, and that nothing else tidies up? "
            "Run again: it will be made anew",
        )
    return table


def _healpix(table: pa.Table) -> NDArray[np.int64]:
    """The column without a copy: it is one chunk of the mapped file."""
    column = table[HEALPIX]
    if column.num_chunks == 0:
        return np.empty(0, np.int64)
    healpix: NDArray[np.int64] = column.chunk(0).to_numpy(zero_copy_only=True)
    return healpix
