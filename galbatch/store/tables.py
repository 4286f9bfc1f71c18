"""Parquet partitions: one way of writing, one way of reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.errors import DataError, SpecError, TransientError, did_you_mean
from galbatch.store.commit import commit_bytes
from galbatch.store.layout import Layout
from galbatch.store.votable import votable_metadata
from galbatch.values import Partition, PredictedColumn

HEALPIX = "_healpix_29"
"""Column with the HEALPix pixel (order 29, nested) of every row of a survey with a sky."""

ROW_GROUP_ROWS = 65_536
_MEANING = (b"unit", b"ucd", b"description")
_PREFIX = "galbatch."
Words = dict[bytes | str, bytes | str]


class Described(Protocol):
    """A column that says what it means: `spec.survey.Column` and `values.PredictedColumn` do."""

    @property
    def name(self) -> str:
        """Column name."""

    @property
    def unit(self) -> str:
        """VOUnit string."""

    @property
    def ucd(self) -> str:
        """UCD1+ words."""

    @property
    def description(self) -> str:
        """One line."""


_SPATIAL_INDEX = PredictedColumn(
    HEALPIX, "int64", "", "pos.healpix", "HEALPix pixel, order 29, nested, ICRS"
)


def annotate(table: pa.Table, columns: Iterable[Described]) -> pa.Table:
    """Write unit, UCD and description into the field metadata.

    Parameters
    ----------
    table : pyarrow.Table
    columns : iterable of Described
        What they mean; fields that none of them names keep the metadata they have.

    Returns
    -------
    pyarrow.Table
        The same data.
    """
    meaning = {column.name: column for column in (_SPATIAL_INDEX, *columns)}
    fields = []
    for field in table.schema:
        column = meaning.get(field.name)
        if column is not None:
            words = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
            field = field.with_metadata({key: word for key, word in words.items() if word})
        fields.append(field)
    return pa.table(table.columns, schema=pa.schema(fields).with_metadata(table.schema.metadata))


def commit_parquet(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> str:
    """Write a Parquet file, whole or not at all; the same input makes the same bytes.

    Parameters
    ----------
    path : Path
        Where it shall be.
    table : pyarrow.Table
        Of the fields' metadata unit, ucd and description are kept.
    metadata : mapping of str to str, optional
        What the file says of itself (survey, model fingerprint), under ``galbatch.<key>``.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    SpecError
        If the disk is full or the folder cannot be written.
    TransientError
        If the file does not read back as it was written.
    """
    table = _plain(table, metadata or {})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **_options(table.schema))

    def check(temporary: Path) -> None:
        with pq.ParquetFile(temporary) as file:
            if file.metadata.num_rows != table.num_rows or file.schema_arrow != table.schema:
                raise TransientError(
                    str(path),
                    f"expected {table.num_rows} rows of {len(table.schema)} columns, "
                    f"read back {file.metadata.num_rows} of {len(file.schema_arrow)}",
                )

    return commit_bytes(path, sink.getvalue(), check)


def read_partition(
    layout: Layout,
    partition: Partition,
    columns: Sequence[str] | None = None,
    *,
    model: str | None = None,
) -> pa.Table:
    """Read one partition of the catalogue, or of a model's predictions.

    Parameters
    ----------
    layout : Layout
    partition : Partition
    columns : sequence of str, optional
        By default all, in the order of the file; otherwise those, in that order.
    model : str, optional
        Predictions of this model instead of the catalogue.

    Returns
    -------
    pyarrow.Table
        As many rows as the partition has.

    Raises
    ------
    SpecError
        If there is no such column.
    DataError
        If the file is missing or cannot be read.
    """
    path = layout.partition(partition, model)
    try:
        # Not read_table: it would take Norder=/Dir=/Npix= in the path for columns.
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns or ():
                if column not in names:
                    raise SpecError(
                        str(path), f"has no column '{column}'", did_you_mean(column, names)
                    )
            table = file.read(columns=list(columns) if columns is not None else None)
    except FileNotFoundError as error:
        raise DataError(str(path), "this partition has not been written") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(str(path), f"cannot be read: {error}", "delete it and run again") from error
    return table if columns is None else table.select(list(columns))


def _plain(table: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """Without what readers and writers leave in the metadata, and in one chunk: same bytes."""
    fields = []
    for field in table.schema:
        found = field.metadata or {}
        kept: Words = {key: found[key] for key in _MEANING if key in found}
        # Lists read from a file call their values "element", lists in memory "item".
        if pa.types.is_fixed_size_list(field.type):
            values = pa.field("element", field.type.value_type)
            field = field.with_type(pa.list_(values, field.type.list_size))
        fields.append(field.with_metadata(kept) if kept else field.remove_metadata())
    words: Words = {f"{_PREFIX}{key}": metadata[key] for key in sorted(metadata)}
    plain = pa.table(table.combine_chunks().columns, schema=pa.schema(fields))
    words.update(votable_metadata(plain))
    return plain.replace_schema_metadata(words)


def _options(schema: pa.Schema) -> dict[str, Any]:
    """How it is encoded: floats split by bytes, no dictionary for them (3 to 5 times faster)."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in schema:
        kind, path = field.type, field.name
        while pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
            kind, path = kind.value_type, f"{path}.list.element"
        if field.name == HEALPIX:
            encodings[path] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(kind):
            encodings[path] = "BYTE_STREAM_SPLIT"
        else:
            dictionaries.append(path)
    return {
        "compression": "zstd",
        "compression_level": 1,
        "column_encoding": encodings or None,
        "use_dictionary": dictionaries or False,
        "row_group_size": ROW_GROUP_ROWS,
        "write_page_index": True,
    }
