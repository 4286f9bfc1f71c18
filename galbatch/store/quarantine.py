"""Rejected rows, with file, row and reason: one Parquet file for each unit of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galbatch.store.layout import Layout
from galbatch.store.locations import readable
from galbatch.store.tables import PartitionWriter
from galbatch.store.units import rejected_unit
from galbatch.values import RejectedRow

GOT = ", got "
"""Text in a reason before the value that arrived."""
_FIELDS: dict[str, pa.DataType] = {
    "file": pa.string(),
    "row": pa.int64(),
    "reason": pa.string(),
    "exception": pa.string(),
}
SCHEMA = pa.schema(_FIELDS)


class Rejects(AbstractContextManager["Rejects"]):
    """The rows that a unit of work rejects, written as they come; they replace those of before.

    Takes memory for what is added at a time.

    Parameters
    ----------
    layout : Layout
    unit : str
        Source file, failed task, or another unit of work.
    """

    def __init__(self, layout: Layout, unit: str) -> None:
        self._layout, self._unit = layout, unit
        self._stack = ExitStack()
        self._writer: PartitionWriter | None = None
        self.rows = 0
        """How many were added."""

    def add(self, rejected: pa.Table) -> None:
        """Keep more rows.

        Parameters
        ----------
        rejected : pyarrow.Table
            With `SCHEMA`.
        """
        if not rejected.num_rows:
            return
        if self._writer is None:
            path = self._layout.rejected(self._unit)
            writer = PartitionWriter(path, {})
            self._writer = self._stack.enter_context(writer)
        self._writer.write(rejected)
        self.rows += rejected.num_rows

    def commit(self) -> dict[str, str]:
        """Put the file in its place, or remove the one before where nothing was added.

        Returns
        -------
        dict of str to str
            The file, relative to the store, with its SHA-256; empty when nothing was rejected.
        """
        if self._writer is None:
            release(self._layout, self._unit)
            return {}
        path = self._layout.rejected(self._unit)
        return {self._layout.relative(path): self._writer.commit()}

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def quarantine(
    layout: Layout, unit: str, rejected: Sequence[RejectedRow] | pa.Table
) -> dict[str, str]:
    """Keep the rows that a unit of work rejected; they replace those of before.

    Parameters
    ----------
    layout : Layout
    unit : str
        Source file, failed task, or another unit of work.
    rejected : sequence of RejectedRow, or pyarrow.Table
        A table has `SCHEMA`.

    Returns
    -------
    dict of str to str
        The file written, relative to the store, with its SHA-256; empty when nothing was rejected.
    """
    table = rejected if isinstance(rejected, pa.Table) else as_table(rejected)
    with Rejects(layout, unit) as rejects:
        rejects.add(table)
        return rejects.commit()


def as_table(rejected: Sequence[RejectedRow]) -> pa.Table:
    """Rejected rows as a table with `SCHEMA`."""
    return pa.Table.from_pylist([asdict(row) for row in rejected], schema=SCHEMA)


def rejected_table(file: str, rows: pa.Array, reasons: pa.Array) -> pa.Table:
    """Rejected rows of one file as a table with `SCHEMA`.

    Parameters
    ----------
    file : str
    rows : pyarrow.Array
        Their numbers.
    reasons : pyarrow.Array
        Of as many.
    """
    files, nothing = (pa.repeat(word, len(rows)) for word in (file, ""))
    return pa.table([files, rows, reasons, nothing], schema=SCHEMA)


def release(layout: Layout, unit: str) -> None:
    """Remove what a unit of work rejected: this time it succeeded."""
    layout.rejected(unit).unlink(missing_ok=True)


def release_others(layout: Layout, kind: str, kept: Iterable[str]) -> None:
    """Remove what units of work of one kind rejected, except for some units.

    Parameters
    ----------
    layout : Layout
    kind : str
        What their names begin with, before a dot: a stage, say.
    kept : iterable of str
        What stands after the dot.
    """
    names = {layout.rejected(rejected_unit(kind, unit)).name for unit in kept}
    for path in _paths(layout, f"{rejected_unit(kind, '*')}.parquet"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def rejected_tables(layout: Layout, unit: str | None = None) -> Iterator[pa.Table]:
    """Rows rejected by one unit of work or by all, some at a time, in a fixed order.

    Yields
    ------
    pyarrow.Table
        With `SCHEMA`, and at least one row.
    """
    paths = _paths(layout) if unit is None else [layout.rejected(unit)]
    for path in paths:
        if not path.exists():
            continue
        with readable(path) as source, pq.ParquetFile(source) as file:
            for batch in file.iter_batches():
                yield pa.Table.from_batches([batch]).replace_schema_metadata()


def rejected_total(layout: Layout) -> int:
    """How many rows, files and failed tasks are in quarantine."""
    rows = 0
    for path in _paths(layout):
        with readable(path) as source:
            rows += pq.read_metadata(source).num_rows
    return rows


def rejected_rows(
    layout: Layout, unit: str | None = None, *, at_most: int | None = None
) -> tuple[RejectedRow, ...]:
    """Rows that were rejected, by one unit of work or by all; no more are read than wanted."""
    tables = rejected_tables(layout, unit)
    rows = (RejectedRow(**row) for table in tables for row in table.slice(0, at_most).to_pylist())
    return tuple(islice(rows, at_most))


def rejected_positions(layout: Layout, unit: str) -> NDArray[np.int64]:
    """The numbers of the rows that one unit of work rejected."""
    parts = [table["row"].to_numpy() for table in rejected_tables(layout, unit)]
    return np.concatenate([np.empty(0, np.int64), *parts])


def bare_reasons(table: pa.Table) -> pa.ChunkedArray:
    """The reasons without the values that arrived, so that they can be counted.

    Parameters
    ----------
    table : pyarrow.Table
        With `SCHEMA`.
    """
    return pc.list_element(pc.split_pattern(table["reason"], GOT, max_splits=1), 0)


def failed_stages(table: pa.Table) -> pa.ChunkedArray:
    """The stages of failed tasks, by `units.failed_task`; empty for rows that were rejected.

    Parameters
    ----------
    table : pyarrow.Table
        With `SCHEMA`.
    """
    # A failed task has no row.
    stage = pc.list_element(pc.split_pattern(table["file"], " ", max_splits=1), 0)
    return pc.if_else(pc.equal(table["row"], 0), stage, "")


def rejected_counts(layout: Layout) -> dict[str, int]:
    """Number of rejected rows by reason (`bare_reasons`), the most frequent first."""
    counts: Counter[str] = Counter()
    for (_, reason), number in rejected_kinds(layout).items():
        counts[reason] += number
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rejected_kinds(layout: Layout) -> dict[tuple[str, str], int]:
    """Numbers by what was rejected and why, the most frequent first.

    Returns
    -------
    dict of (str, str) to int
        The stage of failed tasks, or ``""`` for rows; and the reason (`bare_reasons`).
    """
    counts: Counter[tuple[str, str]] = Counter()
    for table in rejected_tables(layout):
        kinds = pa.table({"stage": failed_stages(table), "reason": bare_reasons(table)})
        found = kinds.group_by(["stage", "reason"]).aggregate([([], "count_all")])
        for one in found.to_pylist():
            counts[one["stage"], one["reason"]] += one["count_all"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _paths(layout: Layout, pattern: str = "*.parquet") -> list[Path]:
    return sorted(layout.quarantine.glob(pattern), key=lambda path: path.name)
