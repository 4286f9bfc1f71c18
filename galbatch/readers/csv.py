"""Comma-separated values, plain or packed."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from galbatch.columns import shape_of
from galbatch.errors import DataError, SpecError
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.opening import broken, kind, must_have, not_that, opened
from galbatch.readers.records import RecordBlock, Rule, first_line, positions_of
from galbatch.readers.scalars import NULLS, is_large, misread
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
            pieces = _Pieces(stream)
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
            pieces = _Pieces(stream)
            names = _header(pieces, path, self.delimiter)
            must_have(path, types, [name for name in names if name])
            types = {
                name: pa.string() if pa.types.is_null(wanted) else wanted
                for name, wanted in types.items()
            }
            numbers = [names.index(name) for name, wanted in types.items() if _is_numeric(wanted)]
            rule = Rule(self.delimiter, len(names), numbers)
            parser = _Parser(path, self.delimiter, names, types)
            yield from _regrouped(_parsed(pieces, rule, parser, ahead, count), rows)
            if pieces.failure is not None:
                raise broken(path, pieces.failure, parser.done)
            if pieces.endless:
                raise DataError(path, f"after row {parser.done:,} there is a line without end")


@dataclass
class _Count:
    """Records so far, counted by the rule for quotes and not by the parser."""

    records: int = 0


def _is_numeric(wanted: pa.DataType) -> bool:
    return bool(pa.types.is_integer(wanted) or pa.types.is_floating(wanted))


def _parsed(
    pieces: _Pieces, rule: Rule, parser: _Parser, ahead: ThreadPoolExecutor, count: _Count
) -> Iterator[Batch]:
    """A batch for each block; the next block is unpacked while this one is parsed and used."""
    next_block = ahead.submit(pieces.block, rule)
    while block := next_block.result():
        next_block = ahead.submit(pieces.block, rule)
        count.records += block.records
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


def _open(path: str) -> pa.NativeFile | io.BufferedReader:
    stream, start = opened(path)
    if kind(start):
        raise not_that(path, "CSV", start)
    return stream


class _Pieces:
    """Blocks of whole records from a stream; one that breaks ends with its last whole record."""

    def __init__(self, stream: pa.NativeFile | io.BufferedReader) -> None:
        self._stream = stream
        self._rest = b""
        self._ended = False
        self.failure: OSError | None = None
        self.endless = False

    def line(self) -> bytes:
        """The next line, empty at the end."""
        while not (end := first_line(self._rest, ended=self._ended)):
            if self._ended or len(self._rest) > _LONGEST_ROW:
                end = len(self._rest)
                break
            self._fill(len(self._rest) + _PIECE)
        line, self._rest = self._rest[:end], self._rest[end:]
        return line

    def back(self, line: bytes) -> None:
        """Put a line back."""
        self._rest = line + self._rest

    def block(self, rule: Rule) -> RecordBlock | None:
        """About 4 MiB of records, None at the end."""
        size = _BLOCK
        while True:
            self._fill(size)
            # Where the stream broke, its last record is incomplete.
            ended = self._ended and self.failure is None
            long = len(self._rest) > _LONGEST_ROW
            block, used = rule.cut(self._rest, ended=ended, patient=not long)
            self._rest = self._rest[used:]
            if block.records:
                return block
            if self._ended or (long and not used):
                self.endless = not self._ended
                return None
            size = max(_BLOCK, 2 * len(self._rest))

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
    if b"\0" in line:
        raise SpecError(path, "is not CSV but binary data")
    _check_quotes(line, path, delimiter)
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


def _check_quotes(line: bytes, path: str, delimiter: str) -> None:
    """See that the names end with their line: what a quote leaves open would be the first row."""
    text = line.decode("utf-8", errors="replace").strip("\r\n")
    try:
        next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise SpecError(
                path, "a quote in the header line does not close", "write each name in one line"
            ) from None


def _names(line: bytes, delimiter: str) -> list[str]:
    text = line.decode("utf-8", errors="replace").strip("\r\n")
    try:
        names = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a name of more than 131,072 letters
        names = text.split(delimiter)
    return [name.strip() for name in names]


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
        self._integers = [
            name for name, wanted in self.types.items() if pa.types.is_integer(wanted)
        ]
        # Integers that the file writes as `3.0`, found on the way.
        self._loose: set[str] = set()
        self.done = 0

    def parse(self, block: RecordBlock) -> Batch:
        """The rows of the next block."""
        rejected = {
            self.done + number: RejectedRow(self.path, self.done + number, reason)
            for number, reason in block.damaged.items()
        }
        rows = self.done + block.numbers
        try:
            columns = self._typed(block) if len(rows) else self._nothing()
            if columns is None:
                columns, bad = self._texts(block)
                self._loosen(columns)
                for row, reason in bad.items():
                    number = int(rows[row])
                    rejected[number] = RejectedRow(self.path, number, reason)
                rows = np.delete(rows, list(bad))
        except pa.ArrowInvalid as error:
            raise broken(self.path, error, self.done) from error
        self.done += block.records
        rejections = tuple(rejected[row] for row in sorted(rejected))
        return make_batch(self.path, rows, columns, self.types, rejections)

    def _typed(self, block: RecordBlock) -> dict[str, pa.ChunkedArray] | None:
        """The columns as they should be; None where some value has to be looked at."""
        types = {
            name: pa.string() if shape_of(wanted)
            else pa.float64() if name in self._loose else wanted
            for name, wanted in self.types.items()
        }  # fmt: skip
        try:
            columns = self._converted(block, types)
            for name in self._loose:
                columns[name] = columns[name].cast(self.types[name])
            doubtful = [name for name in columns if is_large(columns[name])]
            if self._integers and _holds_hexadecimal(block.text):
                doubtful += self._integers
            texts = self._converted(block, dict.fromkeys(doubtful, pa.string())) if doubtful else {}
        except pa.ArrowInvalid:
            return None
        whole = all(len(column) == len(block.numbers) for column in columns.values())
        exact = not any(misread(texts[name], columns[name]).any() for name in doubtful)
        return columns if whole and exact else None

    def _converted(
        self, block: RecordBlock, types: Mapping[str, pa.DataType]
    ) -> dict[str, pa.ChunkedArray]:
        table = pv.read_csv(
            pa.BufferReader(block.text),
            read_options=pv.ReadOptions(column_names=self._fields, block_size=len(block.text) + 1),
            parse_options=pv.ParseOptions(delimiter=self.delimiter, newlines_in_values=block.spans),
            convert_options=pv.ConvertOptions(
                column_types={self._position[name]: wanted for name, wanted in types.items()},
                include_columns=[self._position[name] for name in types],
                null_values=list(NULLS),
                strings_can_be_null=False,
            ),
        )
        return {name: table[self._position[name]] for name in types}

    def _nothing(self) -> dict[str, pa.ChunkedArray]:
        return {name: pa.chunked_array([], wanted) for name, wanted in self.types.items()}

    def _loosen(self, columns: Mapping[str, pa.Array]) -> None:
        """Note integers that are written as `3.0`, so that the next blocks are parsed fast."""
        for name, wanted in self.types.items():
            if pa.types.is_integer(wanted) and wanted.bit_width < 64:
                text = columns[name]
                if pc.any(pc.match_substring(text, ".")).as_py():
                    self._loose.add(name)

    def _texts(self, block: RecordBlock) -> tuple[dict[str, pa.Array], dict[int, str]]:
        """The columns as text, and why which records, counted from 0, are left out.

        Raises
        ------
        DataError
            If the parser finds more or fewer records than the lines hold.
        """
        bad: dict[int, str] = {}

        def reject(row: pv.InvalidRow) -> str:
            reason = f"expected {row.expected_columns} values, got {row.actual_columns}"
            bad[row.number - 1] = reason
            return "skip"

        text = _as_utf8(block.text)
        table = pv.read_csv(
            pa.BufferReader(text),
            # One thread and one block: only then the rows are numbered.
            read_options=pv.ReadOptions(
                column_names=self._fields, use_threads=False, block_size=len(text) + 1
            ),
            parse_options=pv.ParseOptions(
                delimiter=self.delimiter,
                newlines_in_values=block.spans,
                invalid_row_handler=reject,
            ),
            convert_options=pv.ConvertOptions(
                column_types={position: pa.string() for position in self._fields},
                include_columns=list(self._position.values()),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
        found, expected = table.num_rows + len(bad), len(block.numbers)
        if found != expected:
            problem = f"after row {self.done:,}: {expected:,} records by their lines, {found:,} "
            raise DataError(self.path, problem + "by quotes and delimiters")
        columns = {
            name: table[position].combine_chunks() for name, position in self._position.items()
        }
        return columns, bad


def _holds_hexadecimal(text: bytes) -> bool:
    """Whether something like 0xFF may be in it, which Arrow reads as an integer."""
    data = np.frombuffer(text, np.uint8)
    return any(
        bool((data[positions_of(data, ord(mark)) - 1] == ord("0")).any())
        for mark in "xX"
        if mark.encode() in text
    )


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
