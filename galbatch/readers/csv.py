"""Comma-separated values, plain or gzipped."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from galbatch.errors import DataError, SpecError
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import NULLS, make_batch
from galbatch.readers.door import broken, kind, must_have, not_that, unzipped
from galbatch.values import RejectedRow

_PIECE = 1 << 18
_BLOCK = 1 << 22
_LONGEST_ROW = 1 << 26
_BOM = b"\xef\xbb\xbf"


class CsvReader:
    """Reads CSV in blocks of whole rows.

    A block is parsed as numbers at once; where that fails, it is read as text and converted value
    by value, so that one bad row costs that row.

    Parameters
    ----------
    delimiter : str
        What stands between values.
    """

    def __init__(self, delimiter: str = ",") -> None:
        self.delimiter = delimiter

    def header(self, path: str) -> Header:
        """Names in the header line; columns without a name are left out."""
        with _open(path) as stream:
            pieces = _Pieces(stream, self.delimiter)
            names = _header(pieces, path, self.delimiter)
            return Header(tuple(FileColumn(name) for name in names if name))

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        count = _Count()
        return Batches(self._read(path, types, rows, count), lambda: count.records)

    def _read(
        self, path: str, types: Mapping[str, pa.DataType], rows: int, count: _Count
    ) -> Iterator[Batch]:
        with _open(path) as stream, ThreadPoolExecutor(1) as ahead:
            pieces = _Pieces(stream, self.delimiter)
            names = _header(pieces, path, self.delimiter)
            must_have(path, types, [name for name in names if name])
            types = {
                name: pa.string() if pa.types.is_null(wanted) else wanted
                for name, wanted in types.items()
            }
            parser = _Parser(path, self.delimiter, names, types)
            yield from _regrouped(_parsed(pieces, parser, ahead, count), rows)
            if pieces.failure is not None:
                raise broken(path, pieces.failure, parser.done)
            if pieces.endless:
                raise DataError(path, f"after row {parser.done:,} there is a line without end")


@dataclass
class _Count:
    """Records so far, by the ends of lines."""

    records: int = 0

    def add(self, block: bytes) -> None:
        self.records += block.count(b"\n") + (not block.endswith(b"\n"))


def _parsed(
    pieces: _Pieces, parser: _Parser, ahead: ThreadPoolExecutor, count: _Count
) -> Iterator[Batch]:
    """A batch for each block; the next block is unzipped while this one is parsed and used."""
    next_block = ahead.submit(pieces.block)
    while block := next_block.result():
        next_block = ahead.submit(pieces.block)
        count.add(block)
        yield parser.parse(block)


def _regrouped(batches: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """Batches of `rows` rows; all are full but the last, and those with as many rejected rows."""
    waiting: list[Batch] = []
    count = rejected = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch.rows)
        rejected += len(batch.rejected)
        if count >= rows or rejected >= rows:
            together = _together(waiting)
            full = count - count % rows
            for start in range(0, full, rows):
                yield Batch(together.rows[start : start + rows], together.table.slice(start, rows))
            rest = Batch(together.rows[full:], together.table.slice(full), together.rejected)
            waiting, count = [rest], len(rest.rows)
            if rejected >= rows:
                yield rest
                waiting, count, rejected = [], 0, 0
    if count or any(batch.rejected for batch in waiting):
        yield _together(waiting)


def _together(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.rows for batch in batches]),
        pa.concat_tables([batch.table for batch in batches]),
        tuple(row for batch in batches for row in batch.rejected),
    )


def _open(path: str) -> pa.NativeFile:
    zipped, start = unzipped(path)
    if kind(start):
        raise not_that(path, "CSV", start)
    if b"\0" in start:
        raise SpecError(path, "is not CSV but binary data")
    try:
        return pa.input_stream(path, compression="gzip" if zipped else None)
    except OSError as error:
        raise broken(path, error, 0) from error


class _Pieces:
    """Blocks of whole rows from a stream; a stream that breaks ends with what came before."""

    def __init__(self, stream: pa.NativeFile, delimiter: str) -> None:
        self._stream = stream
        self._delimiter = delimiter
        self._rest = b""
        self._ended = False
        self.failure: OSError | None = None
        self.endless = False

    def line(self) -> bytes:
        """The next line, empty at the end."""
        while b"\n" not in self._rest and not self._ended and len(self._rest) < _LONGEST_ROW:
            self._fill(len(self._rest) + _PIECE)
        line, newline, self._rest = self._rest.partition(b"\n")
        return line + newline

    def back(self, line: bytes) -> None:
        """Put a line back."""
        self._rest = line + self._rest

    def block(self) -> bytes:
        """About 4 MiB that end with a row, empty at the end."""
        size = _BLOCK
        while True:
            self._fill(size)
            if self._ended:
                # Where the stream broke, its last row is incomplete.
                end = self._rest.rfind(b"\n") + 1 if self.failure else len(self._rest)
                block, self._rest = self._rest[:end], b""
                return block
            end = _row_end(self._rest, self._delimiter)
            if end == 0 and len(self._rest) > _LONGEST_ROW:
                # A quote that never closes: cut at a line, and let the parser reject it.
                end = self._rest.rfind(b"\n") + 1
                if end == 0:
                    self.endless, self._rest, self._ended = True, b"", True
                    return b""
            if end:
                block, self._rest = self._rest[:end], self._rest[end:]
                return block
            size = 2 * len(self._rest)

    def _fill(self, size: int) -> None:
        pieces = [self._rest]
        missing = size - len(self._rest)
        try:
            while missing > 0 and not self._ended:
                piece = self._stream.read(_PIECE)
                self._ended = not piece
                missing -= len(piece)
                pieces.append(piece)
        except OSError as error:
            self.failure, self._ended = error, True
        self._rest = b"".join(pieces)


def _row_end(data: bytes, delimiter: str) -> int:
    """Where the last whole row ends: at a newline that is not inside quotes."""
    end = data.rfind(b"\n") + 1
    if data.count(b'"', 0, end) % 2 == 0:
        return end
    # A value with a newline, or a quote that is part of a value: look at what quotes enclose.
    opening = rb"(?<![^" + re.escape(delimiter.encode()) + rb"\r\n])"
    quoted = re.compile(opening + rb'"(?:[^"]++|"")*+(?:"|\Z)')
    return quoted.sub(lambda match: b"x" * len(match[0]), data).rfind(b"\n") + 1


def _header(pieces: _Pieces, path: str, delimiter: str) -> list[str]:
    """Read up to the first row of data; the names, empty where a column has none."""
    comment = b""
    while line := pieces.line():
        line = line.removeprefix(_BOM)
        if line.strip() and not line.startswith(b"#"):
            break
        comment = line if line.strip() else comment
    if pieces.failure is not None:
        raise broken(path, pieces.failure, 0)
    names = _names(line, delimiter)
    commented = _names(comment.lstrip(b"#"), delimiter)
    if len(commented) == len(names) > 1 and _is_data(names) and not _is_data(commented):
        pieces.back(line)
        names = commented
    if not any(names):
        raise SpecError(path, "has no header line with column names")
    _check_delimiter(names, path, delimiter)
    if _is_data(names):
        raise SpecError(
            path,
            f"the first line should hold column names, it holds {', '.join(names[:3])}, ...",
            "put a line with the names before it",
        )
    return names


def _names(line: bytes, delimiter: str) -> list[str]:
    text = line.decode("utf-8", errors="replace").strip("\r\n").replace("\r", "\n")
    reader = csv.reader([text], delimiter=delimiter, skipinitialspace=True)
    return [name.strip() for name in next(reader, [])]


def _is_data(names: Sequence[str]) -> bool:
    return 2 * sum(_is_number(name) for name in names) > len(names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_delimiter(names: Sequence[str], path: str, delimiter: str) -> None:
    if len(names) != 1:
        return
    for other in ";\t|,":
        if other in names[0] and other != delimiter:
            shown = "\\t" if other == "\t" else other
            raise SpecError(
                path,
                f"expected values separated by {delimiter!r}, they are separated by '{shown}'",
                f'say source.format: {{kind: csv, delimiter: "{shown}"}}',
            )
    if len(names[0].split()) > 1:
        raise SpecError(
            path,
            f"expected values separated by {delimiter!r}, found one column '{names[0][:60]}'",
            "a table with columns separated by spaces must be converted to CSV first",
        )


@dataclass
class _Parser:
    """Turns blocks of rows into batches."""

    path: str
    delimiter: str
    names: Sequence[str]
    types: Mapping[str, pa.DataType]

    def __post_init__(self) -> None:
        # Columns are addressed by position: names may repeat or be missing.
        self._position = {name: str(self.names.index(name)) for name in self.types}
        self._fields = [str(position) for position in range(len(self.names))]
        # Integers that the file writes as `3.0`, found on the way.
        self._loose: set[str] = set()
        self.done = 0

    def parse(self, block: bytes) -> Batch:
        """The rows of the next block."""
        try:
            columns = self._typed(block)
        except pa.ArrowInvalid:
            try:
                return self._careful(block)
            except pa.ArrowInvalid as error:
                raise broken(self.path, error, self.done) from error
        count = len(next(iter(columns.values()))) if columns else 0
        rows = np.arange(self.done + 1, self.done + 1 + count, dtype=np.int64)
        self.done += count
        return make_batch(self.path, rows, columns, self.types)

    def _typed(self, block: bytes) -> dict[str, pa.ChunkedArray]:
        types = {}
        for name, wanted in self.types.items():
            if pa.types.is_fixed_size_list(wanted):
                wanted = pa.string()
            types[self._position[name]] = pa.float64() if name in self._loose else wanted
        table = pv.read_csv(
            pa.BufferReader(block),
            read_options=pv.ReadOptions(column_names=self._fields, block_size=1 << 20),
            parse_options=pv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=b'"' in block
            ),
            convert_options=pv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=list(NULLS),
                strings_can_be_null=False,
            ),
        )
        columns = {name: table[position] for name, position in self._position.items()}
        for name in self._loose:
            columns[name] = columns[name].cast(self.types[name])
        return columns

    def _careful(self, block: bytes) -> Batch:
        """As text, row by row where need be."""
        block = _as_utf8(block)
        try:
            parts = [self._texts(block)]
        except _OpenQuote as quote:
            # From there on quotes mean nothing, or the value would swallow the rows behind it.
            parts = [self._texts(block[: quote.at])] if quote.at else []
            parts.append(self._texts(block[quote.at :], quoted=False))
        columns = {
            name: pa.concat_arrays([part.columns[position] for part in parts])
            for name, position in self._position.items()
        }
        rows, rejected = [], []
        for part in parts:
            rows.append(self.done + part.rows)
            rejected += [
                RejectedRow(self.path, self.done + row, reason) for row, reason in part.bad.items()
            ]
            self.done += len(part.rows) + len(part.bad)
        self._loosen(columns)
        return make_batch(self.path, np.concatenate(rows), columns, self.types, tuple(rejected))

    def _loosen(self, columns: Mapping[str, pa.Array]) -> None:
        """Spare the next blocks the careful way where integers are written as `3.0`."""
        for name, wanted in self.types.items():
            if pa.types.is_integer(wanted) and wanted.bit_width < 64:
                text = columns[name]
                if pc.any(pc.match_substring(text, ".")).as_py():
                    self._loose.add(name)

    def _texts(self, block: bytes, *, quoted: bool = True) -> _Texts:
        bad: dict[int, str] = {}
        at: int | None = None

        def reject(row: pv.InvalidRow) -> str:
            nonlocal at
            if quoted and "\n" in row.text.strip("\r\n"):
                at = max(block.find(row.text.encode()), 0)
                return "error"
            bad[row.number] = f"expected {row.expected_columns} values, got {row.actual_columns}"
            return "skip"

        try:
            table = pv.read_csv(
                pa.BufferReader(block),
                # One thread and one block: only then the rows are numbered.
                read_options=pv.ReadOptions(
                    column_names=self._fields, use_threads=False, block_size=len(block) + 1
                ),
                parse_options=pv.ParseOptions(
                    delimiter=self.delimiter,
                    quote_char='"' if quoted else False,
                    newlines_in_values=quoted,
                    invalid_row_handler=reject,
                ),
                convert_options=pv.ConvertOptions(
                    column_types={position: pa.string() for position in self._fields},
                    include_columns=list(self._position.values()),
                    null_values=[],
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            if at is None:
                raise
            raise _OpenQuote(at) from None
        count = table.num_rows + len(bad)
        rows = np.setdiff1d(np.arange(1, count + 1), np.fromiter(bad, dtype=np.int64))
        columns = {
            position: _decoded(table[position].combine_chunks(), quoted)
            for position in self._position.values()
        }
        return _Texts(rows, columns, bad)


@dataclass
class _Texts:
    """Rows of a block as text: the good rows' numbers and columns, the bad rows and why."""

    rows: NDArray[np.int64]
    columns: dict[str, pa.Array]
    bad: dict[int, str]


class _OpenQuote(Exception):
    """A quote opens at byte `at` of a block and closes in a later row, if at all."""

    def __init__(self, at: int) -> None:
        self.at = at
        super().__init__(at)


def _decoded(column: pa.Array, quoted: bool) -> pa.Array:
    return column if quoted else pc.replace_substring_regex(column, '^"(.*)"$', r"\1")


def _as_utf8(block: bytes) -> bytes:
    """The block with bytes that are no UTF-8 taken as Latin-1."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return block.decode(errors=_LATIN_1).encode()
    return block


def _latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_LATIN_1 = "galbatch.latin-1"
codecs.register_error(_LATIN_1, _latin_1)
