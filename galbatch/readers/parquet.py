"""Apache Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galbatch.readers.astropy_notes import PARQUET_KEY, Notes, read_notes
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.opening import broken, cut_short, head, must_have, not_that, only_once

_VOTABLE_KEY = b"IVOA.VOTable-Parquet.content"
_RAISED = (OSError, pa.ArrowException, ValueError)


class ParquetReader:
    """Reads Parquet files page by page: a row group, and a file, may be larger than memory.

    Decimals without a fraction are integers, digit by digit; dates and times can be read as text,
    not as numbers. Values that astropy masked are null.

    Parameters
    ----------
    leave_out : sequence of str, optional
        Columns to take no notice of.
    """

    def __init__(self, leave_out: Sequence[str] = ()) -> None:
        self.leave_out = leave_out

    def header(self, path: str) -> Header:
        """The columns, with the `unit` that their metadata or the footer's name."""
        with _open(path) as file:
            schema = file.schema_arrow
            notes = _notes(path, schema)
            units = notes.units or _votable_units(schema)
            unseen = {*self.leave_out, *notes.masks.values()}
            fields = [field for field in schema if field.name not in unseen]
            return Header(
                tuple(
                    FileColumn(one.name, _type(one), _unit(one) or units.get(one.name, ""))
                    for one in fields
                )
            )

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: _rows(path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        done = 0
        with _open(path) as file:
            names = file.schema_arrow.names
            must_have(path, types, names)
            types = only_once(path, types, names)
            masks = _notes(path, file.schema_arrow).masks
            needed = [*types, *(masks[name] for name in types if name in masks)]
            stream = file.iter_batches(batch_size=rows, columns=list(dict.fromkeys(needed)))
            while True:
                try:
                    batch = next(stream, None)
                except _RAISED as error:
                    raise broken(path, error, done) from error
                if batch is None:
                    return
                numbers = np.arange(done + 1, done + 1 + batch.num_rows, dtype=np.int64)
                done += batch.num_rows
                found = {name: _masked(batch, name, masks) for name in types}
                if batch.num_rows:
                    yield make_batch(path, numbers, found, types)


def _masked(batch: pa.RecordBatch, name: str, masks: Mapping[str, str]) -> pa.Array:
    column = batch.column(name)
    if name not in masks:
        return column
    return pc.if_else(batch.column(masks[name]), pa.scalar(None, column.type), column)


def _notes(path: str, schema: pa.Schema) -> Notes:
    """What astropy noted, of columns that are there."""
    text: bytes = (schema.metadata or {}).get(PARQUET_KEY, b"")
    if not text:
        return Notes()
    notes = read_notes(path, text.decode(errors="replace"))
    flags = {field.name for field in schema if pa.types.is_boolean(field.type)}
    masks = {
        name: mask for name, mask in notes.masks.items() if name in schema.names and mask in flags
    }
    return Notes(notes.units, masks)


def _type(field: pa.Field) -> pa.DataType:
    is_coded = pa.types.is_dictionary(field.type)
    return field.type.value_type if is_coded else field.type


def _unit(field: pa.Field) -> str:
    metadata = field.metadata or {}
    unit: bytes = metadata.get(b"unit") or metadata.get(b"units") or b""
    return unit.decode(errors="replace").strip()


def _votable_units(schema: pa.Schema) -> dict[str, str]:
    """Units in the VOTable that describes the columns, where the footer holds one."""
    content: bytes = (schema.metadata or {}).get(_VOTABLE_KEY, b"")
    if not content:
        return {}
    # Imported when needed: few files have it.
    from astropy.utils.xml.iterparser import get_xml_iterator

    units: dict[str, str] = {}
    try:
        with get_xml_iterator(BytesIO(content).read) as events:
            for start, tag, data, _ in events:
                if start and tag == "FIELD":
                    units[data.get("name") or data.get("ID", "")] = data.get("unit", "").strip()
    except ValueError:
        return {}
    return units


def _rows(path: str) -> int:
    """Rows by the footer of the file."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _open(path: str) -> pq.ParquetFile:
    start = head(path)
    if not start.startswith(b"PAR1"):
        raise not_that(path, "Parquet", start)
    try:
        # With its default, pre_buffer=True, pyarrow keeps all bytes of the file in memory.
        return pq.ParquetFile(
            path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        )
    except _RAISED as error:
        # A Parquet file ends with its table of contents: where that is missing, the end is.
        if "magic bytes" in str(error) or "footer" in str(error).lower():
            raise cut_short(path, 0, "the Parquet file") from error
        raise broken(path, error, 0) from error
