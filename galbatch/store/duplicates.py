"""Rows that repeat an id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import SpecError, counted
from galbatch.store.layout import Layout
from galbatch.store.shard_rows import ids_with_provenance
from galbatch.store.shards import Shard
from galbatch.store.tables import FILE, ROW, read_partition
from galbatch.values import Partition

# An id in the store comes first, then the earliest of the new rows.
_HELD = """
    CREATE TEMP TABLE held AS
    SELECT id, min(_file) AS first_file, min(_row) AS first_row
    FROM (SELECT id, _file, _row FROM {there}) SEMI JOIN ids USING (id) GROUP BY id
"""
_REPEATED = """
    CREATE TEMP TABLE repeated AS
    SELECT id FROM ids GROUP BY id HAVING count(*) > 1 UNION SELECT id FROM held
"""
_COUNT = """
    SELECT count(*) - count(DISTINCT id) + (SELECT count(*) FROM held)
    FROM ids SEMI JOIN repeated USING (id)
"""
_LATER = """
    SELECT id, _file, _row, coalesce(held.first_file, found.first_file) AS first_file,
        coalesce(held.first_row, found.first_row) AS first_row, _shard, _position
    FROM (
        SELECT *,
            first_value(_file) OVER first AS first_file,
            first_value(_row) OVER first AS first_row,
            row_number() OVER first AS occurrence
        FROM ids SEMI JOIN repeated USING (id)
        WINDOW first AS (PARTITION BY id ORDER BY _file, _row)
    ) AS found LEFT JOIN held USING (id)
    WHERE occurrence > 1 OR held.first_file IS NOT NULL ORDER BY _file, _row
"""
_ID_AND_PROVENANCE = ["id", FILE, ROW]
_NONE = pa.table(
    {
        "id": pa.array([], pa.int64()),
        FILE: pa.array([], pa.int32()),
        ROW: pa.array([], pa.int64()),
        "first_file": pa.array([], pa.int32()),
        "first_row": pa.array([], pa.int64()),
        "_shard": pa.array([], pa.int32()),
        "_position": pa.array([], pa.int64()),
    }
)


def find_duplicates(
    layout: Layout,
    shards: Sequence[Shard],
    id_column: str,
    kind: pa.DataType,
    *,
    at_most: int,
    stored_partitions: Sequence[Partition] = (),
    reread: Sequence[Shard] = (),
    memory: str = "1GiB",
) -> pa.Table:
    """Every occurrence of an id after its first (the one with the lowest file and row).

    A row in the store comes before every new row.

    Takes bounded memory: DuckDB spills into the work folder.

    Parameters
    ----------
    layout : Layout
    shards : sequence of Shard
    id_column : str
        A missing id is no duplicate.
    kind : pyarrow.DataType
        The type of the ids of the catalogue: they are compared as such.
    at_most : int
        With more duplicates than this, something is wrong with the source.
    stored_partitions : sequence of Partition
        Those in the store. Their rows from the files of `shards` do not count: the shards replace
        them.
    reread : sequence of Shard
        Shards of unchanged files, read again because partitions with their rows are lost.
    memory : str
        DuckDB's limit.

    Returns
    -------
    pyarrow.Table
        ``id``, ``_file``, ``_row``, ``first_file``, ``first_row``, and ``_shard``, ``_position``
        for the functions that take rows to leave out; ordered by file and row.

    Raises
    ------
    SpecError
        If there are more than `at_most`, or the disk is full.
    """
    batches = ids_with_provenance(layout, shards, id_column, kind)
    first = next(batches, None)
    if first is None:
        return _NONE
    stored = chain(
        _stored_ids(layout, stored_partitions, id_column, kind, {shard.file for shard in shards}),
        _ids_of_shards(layout, reread, id_column, kind),
    )
    try:
        with _database(layout, memory) as database:
            _load_ids(database, chain([first], batches), first.schema)
            _find_repeated(database, stored)
            _refuse_too_many(database, id_column, at_most)
            later: pa.Table = database.sql(_LATER).to_arrow_table()
            return later
    except duckdb.IOException as error:
        raise SpecError(str(layout.spill), f"sorting the ids failed: {error}") from error


def _database(layout: Layout, memory: str) -> duckdb.DuckDBPyConnection:
    """An empty database that spills into the work folder what its memory does not hold."""
    layout.spill.mkdir(parents=True, exist_ok=True)
    return duckdb.connect(
        config={
            "memory_limit": memory,
            "temp_directory": str(layout.spill),
            "preserve_insertion_order": "false",
        }
    )


def _load_ids(
    database: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> None:
    """Make the table ``ids`` of the rows that have an id."""
    database.register("found", pa.RecordBatchReader.from_batches(schema, batches))
    database.execute("CREATE TEMP TABLE ids AS SELECT * FROM found WHERE id IS NOT NULL")


def _find_repeated(database: duckdb.DuckDBPyConnection, stored: Iterator[pa.RecordBatch]) -> None:
    """Make the tables ``held`` (ids that the store has as well) and ``repeated``."""
    start = next(stored, None)
    if start is not None:
        # The ids of changed files are few beside those of the store, which stream past them.
        there = pa.RecordBatchReader.from_batches(start.schema, chain([start], stored))
        database.register("there", there)
    database.execute(_HELD.format(there="there" if start is not None else "ids WHERE false"))
    database.execute(_REPEATED)


def _refuse_too_many(database: duckdb.DuckDBPyConnection, id_column: str, at_most: int) -> None:
    ((number,),) = database.execute(_COUNT).fetchall()
    if number > at_most:
        ((example,),) = database.execute("SELECT min(id) FROM repeated").fetchall()
        raise SpecError(
            f"column '{id_column}'",
            f"{counted(number, 'row')} {'repeats' if number == 1 else 'repeat'} "
            f"the id of a row before, e.g. {example}",
            "is a file given twice, or is it the wrong id column?",
        )


def _ids_of_shards(
    layout: Layout, shards: Sequence[Shard], id_column: str, kind: pa.DataType
) -> Iterator[pa.RecordBatch]:
    """The ids of shards of files that are in the store."""
    for batch in ids_with_provenance(layout, shards, id_column, kind):
        yield batch.select(_ID_AND_PROVENANCE)


def _stored_ids(
    layout: Layout,
    partitions: Sequence[Partition],
    id_column: str,
    kind: pa.DataType,
    replaced: set[int],
) -> Iterator[pa.RecordBatch]:
    """The ids in the store, without those of files that shards replace."""
    numbers = pa.array(sorted(replaced), pa.int32())
    for partition in partitions:
        table = read_partition(layout, partition, [id_column, FILE, ROW]).rename_columns(
            _ID_AND_PROVENANCE
        )
        table = table.filter(pc.invert(pc.is_in(table[FILE], numbers)))
        yield from table.set_column(0, "id", table["id"].cast(kind)).to_batches()
