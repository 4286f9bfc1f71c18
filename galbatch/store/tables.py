"""Parquet partitions: one way of writing, one way of reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.errors import DataError, SpecError, TransientError, counted, did_you_mean
from galbatch.store.commit import NewFile
from galbatch.store.layout import Layout
from galbatch.store.locations import readable
from galbatch.store.votable import votable_metadata
from galbatch.values import Partition, PredictedColumn

HEALPIX = "_healpix_29"
"""Column with the HEALPix pixel (order 29, nested) of every row of a survey with a sky."""

FILE = "_file"
"""Column with the number of the source file of every row."""
ROW = "_row"
"""Column with the row's number in that file, from 1."""

OWN = (HEALPIX, FILE, ROW)
"""Columns that a store adds: a source with columns of these names is another store."""

ROW_GROUP_ROWS = 65_536
_MEANING = (b"unit", b"ucd", b"description")
_PREFIX = "galbatch."
FieldMetadata = dict[bytes | str, bytes | str]


class Described(Protocol):
    """A column that says what it means: `spec.columns.Column` and `values.PredictedColumn` do."""

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


_OWN_COLUMNS = (
    PredictedColumn(HEALPIX, "int64", "", "pos.healpix", "HEALPix pixel, order 29, nested, ICRS"),
    PredictedColumn(FILE, "int32", "", "meta.file", "number of the source file (sources.json)"),
    PredictedColumn(ROW, "int64", "", "meta.record", "row in that file, from 1"),
)


def annotate(table: pa.Table, columns: Iterable[Described]) -> pa.Table:
    """Write unit, UCD and description into the field metadata.

    Parameters
    ----------
    table : pyarrow.Table
    columns : iterable of Described
        What they mean; fields that none of them names keep the metadata they have, and those
        without a unit there the unit they have.

    Returns
    -------
    pyarrow.Table
        The same data.
    """
    meaning = {column.name: column for column in (*_OWN_COLUMNS, *columns)}
    fields = []
    for field in table.schema:
        column = meaning.get(field.name)
        if column is not None:
            unit = column.unit or (field.metadata or {}).get(b"unit", b"").decode()
            texts = {"unit": unit, "ucd": column.ucd, "description": column.description}
            field = field.with_metadata({key: text for key, text in texts.items() if text})
        fields.append(field)
    return pa.table(table.columns, schema=pa.schema(fields).with_metadata(table.schema.metadata))


class PartitionWriter(AbstractContextManager["PartitionWriter"]):
    """A Parquet file that is written piece by piece, whole or not at all.

    The same rows make the same bytes. What is not committed when the block ends is gone.

    Parameters
    ----------
    path : Path
        Where it shall be.
    metadata : mapping of str to str
        What the file says of itself (survey, model fingerprint), under ``galbatch.<key>``.

    Raises
    ------
    SpecError
        From all that writes: the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self._path, self._metadata = path, metadata
        self._file = NewFile(path)
        self._writer: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None
        self.rows = 0
        """How many were written."""

    def write(self, table: pa.Table) -> None:
        """Add rows: one row group for every `ROW_GROUP_ROWS` of them.

        Parameters
        ----------
        table : pyarrow.Table
            Of the fields' metadata unit, ucd and description are kept.
        """
        table = _plain(table, self._metadata)
        if self._writer is None:
            self._schema = table.schema
            self._writer = pq.ParquetWriter(self._file, table.schema, **_options(table.schema))
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self.rows += table.num_rows

    def commit(self) -> str:
        """Read the file back and move it to its place.

        Returns
        -------
        str
            SHA-256 of the file.

        Raises
        ------
        TransientError
            If the file does not read back as it was written.
        """
        assert self._writer is not None
        self._writer.close()
        return self._file.commit(self._check)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None and self._writer.is_open:
            # Its footer goes to a file that is thrown away, which may be on a full disk.
            with suppress(SpecError):
                self._writer.close()
        self._file.__exit__(kind, error, traceback)

    def _check(self, temporary: Path) -> None:
        with pq.ParquetFile(temporary) as file:
            if file.metadata.num_rows != self.rows or file.schema_arrow != self._schema:
                raise TransientError(
                    str(self._path),
                    f"expected {counted(self.rows, 'row')}, read back {file.metadata.num_rows} "
                    f"of {counted(len(file.schema_arrow), 'column')}",
                )


def commit_parquet(path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> str:
    """Write a Parquet file, whole or not at all; the same input makes the same bytes.

    Its pages have checksums.

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
    with PartitionWriter(path, metadata or {}) as writer:
        writer.write(table)
        return writer.commit()


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
        If the file is missing or is not what was written.
    """
    with _opened(layout.partition(partition, model), columns) as file:
        table = file.read(columns=list(columns) if columns is not None else None)
    return table if columns is None else table.select(list(columns))


@contextmanager
def opened_partition(
    layout: Layout, partition: Partition, model: str | None = None
) -> Iterator[pq.ParquetFile]:
    """The Parquet file of a partition of the catalogue, or of a model's predictions.

    Raises
    ------
    DataError
        If it is missing or is not what was written; reading from it raises it as well.
    """
    with _opened(layout.partition(partition, model), None) as file:
        yield file


@contextmanager
def _opened(path: Path, columns: Sequence[str] | None) -> Iterator[pq.ParquetFile]:
    try:
        # Not read_table: it would take Norder=/Dir=/Npix= in the path for columns.
        with (
            readable(path) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            names = file.schema_arrow.names
            for column in columns or ():
                if column not in names:
                    raise SpecError(
                        str(path), f"has no column '{column}'", did_you_mean(column, names)
                    )
            yield file
    except FileNotFoundError as error:
        raise DataError(str(path), "this partition has not been written") from error
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        if isinstance(error, MemoryError):
            raise
        problem = f"cannot be read: {' '.join(str(error).split())}"
        raise DataError(str(path), problem, "'galbatch verify', then run again") from error


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file, with its metadata."""
    with readable(path) as source:
        return pq.read_schema(source)


def is_readable(path: Path) -> bool:
    """Whether a file is Parquet from its first bytes to its last."""
    try:
        with readable(path) as source, pq.ParquetFile(source) as file:
            return bool(file.metadata.num_rows >= 0)
    except (OSError, pa.ArrowException):
        return False


def _plain(table: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """Without what readers and writers leave in the metadata, and in one chunk: same bytes."""
    fields = []
    for field in table.schema:
        found = field.metadata or {}
        kept: FieldMetadata = {key: found[key] for key in _MEANING if key in found}
        # Lists read from a file call their values "element", lists in memory "item".
        if pa.types.is_fixed_size_list(field.type):
            values = pa.field("element", field.type.value_type)
            field = field.with_type(pa.list_(values, field.type.list_size))
        fields.append(field.with_metadata(kept) if kept else field.remove_metadata())
    metadata_of_file: FieldMetadata = {f"{_PREFIX}{key}": metadata[key] for key in sorted(metadata)}
    plain = pa.table(table.combine_chunks().columns, schema=pa.schema(fields))
    metadata_of_file.update(votable_metadata(plain))
    return plain.replace_schema_metadata(metadata_of_file)


def _options(schema: pa.Schema) -> dict[str, Any]:
    """How it is encoded: floats split by bytes, no dictionary for them (3 to 5 times faster)."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in schema:
        kind, path = field.type, field.name
        while pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
            kind, path = kind.value_type, f"{path}.list.element"
        if field.name in OWN:
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
        "write_page_index": True,
        # A flipped bit often decodes to another number: every reader of ours compares them.
        "write_page_checksum": True,
    }
