"""FITS binary tables, plain or packed (gzip, bzip2, xz, Zstandard, zip)."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from galbatch.errors import DataError, GalbatchError, SpecError
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.numpy_arrow import from_numpy
from galbatch.readers.opening import broken, cut_short, head, must_have, not_that, opened
from galbatch.readers.stamps import stamp
from galbatch.readers.tables import TableInfo, TableOption, choose, common_header, wants_all
from galbatch.values import RejectedRow

_BLOCK = 2880
_PIECE = 1 << 18
_OPTION = TableOption("fits", "hdu", "HDU")
_TABLES = {"BINTABLE": "binary table", "TABLE": "ASCII table"}
# What a header raises that does not say what FITS wants.
_RAISED = (ValueError, KeyError, TypeError, IndexError, OverflowError, fits.VerifyError)


class FitsReader:
    """Reads row ranges of binary tables, from mapped memory or through gzip.

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
        """The columns of the table, with their TUNIT."""
        chosen, failure = self._chosen(path)
        headers = []
        for one in chosen:
            columns = _table(one, path).columns.items()
            headers.append(Header(tuple(FileColumn(name, c.type, c.unit) for name, c in columns)))
        header = common_header(path, [one.info for one in chosen], headers, _OPTION)
        if failure:
            raise failure
        return header

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._rows(path))

    def _rows(self, path: str) -> int:
        """Rows by NAXIS2."""
        return sum(one.rows for one in self._chosen(path)[0])

    def _chosen(self, path: str) -> tuple[Sequence[_Hdu], GalbatchError | None]:
        """The tables to read, and what is wrong with the file besides."""
        contents = _contents(path)
        tables = [one for one in contents.hdus if one.kind in _TABLES.values()]
        listed = [one.info for one in tables]
        named = self.hdu is not None and not wants_all(self.hdu)
        failure = contents.failure and type(contents.failure)(*contents.failure.args)
        if not tables and failure:
            raise failure
        if not tables and not named:
            raise SpecError(path, f"holds no binary table in its {len(contents.hdus)} HDUs")
        name = str(self.hdu).strip().lower()
        for one in contents.hdus:
            if named and one not in tables and (one.number == self.hdu or one.name.lower() == name):
                hint = ", ".join(table.label(_OPTION) for table in listed)
                raise SpecError(
                    path,
                    f"HDU {self.hdu} is no binary table but {one.kind}",
                    f"tables in it: {hint}" if hint else "",
                )
        try:
            chosen = [tables[place] for place in choose(path, listed, self.hdu, _OPTION)]
        except SpecError:
            # What is missing may be the table that was named.
            if failure and named and not any(one.number == self.hdu for one in tables):
                raise failure from None
            raise
        # Who names a table does not ask for what is behind it, and reading it shows whether it is
        # whole.
        return chosen, None if named else failure

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        chosen, failure = self._chosen(path)
        tables = [_table(one, path) for one in chosen]
        if len(tables) > 1 and not failure:
            self.header(path)
        before = 0
        with _open(path) as stream:
            for one, table in zip(chosen, tables, strict=True):
                stream.skip(one.start - stream.at)
                yield from _batches(stream, table, types, rows, before)
                before += table.rows
        if failure:
            raise failure


@dataclass(frozen=True)
class _Hdu:
    """Part of a file: what it is, and where its data begin."""

    number: int
    name: str
    kind: str
    header: fits.Header
    start: int

    @property
    def rows(self) -> int:
        return int(self.header["NAXIS2"])

    @property
    def info(self) -> TableInfo:
        names = (self.name,) if self.name else ()
        return TableInfo(names, self.number, self.rows, int(self.header["TFIELDS"]))


@dataclass(frozen=True)
class _Contents:
    """The parts of a file, and what is wrong with it behind the beginning of the last."""

    hdus: tuple[_Hdu, ...]
    failure: GalbatchError | None = None


