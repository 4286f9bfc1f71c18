"""What tasks take of a worker's memory, bytes."""

from __future__ import annotations

from collections.abc import Collection

from galbatch.columns import arrow_type, bytes_in_row
from galbatch.spec.columns import Column
from galbatch.stages.site import Site
from galbatch.store.arrays.spec import SHARD_BYTES
from galbatch.values import WORKER_MEMORY

PROCESS = WORKER_MEMORY
_BATCH = SHARD_BYTES
"""Bytes of a batch of rows with arrays, about."""


def row_bytes(site: Site, arrays: Collection[str] = ()) -> int:
    """A row of the survey's catalogue, with those of its arrays that are named."""
    survey = site.survey
    columns = [one for one in survey.stored_columns if not one.is_array or one.name in arrays]
    return sum(map(_column_bytes, columns))


def arrays_memory(site: Site) -> int:
    """Arrays of the catalogue on their way: read, put in order, written and read back, by shards.

    None where the survey has none.
    """
    row = sum(map(_column_bytes, site.survey.arrays))
    return 5 * max(SHARD_BYTES, row) if row else 0


def batch_rows(site: Site) -> int:
    """Rows that are read from a file at a time: fewer than the job says where they are large."""
    asked, arrays = site.job.source.batch_rows, site.survey.arrays
    return min(asked, max(_BATCH // _whole_row(site), 1)) if arrays else asked


def scan_memory(site: Site) -> int:
    """A batch: as text, as columns, sorted, and on its way to the disk."""
    return PROCESS + 10 * batch_rows(site) * _whole_row(site)


def ingest_memory(site: Site) -> int:
    """A partition: gathered, sorted, encoded, its arrays a shard at a time.

    A worker keeps what the scan took.
    """
    own = PROCESS + 5 * site.job.partition.rows * row_bytes(site) + arrays_memory(site)
    return max(own, scan_memory(site))


def _whole_row(site: Site) -> int:
    return sum(map(_column_bytes, site.survey.stored_columns))


def _column_bytes(column: Column) -> int:
    return bytes_in_row(arrow_type(column.kind, column.shape))
