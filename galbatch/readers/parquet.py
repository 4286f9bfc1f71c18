"""Apache Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.door import broken, cut_short, head, must_have, not_that


class ParquetReader:
    """Reads Parquet files page by page: a row group may be larger than memory.

    Parameters
    ----------
    leave_out : sequence of str, optional
        Columns to take no notice of.
    """

    def __init__(self, leave_out: Sequence[str] = ()) -> None:
        self.leave_out = leave_out

    def header(self, path: str) -> Header:
        """The columns, with the `unit` that their field metadata names."""
        with _open(path) as file:
            fields = [field for field in file.schema_arrow if field.name not in self.leave_out]
            return Header(
                tuple(FileColumn(field.name, field.type, _unit(field)) for field in fields)
            )

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: _rows(path))

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        done = 0
        with _open(path) as file:
            must_have(path, types, file.schema_arrow.names)
            stream = file.iter_batches(batch_size=rows, columns=list(types))
            while True:
                try:
                    batch = next(stream, None)
                except (OSError, pa.ArrowException) as error:
                    raise broken(path, error, done) from error
                if batch is None:
                    return
                numbers = np.arange(done + 1, done + 1 + batch.num_rows, dtype=np.int64)
                done += batch.num_rows
                found = {name: batch.column(name) for name in types}
                if batch.num_rows:
                    yield make_batch(path, numbers, found, types)


def _unit(field: pa.Field) -> str:
    unit: bytes = (field.metadata or {}).get(b"unit", b"")
    return unit.decode(errors="replace").strip()


def _rows(path: str) -> int:
    """Rows by the footer of the file."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _open(path: str) -> pq.ParquetFile:
    start = head(path)
    if not start.startswith(b"PAR1"):
        raise not_that(path, "Parquet", start)
    try:
        return pq.ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        # A Parquet file ends with its table of contents: where that is missing, the end is.
        if "magic bytes" in str(error) or "footer" in str(error).lower():
            raise cut_short(path, 0, "the Parquet file") from error
        raise broken(path, error, 0) from error
