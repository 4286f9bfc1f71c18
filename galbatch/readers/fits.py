"""FITS binary tables and the images beside them, plain or packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import GalbatchError, SpecError
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.fits_columns import RowLayout, image_layouts, other_images, table_layout
from galbatch.readers.fits_file import OPTION, TABLES, Hdu, Stream, contents, open_fits
from galbatch.readers.opening import cut_short, must_have
from galbatch.readers.tables import choose, common_header, wants_all
from galbatch.values import RejectedRow


class FitsReader:
    """Reads row ranges of binary tables, and of the images that lie beside one.

    An image (an IMAGE extension, the primary array) whose slowest axis has as many rows as the
    table is a column of it, named by its EXTNAME (without one ``PRIMARY``, ``HDU3``, ...); its
    row is what NumPy has there, the FITS axes in reverse order. One with another number of rows is
    refused where the survey names it. The rows of the table and of the
    images are read in step. Of a packed file, in which nobody can seek, the table and every image
    that is wanted have a stream of their own, so that memory stays flat: k images cost k + 1
    times the unpacking.

    Integers with TSCAL and TZERO stay integers where both are whole numbers; where they are not,
    rows with a 64-bit integer that a float64 cannot hold are rejected.

    Parameters
    ----------
    hdu : int or str, optional
        Number or EXTNAME of the table, or ``all`` for all of them one after the other; by default
        the only one there is.
    """

    def __init__(self, hdu: int | str | None = None) -> None:
        self.hdu = hdu

    def header(self, path: str) -> Header:
        """The columns of the table with their TUNIT, and the images with their BUNIT."""
        chosen, failure = self._chosen(path)
        headers = []
        for layouts in self._layouts(path, chosen):
            columns = (
                FileColumn(name, column.type, column.unit, layout.is_image, column.problem)
                for layout in layouts
                for name, column in layout.columns.items()
            )
            headers.append(Header(tuple(columns)))
        header = common_header(path, [one.info for one in chosen], headers, OPTION)
        if len(chosen) == 1:
            apart = other_images(contents(path).hdus, chosen[0].rows, header.names)
            header = replace(header, apart=apart)
        if failure:
            raise failure
        return header

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._rows(path))

    def _rows(self, path: str) -> int:
        """Rows by NAXIS2."""
        return sum(one.rows for one in self._chosen(path)[0])

    def _chosen(self, path: str) -> tuple[Sequence[Hdu], GalbatchError | None]:
        """The tables to read, and what is wrong with the file besides."""
        found = contents(path)
        tables = [one for one in found.hdus if one.kind in TABLES.values()]
        listed = [one.info for one in tables]
        named = self.hdu is not None and not wants_all(self.hdu)
        failure = found.failure and type(found.failure)(*found.failure.args)
        if not tables and failure:
            raise failure
        if not tables and not named:
            raise SpecError(path, f"holds no binary table in its {len(found.hdus)} HDUs")
        name = str(self.hdu).strip().lower()
        for one in found.hdus:
            if named and one not in tables and (one.number == self.hdu or one.name.lower() == name):
                hint = ", ".join(table.label(OPTION) for table in listed)
                raise SpecError(
                    path,
                    f"HDU {self.hdu} is no binary table but {one.kind}",
                    f"tables in it: {hint}" if hint else "",
                )
        try:
            chosen = [tables[place] for place in choose(path, listed, self.hdu, OPTION)]
        except SpecError:
            # What is missing may be the table that was named.
            if failure and named and not any(one.number == self.hdu for one in tables):
                raise failure from None
            raise
        # Who names a table does not ask for what is behind it, and reading it shows whether it is
        # whole.
        return chosen, None if named else failure

    def _layouts(self, path: str, chosen: Sequence[Hdu]) -> list[list[RowLayout]]:
        """Each table, followed by the images that belong to it."""
        tables = [table_layout(one, path) for one in chosen]
        if len(tables) > 1:
            return [[table] for table in tables]
        (table,) = tables
        return [[table, *image_layouts(contents(path).hdus, table.rows, table.columns)]]

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        chosen, failure = self._chosen(path)
        if len(chosen) > 1 and not failure:
            self.header(path)
        before = 0
        for layouts in self._layouts(path, chosen):
            names = [name for layout in layouts for name in layout.columns]
            if failure and not {*types} <= {*names}:
                raise failure  # What is missing may be the image that is wanted.
            must_have(path, types, names)
            wanted = _readable(path, layouts, types)
            table, *images = layouts
            sources = [table, *(image for image in images if {*image.columns} & {*wanted})]
            with ExitStack() as stack:
                streams = [stack.enter_context(open_fits(path)) for _ in sources]
                for stream, source in zip(streams, sources, strict=True):
                    stream.skip(source.hdu.start - stream.at)
                yield from _batches(streams, sources, wanted, rows, before)
            before += table.rows
        if failure:
            raise failure


def _readable(
    path: str, layouts: Sequence[RowLayout], types: Mapping[str, pa.DataType]
) -> dict[str, pa.DataType]:
    """The columns to read, without those that cannot be, if they come as they are."""
    columns = {name: column for layout in layouts for name, column in layout.columns.items()}
    for name, wanted in types.items():
        problem = columns[name].problem
        if problem and not pa.types.is_null(wanted):
            raise SpecError(path, f"column '{name}': {problem}")
    return {name: types[name] for name in types if not columns[name].problem}


def _batches(
    streams: Sequence[Stream],
    layouts: Sequence[RowLayout],
    types: Mapping[str, pa.DataType],
    rows: int,
    before: int,
) -> Iterator[Batch]:
    """The rows of a table and its images, in step; `before` of the file come before them."""
    path, table, done = streams[0].path, layouts[0], 0
    while done < table.rows and table.dtype.itemsize:
        count = whole = min(rows, table.rows - done)
        failure: GalbatchError | None = None
        buffers = []
        for stream, layout in zip(streams, layouts, strict=True):
            width = layout.dtype.itemsize
            buffer, problem = stream.rows(width, count, before + done)
            buffers.append(buffer)
            if buffer.size // width < whole:
                whole = buffer.size // width
                row = before + done + whole
                failure = problem or cut_short(path, row, layout.label, table.rows)
        if whole:
            blocks = [
                np.frombuffer(buffer, dtype=layout.dtype, count=whole)
                for buffer, layout in zip(buffers, layouts, strict=True)
            ]
            numbers = np.arange(before + done + 1, before + done + whole + 1, dtype=np.int64)
            blocks, numbers, rejected = _exact_rows(path, layouts, types, blocks, numbers)
            arrays = {
                name: layout.columns[name].read(block)
                for layout, block in zip(layouts, blocks, strict=True)
                for name in types
                if name in layout.columns
            }
            yield make_batch(path, numbers, arrays, types, rejected)
        done += whole
        if failure:
            raise failure


def _exact_rows(
    path: str,
    layouts: Sequence[RowLayout],
    types: Mapping[str, pa.DataType],
    blocks: list[NDArray[Any]],
    numbers: NDArray[np.int64],
) -> tuple[list[NDArray[Any]], NDArray[np.int64], tuple[RejectedRow, ...]]:
    reasons: dict[int, str] = {}
    for layout, block in zip(layouts, blocks, strict=True):
        for name in [name for name in types if name in layout.columns]:
            bad = layout.columns[name].inexact(block)
            if bad is not None and bad.any():
                reason = f"column '{name}': TSCAL and TZERO make no exact number of its integer"
                for row in numbers[bad].tolist():
                    reasons.setdefault(row, reason)
    if not reasons:
        return blocks, numbers, ()
    good = ~np.isin(numbers, list(reasons))
    rejected = tuple(RejectedRow(path, row, reasons[row]) for row in sorted(reasons))
    return [block[good] for block in blocks], numbers[good], rejected
