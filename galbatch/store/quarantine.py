"""What was rejected, with file, row and reason: one Parquet file for each unit of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.store.layout import Layout
from galbatch.store.places import readable
from galbatch.store.tables import commit_parquet
from galbatch.values import RejectedRow

_FIELDS: dict[str, pa.DataType] = {
    "file": pa.string(),
    "row": pa.int64(),
    "reason": pa.string(),
    "exception": pa.string(),
}
SCHEMA = pa.schema(_FIELDS)


def quarantine(layout: Layout, unit: str, rejected: Sequence[RejectedRow]) -> tuple[str, ...]:
    """Keep what a unit of work rejected, instead of what it rejected before.

    Parameters
    ----------
    layout : Layout
    unit : str
        Source file, failed task, or another unit of work.
    rejected : sequence of RejectedRow

    Returns
    -------
    tuple of str
        The file written, relative to the store; none when nothing was rejected.
    """
    if not rejected:
        release(layout, unit)
        return ()
    rows = [asdict(row) for row in rejected]
    path = layout.rejected(unit)
    commit_parquet(path, pa.Table.from_pylist(rows, schema=SCHEMA))
    return (layout.relative(path),)


def release(layout: Layout, unit: str) -> None:
    """Forget what a unit of work rejected: it went well this time."""
    layout.rejected(unit).unlink(missing_ok=True)


def quarantined(layout: Layout) -> pa.Table:
    """All that was rejected: ``file``, ``row``, ``reason``, ``exception``, in a fixed order."""
    return pa.concat_tables([SCHEMA.empty_table(), *_tables(layout)])


def rejected_rows(
    layout: Layout, unit: str | None = None, *, at_most: int | None = None
) -> tuple[RejectedRow, ...]:
    """Rows that were rejected, by one unit of work or by all."""
    if unit is None:
        table = quarantined(layout)
    else:
        path = layout.rejected(unit)
        table = _table(path) if path.exists() else SCHEMA.empty_table()
    return tuple(RejectedRow(**row) for row in table.slice(0, at_most).to_pylist())


def rejected_counts(layout: Layout) -> dict[str, int]:
    """Number of rejected rows by reason, the most frequent first."""
    counts: Counter[str] = Counter()
    for table in _tables(layout):
        counts.update(str(reason) for reason in table["reason"].to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _tables(layout: Layout) -> Iterator[pa.Table]:
    for path in sorted(layout.quarantine.glob("*.parquet"), key=lambda path: path.name):
        yield _table(path)


def _table(path: Path) -> pa.Table:
    with readable(path) as source, pq.ParquetFile(source) as file:
        return file.read()
