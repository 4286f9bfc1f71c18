"""What tasks take of a worker's memory, bytes."""

from __future__ import annotations

from galbatch.columns import arrow_type, bytes_in_row
from galbatch.stages.site import Site
from galbatch.values import WORKER_MEMORY

PROCESS = WORKER_MEMORY


def row_bytes(site: Site) -> int:
    """A row of the survey's catalogue."""
    return sum(
        bytes_in_row(arrow_type(column.kind, column.shape)) for column in site.survey.stored_columns
    )


def scan_memory(site: Site) -> int:
    """A batch: as text, as columns, sorted, and on its way to the disk."""
    return PROCESS + 10 * site.job.source.batch_rows * row_bytes(site)


def ingest_memory(site: Site) -> int:
    """A partition: gathered, sorted, encoded. A worker keeps what the scan took."""
    own = PROCESS + 5 * site.job.partition.rows * row_bytes(site)
    return max(own, scan_memory(site))
