"""The columns and types of the catalogue that shards are merged into."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from galbatch.store.column_types import THE_STORE, common_field
from galbatch.store.layout import Layout
from galbatch.store.shards import PROVENANCE, Shard, open_shard
from galbatch.store.tables import HEALPIX


def catalogue_schema(
    layout: Layout,
    shards: Sequence[Shard],
    id_column: str,
    names: Mapping[int, str],
    stored_schema: pa.Schema | None = None,
    stored_column: Callable[[str], Iterable[pa.ChunkedArray]] = lambda column: (),
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
    stored_schema : pyarrow.Schema, optional
        Of the partitions in the store.
    stored_column : callable, optional
        Reads a column of these partitions, one after the other: called only where the width of
        integers matters.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    SpecError
        If no type holds what the files say of a column, naming two of the files.
    """
    fields: dict[str, list[tuple[str, pa.Field]]] = {}
    if stored_schema is not None:
        for field in stored_schema:
            fields.setdefault(field.name, []).append((THE_STORE, field))
    firsts = {shard.file: shard for shard in reversed(shards)}
    for number, shard in sorted(firsts.items()):
        for field in open_shard(layout, shard).schema:
            fields.setdefault(field.name, []).append((names[number], field))
    if not fields:
        raise ValueError("there are no shards")
    numbers = {name: number for number, name in names.items()}

    def limits(column: str, files: Collection[str]) -> tuple[int, int]:
        """Smallest and largest integer of a column in some of the files."""
        wanted = {numbers.get(file) for file in files}
        columns = chain(
            (open_shard(layout, shard)[column] for shard in shards if shard.file in wanted),
            stored_column(column) if THE_STORE in files else (),
        )
        known = [one for one in map(pc.min_max, columns) if one["min"].is_valid]
        low = min((one["min"].as_py() for one in known), default=0)
        return low, max((one["max"].as_py() for one in known), default=0)

    unified = [
        common_field(name, found, limits, is_id=name == id_column) for name, found in fields.items()
    ]
    own = [field for name in (HEALPIX, *PROVENANCE) for field in unified if field.name == name]
    others = [field for field in unified if field.name not in (HEALPIX, *PROVENANCE)]
    return pa.schema([*others, *own])
