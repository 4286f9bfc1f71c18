"""VOTable: the XML that the services of the Virtual Observatory answer with, plain or packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from galbatch.errors import DataError, SpecError
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.opening import head, must_have, only_once
from galbatch.readers.stamps import stamp
from galbatch.readers.tables import TableOption, choose, common_header, wants_all
from galbatch.readers.votable_columns import name_of, problem_of, to_arrow, type_of, unit_of
from galbatch.readers.votable_glance import holds_more
from galbatch.readers.votable_walk import FoundTable, QueryState, Walk

_OPTION = TableOption("votable", "table", "table")


class VotableReader:
    """Reads tables that lie in the file as TABLEDATA, BINARY or BINARY2.

    Unlike the other readers this one holds a whole table in memory, in the columns asked for:
    astropy gives no row of a VOTable before it has read the last. Measured with astropy 8.0: as
    TABLEDATA the bytes of each number and one more (126 for an id, a position and 20 magnitudes),
    70 for a text of 12 letters; from BINARY and BINARY2 besides that 8.6 times the bytes of the
    file. 10,000 to 25,000 rows of 23 columns are read in a second.

    Rows with a cell that does not hold what its column should (text for a number, a number too
    large for its type) are rejected. Empty cells are null, text too: a VOTable cannot tell.

    Parameters
    ----------
    table : int or str, optional
        Number (from 0), name or ID of the table, or ``all`` for all of them one after the other;
        by default the only one that has columns.
    overflow : bool
        Whether to read what a service cut short at its limit of rows.
    """

    def __init__(self, table: int | str | None = None, *, overflow: bool = False) -> None:
        self.table, self.overflow = table, overflow

    def header(self, path: str) -> Header:
        """The columns of the table, with their units."""
        found, notes = self._chosen(path)
        headers = [
            Header(
                tuple(
                    FileColumn(name_of(one), type_of(one), unit_of(one), problem=problem_of(one))
                    for one in table.columns
                )
            )
            for table in found
        ]
        header = common_header(path, [table.info for table in found], headers, _OPTION)
        return replace(header, notes=header.notes + notes)

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        walks: list[Walk] = []
        return Batches(
            self._read(path, types, rows, walks), lambda: sum(walk.rows for walk in walks)
        )

    def _chosen(self, path: str) -> tuple[list[FoundTable], tuple[str, ...]]:
        """The tables to read, and what to know of them.

        Raises
        ------
        SpecError
            If the job does not say which, or not that an answer that was cut is good enough.
        DataError
            If the service failed while it wrote one of them.
        """
        head(path)
        # Only where the bytes hint at more than one table the whole of the file is gone through.
        tables, states = Walk(path).contents(whole=holds_more(path, stamp(path)))
        failed = next((state for state in states if state.status == "ERROR"), None)
        if failed is not None and not tables:
            why = f"holds no rows: the service answered '{failed.text}'"
            raise SpecError(path, why)
        if not tables:
            raise SpecError(path, "the VOTable holds no table")
        unnamed = self.table is None or wants_all(self.table)
        if unnamed and not any(table.columns for table in tables):
            raise SpecError(path, "no table of the VOTable has columns")
        chosen = [tables[n] for n in choose(path, [t.info for t in tables], self.table, _OPTION)]
        if not all(table.columns for table in chosen):
            shown = ", ".join(table.info.label(_OPTION) for table in tables)
            problem = f"there is no table '{self.table}' with columns"
            raise SpecError(path, problem, f"tables in it: {shown}")
        notes: dict[str, None] = {}
        for table in chosen:
            if table.problem:
                raise SpecError(path, *table.problem)
            for state in states:
                if state.resources == table.resources[: len(state.resources)]:
                    notes[self._judged(path, state)] = None
        return chosen, tuple(notes)

    def _judged(self, path: str, state: QueryState) -> str:
        if state.status == "ERROR":
            raise DataError(
                path, f"the service that wrote it failed on the way: {state.text}", "fetch it again"
            )
        problem = f"the service cut its answer at its limit of rows (QUERY_STATUS {state.status}"
        problem += f": {state.text})" if state.text else ")"
        if not self.overflow:
            hint = "ask it for all rows (MAXREC); to go on with these, say source.format: "
            raise SpecError(path, problem, hint + "{kind: votable, overflow: accept}")
        return problem

    def _read(
        self, path: str, types: Mapping[str, pa.DataType], rows: int, walks: list[Walk]
    ) -> Iterator[Batch]:
        chosen, _ = self._chosen(path)
        if len(chosen) > 1:
            self.header(path)
        for table in chosen:
            # One after the other, so that only one is in memory.
            walk = Walk(path, table.number, sum(one.rows for one in walks))
            walks.append(walk)
            yield from _batches(walk, table, types, rows)


def _batches(
    walk: Walk, table: FoundTable, types: Mapping[str, pa.DataType], rows: int
) -> Iterator[Batch]:
    path, first, header = walk.path, walk.before, table.columns
    found = {name_of(column): column for column in header}
    must_have(path, types, [name_of(column) for column in header])
    for name, wanted in types.items():
        problem = problem_of(found[name])
        if problem and not pa.types.is_null(wanted):
            raise SpecError(path, f"column '{name}': {problem}")
    types = only_once(path, types, [name_of(column) for column in header])
    types = {name: types[name] for name in types if not problem_of(found[name])}
    numbers = [n for n, column in enumerate(header) if name_of(column) in types]
    array = walk.data(numbers)
    keys = {name_of(header[n]): key for n, key in zip(numbers, array.dtype.names, strict=False)}
    for start in range(0, len(array), rows):
        row = np.arange(start + 1, min(start + rows, len(array)) + 1, dtype=np.int64)
        rejected = tuple(walk.rejected[n] for n in row.tolist() if n in walk.rejected)
        row = row[[n not in walk.rejected for n in row.tolist()]] if rejected else row
        arrays = {}
        for name in types:
            part = array[keys[name]][row - 1]
            arrays[name] = to_arrow(part.data, np.ma.getmaskarray(part), found[name])
        yield make_batch(path, first + row, arrays, types, rejected)
    walk.check_end(len(array))