class _Stream:
    """The bytes of a file, unpacked where need be."""

    def __init__(self, path: str, file: pa.NativeFile | io.BufferedReader) -> None:
        self.path, self.at, self._file = path, 0, file
        self.size: int | None = file.size() if isinstance(file, pa.NativeFile) else None

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int, row: int = 0) -> bytes:
        """The next bytes; fewer at the end."""
        try:
            found = bytes(self._file.read(size))
        except OSError as error:
            raise broken(self.path, error, row) from error
        self.at += len(found)
        return found

    def skip(self, size: int) -> None:
        """Go on by `size` bytes, or to the end."""
        if self.size is not None:
            self.at = min(self.at + size, self.size)
            self._file.seek(self.at)
            return
        while size > 0 and (found := self.read(min(size, _PIECE))):
            size -= len(found)

    def rows(self, width: int, count: int, row: int) -> tuple[pa.Buffer, GalbatchError | None]:
        """The next rows; where the file breaks, what comes before that, and why."""
        if self.size is not None and isinstance(self._file, pa.NativeFile):
            # Not more than there is: a header that lies would ask for all the memory.
            there = min(count, (self.size - self.at) // width)
            buffer = self._file.read_buffer(there * width)
            self.at += buffer.size
            return buffer, None
        # In pieces, because a piece that fails is lost.
        pieces = bytearray()
        try:
            while len(pieces) < count * width:
                piece = self.read(min(_PIECE, count * width - len(pieces)), row)
                if not piece:
                    break
                pieces += piece
        except GalbatchError as error:
            if not isinstance(error, DataError):
                raise
            cause = error.__cause__
            assert isinstance(cause, OSError)
            return pa.py_buffer(pieces), broken(self.path, cause, row + len(pieces) // width)
        return pa.py_buffer(pieces), None


def _open(path: str) -> _Stream:
    file, start = opened(path)
    if not start.startswith(b"SIMPLE  ="):
        raise not_that(path, "FITS", start)
    return _Stream(path, file)


@contextmanager
def _at_ease() -> Iterator[None]:
    """astropy frets about units, display formats and cards that nobody reads here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def _contents(path: str) -> _Contents:
    head(path)
    return _listed(path, stamp(path))


@lru_cache(maxsize=8)
def _listed(path: str, _: tuple[int, int | str]) -> _Contents:
    """All parts of a file: gzip is unpacked to its end for that, but once for a file."""
    hdus: list[_Hdu] = []
    with _open(path) as stream, _at_ease():
        while True:
            try:
                header = _header(stream, len(hdus))
                if header is None:
                    return _Contents(tuple(hdus))
                hdu, size = _hdu(header, len(hdus), stream)
                hdus.append(hdu)
                end = stream.at + size
                stream.skip(size)
                if stream.at < end:
                    return _Contents(tuple(hdus), _cut(stream, hdu))
                _see_padding(stream, hdu, size)
            except DataError as error:
                return _Contents(tuple(hdus), error)


def _hdu(header: fits.Header, number: int, stream: _Stream) -> tuple[_Hdu, int]:
    """What begins with a header, and the bytes of its data."""
    try:
        kind = str(header.get("XTENSION", "PRIMARY")).strip()
        if kind == "BINTABLE" and header.get("ZIMAGE"):
            kind = "a compressed image"
        elif number and kind in _TABLES:
            kind = _TABLES[kind]
        hdu = _Hdu(number, str(header.get("EXTNAME", "")).strip(), kind, header, stream.at)
        size = _data_bytes(header)
        if size < 0 or (kind in _TABLES.values() and (hdu.rows < 0 or hdu.info.columns < 0)):
            raise ValueError("a negative size")
        return hdu, size
    except _RAISED as error:
        problem = f"the header of HDU {number} cannot be understood: {error}"
        raise DataError(stream.path, problem, "fetch it again") from error


def _cut(stream: _Stream, hdu: _Hdu) -> DataError:
    if hdu.kind != _TABLES["BINTABLE"] or not int(hdu.header["NAXIS1"]):
        return cut_short(stream.path, 0, f"HDU {hdu.number}")
    rows = min((stream.at - hdu.start) // int(hdu.header["NAXIS1"]), hdu.rows)
    return cut_short(stream.path, rows, "the FITS table", hdu.rows)


def _see_padding(stream: _Stream, hdu: _Hdu, size: int) -> None:
    """Go to the next block.

    Raises
    ------
    DataError
        If rows stand where there should be nothing.
    """
    padding = stream.read(-size % _BLOCK).rstrip(b"\0 ")
    width = int(hdu.header["NAXIS1"]) if hdu.kind == _TABLES["BINTABLE"] else 0
    if 0 < width <= len(padding):
        raise _unclaimed(stream.path, hdu.number)


def _header(stream: _Stream, number: int) -> fits.Header | None:
    """The next header; None at the end of the file.

    Raises
    ------
    DataError
        If it ends early, or something else stands there.
    """
    cards = b""
    while True:
        block = stream.read(_BLOCK)
        if not cards and not block.startswith((b"SIMPLE", b"XTENSION")):
            # Files may be filled up behind the last HDU.
            while block:
                if block.strip(b"\0 \r\n"):
                    raise _unclaimed(stream.path, number - 1)
                block = stream.read(_PIECE)
            return None
        cards += block
        if len(block) < _BLOCK:
            raise cut_short(stream.path, 0, "a FITS header")
        if any(block[at : at + 8] == b"END     " for at in range(0, _BLOCK, 80)):
            return fits.Header.fromstring(cards)


def _unclaimed(path: str, number: int) -> DataError:
    return DataError(
        path,
        f"behind HDU {number} stands what belongs to no table: does its NAXIS2 count all rows?",
        f"if it means nothing, name the table: {_OPTION.hint(str(number))}",
    )


def _data_bytes(header: fits.Header) -> int:
    axes = [int(header[f"NAXIS{axis}"]) for axis in range(1, int(header["NAXIS"]) + 1)]
    if axes and not axes[0] and header.get("GROUPS"):
        axes = axes[1:]
    size = math.prod(axes) if axes else 0
    values = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + size)
    return abs(int(header["BITPIX"])) // 8 * values


@dataclass(frozen=True)
class _Column:
    """How a column lies in a row and what its numbers mean."""

    field: str
    format: str
    shape: tuple[int, ...]
    null: int | None
    scale: int | float
    zero: int | float
    unit: str
    dtype: np.dtype[Any]

    @property
    def type(self) -> pa.DataType | None:
        """What its values are, where they can be read."""
        if self.problem:
            return None
        one = np.zeros(1, [(self.field, self.dtype, self.shape)])
        found: pa.DataType = self.read(one).type
        return found

    @property
    def problem(self) -> str:
        """Why it cannot be read, or nothing."""
        match self.format:
            case "A" if self.shape:
                return "it holds several texts per row"
            case "P" | "Q":
                return "its rows have different lengths, which galbatch does not read"
            case "C" | "M":
                return "its numbers are complex"
            case "X":
                return "its values are single bits, which galbatch does not read"
            case _:
                return ""

    def read(self, block: NDArray[Any]) -> pa.Array:
        values = block[self.field]
        if self.format == "A":
            return from_numpy(values)
        if self.format == "L":
            return from_numpy(values == ord("T"), null=values == 0)
        return from_numpy(self._scaled(values), self._null(values))

    def inexact(self, block: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Rows with a 64-bit integer that TSCAL and TZERO would make another one of."""
        if self.format != "K" or self._is_plain or self._is_unsigned:
            return None
        values = block[self.field]
        bad: NDArray[Any]
        if self._is_whole:
            info, zero = np.iinfo(np.int64), int(self.zero)
            bad = values > info.max - zero if zero > 0 else values < info.min - zero
        else:
            bad = (values > 2**53) | (values < -(2**53))
        null = self._null(values)
        if null is not None:
            bad &= ~null
        return np.asarray(bad.reshape(len(bad), -1).any(axis=1))

    def _null(self, values: NDArray[Any]) -> NDArray[np.bool_] | None:
        if self.null is None or self.format not in "BIJK":
            return None
        null: NDArray[np.bool_] = values == self.null
        return null

    @property
    def _is_plain(self) -> bool:
        return self.scale == 1 and self.zero == 0

    @property
    def _is_unsigned(self) -> bool:
        # FITS has no unsigned integers (and no signed bytes): TZERO stands for the sign bit.
        sign = -128 if self.format == "B" else 2 ** (8 * self.dtype.itemsize - 1)
        return self.format in "BIJK" and self.scale == 1 and self.zero == sign

    @property
    def _is_whole(self) -> bool:
        """Whether its integers are integers still, and fit into 64 bits (see `inexact`)."""
        if not (isinstance(self.scale, int) and isinstance(self.zero, int)):
            return False
        if self.format == "K":
            return self.scale == 1 and abs(self.zero) < 2**63
        largest = abs(self.scale) * 2 ** (8 * self.dtype.itemsize) + abs(self.zero)
        return self.format in "BIJ" and largest < 2**63

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if self._is_plain:
            return values
        if self._is_unsigned:
            size = values.dtype.itemsize
            bits: NDArray[Any] = values.astype(f"u{size}")
            bits ^= bits.dtype.type(1 << (8 * size - 1))
            return bits.view(np.int8) if self.format == "B" else bits
        if self._is_whole:
            return np.asarray(values.astype(np.int64) * self.scale + self.zero)
        return np.asarray(values * np.float64(self.scale) + np.float64(self.zero))


@dataclass(frozen=True)
class _Table:
    """How the rows of a table lie in the file."""

    rows: int
    dtype: np.dtype[Any]
    columns: dict[str, _Column]


def _table(hdu: _Hdu, path: str) -> _Table:
    where = f"HDU {hdu.number}"
    if hdu.kind == _TABLES["TABLE"]:
        hint = "make it binary: stilts tcopy ifmt=fits ofmt=fits FILE NEW"
        raise SpecError(path, f"{where} is an ASCII table, which galbatch does not read", hint)
    if hdu.header.get("ZTABLE"):
        raise SpecError(path, f"{where}: the table is tile-compressed", "unpack it: funpack FILE")
    header = hdu.header.copy()
    try:
        for number in range(1, hdu.info.columns + 1):
            # Names are recommended, not required.
            if not str(header.get(f"TTYPE{number}", "")).strip():
                header[f"TTYPE{number}"] = f"col{number}"
        names = [str(header[f"TTYPE{n}"]).strip() for n in range(1, hdu.info.columns + 1)]
        twice = next((name for name in names if names.count(name) > 1), "")
        if twice:
            raise SpecError(path, f"{where}: two columns are called '{twice}'", "rename one")
        with _at_ease():
            layout = fits.BinTableHDU.fromstring(header.tostring().encode("ascii")).columns
            dtype = layout.dtype.newbyteorder(">")
            columns = {
                column.name: _Column(
                    field=field,
                    format=column.format.format,
                    shape=dtype[field].shape,
                    null=column.null if isinstance(column.null, int) else None,
                    scale=_exact(column.bscale, 1),
                    zero=_exact(column.bzero, 0),
                    unit=str(column.unit or "").strip(),
                    dtype=dtype[field].base,
                )
                for column, field in zip(layout, dtype.names, strict=True)
                if dtype[field].itemsize
            }
        width = int(header["NAXIS1"])
    except _RAISED as error:
        problem = f"the FITS table's header cannot be understood: {error}"
        raise SpecError(path, problem) from error
    if dtype.itemsize != width:
        raise SpecError(path, f"the columns take {dtype.itemsize} bytes, a row has {width}")
    return _Table(hdu.rows, dtype, columns)


def _exact(number: Any, default: int) -> int | float:
    """A number of a header, as an integer where it is one."""
    if number is None or number == "":
        return default
    value = number if isinstance(number, int) else float(number)
    return int(value) if math.isfinite(value) and value == int(value) else value


def _batches(
    stream: _Stream, table: _Table, types: Mapping[str, pa.DataType], rows: int, before: int
) -> Iterator[Batch]:
    """The rows of the table that the stream stands at; `before` of the file come before them."""
    path = stream.path
    must_have(path, types, list(table.columns))
    for name, wanted in types.items():
        problem = table.columns[name].problem
        if problem and not pa.types.is_null(wanted):
            raise SpecError(path, f"column '{name}': {problem}")
    types = {name: types[name] for name in types if not table.columns[name].problem}
    width, done = table.dtype.itemsize, 0
    while done < table.rows and width:
        count = min(rows, table.rows - done)
        buffer, failure = stream.rows(width, count, before + done)
        whole = min(buffer.size // width, count)
        if whole < count and failure is None:
            failure = cut_short(path, before + done + whole, "the FITS table", table.rows)
        if whole:
            block = np.frombuffer(buffer, dtype=table.dtype, count=whole)
            numbers = np.arange(before + done + 1, before + done + whole + 1, dtype=np.int64)
            block, numbers, rejected = _exact_rows(path, table, types, block, numbers)
            arrays = {name: table.columns[name].read(block) for name in types}
            yield make_batch(path, numbers, arrays, types, rejected)
        done += whole
        if failure:
            raise failure


def _exact_rows(
    path: str,
    table: _Table,
    types: Mapping[str, pa.DataType],
    block: NDArray[Any],
    numbers: NDArray[np.int64],
) -> tuple[NDArray[Any], NDArray[np.int64], tuple[RejectedRow, ...]]:
    reasons: dict[int, str] = {}
    for name in types:
        bad = table.columns[name].inexact(block)
        if bad is not None and bad.any():
            reason = f"column '{name}': TSCAL and TZERO make no exact number of its integer"
            for row in numbers[bad].tolist():
                reasons.setdefault(row, reason)
    if not reasons:
        return block, numbers, ()
    good = ~np.isin(numbers, list(reasons))
    rejected = tuple(RejectedRow(path, row, reasons[row]) for row in sorted(reasons))
    return block[good], numbers[good], rejected
