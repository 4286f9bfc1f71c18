"""Shards: batches of rows between scan and ingest, each sorted on the sky.

A shard is an uncompressed Arrow file that is memory-mapped: a partition reads just its own rows
of each, found by bisection, however many shards there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from galbatch.errors import SpecError, counted
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.tables import FILE, HEALPIX, ROW

PROVENANCE = (FILE, ROW)

SOURCE, POSITION = "_source", "_position"
"""Columns that say which shard a row lies in, and where in it: a schema that has
them asks for them, so that arrays can be read later."""


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
    """Write a batch of rows, for the functions of `shard_rows` to read.

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


def sort_rows(table: pa.Table, id_column: str) -> pa.Table:
    """In the order of a partition's file: along the sky and by id, in one chunk.

    Without a sky, rows stay in the order of the files.
    """
    if HEALPIX in table.column_names:
        return _sorted(table, HEALPIX, id_column)
    return table.combine_chunks()


def _sorted(table: pa.Table, *columns: str) -> pa.Table:
    keys: list[tuple[str, Literal["ascending", "descending"]]]
    keys = [(column, "ascending") for column in columns]
    return table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()


def open_shard(layout: Layout, shard: Shard) -> pa.Table:
    """The shard's columns in the mapped file, which lives as long as any of them.

    Raises
    ------
    SpecError
        If the file is not as it was written: to go on without its rows would lose them.
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
            "Run again: it will be made again",
        )
    return table
