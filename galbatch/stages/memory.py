"""What tasks take of a worker's memory, bytes."""

from __future__ import annotations

from galbatch.columns import arrow_type, bytes_in_row
from galbatch.spec.survey import Column
from galbatch.stages.site import Site
from galbatch.store.arrays.spec import SHARD_BYTES
from galbatch.values import WORKER_MEMORY

PROCESS = WORKER_MEMORY
_BATCH = SHARD_BYTES
"""Bytes of a batch of rows with arrays, about."""


def row_bytes(site: Site) -> int:
    """A row of the survey's catalogue."""
    return sum(map(_column_bytes, site.survey.stored_columns))


def array_row_bytes(site: Site) -> int:
    """The arrays of a row."""
    return sum(map(_column_bytes, site.survey.arrays))


def batch_rows(site: Site) -> int:
    """Rows that are read from a file at a time: fewer than the job says where they are large."""
    asked = site.job.source.batch_rows
    return min(asked, max(_BATCH // row_bytes(site), 1)) if site.survey.arrays else asked


def scan_memory(site: Site) -> int:
    """A batch: as text, as columns, sorted, and on its way to the disk."""
    return PROCESS + 10 * batch_rows(site) * row_bytes(site)


def ingest_memory(site: Site) -> int:
    """A partition: gathered, sorted, encoded, its arrays a shard at a time.

    A worker keeps what the scan took.
    """
    arrays = array_row_bytes(site)
    own = PROCESS + 5 * site.job.partition.rows * (row_bytes(site) - arrays)
    if arrays:
        own += 5 * max(SHARD_BYTES, arrays)
    return max(own, scan_memory(site))


def _column_bytes(column: Column) -> int:
    return bytes_in_row(arrow_type(column.kind, column.shape))
