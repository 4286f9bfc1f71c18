"""FITS binary tables, plain or gzipped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from galbatch.errors import GalbatchError, SpecError, did_you_mean
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import make_batch
from galbatch.readers.door import broken, cut_short, must_have, not_that, opened
from galbatch.readers.numpy_arrow import from_numpy

_BLOCK = 2880
_PIECE = 1 << 18


class FitsReader:
    """Reads row ranges of a binary table, from mapped memory or through gzip.

    Parameters
    ----------
    hdu : int or str, optional
        Number or EXTNAME of the table; by default the first one.
    """

    def __init__(self, hdu: int | str | None = None) -> None:
        self.hdu = hdu

    def header(self, path: str) -> Header:
        """The columns of the table, with their TUNIT."""
        with _open(path) as stream:
            columns = _find(stream, path, self.hdu).columns.items()
            return Header(tuple(FileColumn(name, one.type, one.unit) for name, one in columns))

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._rows(path))

    def _rows(self, path: str) -> int:
        """Rows by NAXIS2."""
        with _open(path) as stream:
            return _find(stream, path, self.hdu).rows

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with _open(path) as stream:
            table = _find(stream, path, self.hdu)
            must_have(path, types, list(table.columns))
            for name, wanted in types.items():
                problem = table.columns[name].problem
                if problem and not pa.types.is_null(wanted):
                    raise SpecError(path, f"column '{name}': {problem}")
            types = {name: types[name] for name in types if not table.columns[name].problem}
            done = 0
            while done < table.rows:
                count = min(rows, table.rows - done)
                block, failure = _rows(stream, path, table, count, done)
                if len(block):
                    numbers = np.arange(done + 1, done + 1 + len(block), dtype=np.int64)
                    arrays = {name: table.columns[name].read(block) for name in types}
                    yield make_batch(path, numbers, arrays, types)
                done += len(block)
                if failure:
                    raise failure


@dataclass(frozen=True)
class _Column:
    """How a column lies in a row and what its numbers mean."""

    field: str
    format: str
    shape: tuple[int, ...]
    null: int | None
    scale: float
    zero: float
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
        null = values == self.null if self.null is not None else None
        if self.scale != 1 or self.zero != 0:
            values = self._scaled(values)
        return from_numpy(values, null)

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        # FITS has no unsigned integers (and no signed bytes): TZERO stands for the sign bit.
        size = values.dtype.itemsize
        sign = -128 if self.format == "B" else 2 ** (8 * size - 1)
        if self.format in "BIJK" and self.scale == 1 and self.zero == sign:
            bits: NDArray[Any] = values.astype(f"u{size}")
            bits ^= bits.dtype.type(1 << (8 * size - 1))
            return bits.view(np.int8) if self.format == "B" else bits
        scaled: NDArray[np.float64] = values * np.float64(self.scale) + self.zero
        return scaled


@dataclass(frozen=True)
class _Table:
    """Where the rows of a table are: the stream stands at the first."""

    rows: int
    dtype: np.dtype[Any]
    columns: dict[str, _Column]


def _open(path: str) -> pa.NativeFile:
    stream, start = opened(path)
    if not start.startswith(b"SIMPLE  ="):
        raise not_that(path, "FITS", start)
    return stream


def _find(stream: pa.NativeFile, path: str, hdu: int | str | None) -> _Table:
    """Go to the first row of the table."""
    tables: list[str] = []
    number = 0
    while True:
        header = _header(stream, path)
        if header is None:
            break
        name = str(header.get("EXTNAME", "")).strip()
        is_table = header.get("XTENSION", "").strip() == "BINTABLE" and not header.get("ZIMAGE")
        if is_table:
            tables.append(name or str(number))
        wanted = (
            is_table if hdu is None else number == hdu or name.lower() == str(hdu).strip().lower()
        )
        if wanted and is_table and number:
            return _table(header, path)
        if wanted and hdu is not None:
            kind = str(header.get("XTENSION", "PRIMARY")).strip()
            raise SpecError(path, f"HDU {hdu} is no binary table but {kind}", _choose(tables))
        _skip(stream, path, _data_bytes(header))
        number += 1
    if hdu is None:
        raise SpecError(path, f"holds no binary table in its {number} HDUs")
    raise SpecError(path, f"there is no HDU '{hdu}'", did_you_mean(str(hdu), tables))


def _choose(tables: list[str]) -> str:
    return f"binary tables before it: {', '.join(tables)}" if tables else ""


def _header(stream: pa.NativeFile, path: str) -> fits.Header | None:
    cards = b""
    while True:
        block = _read(stream, path, _BLOCK, 0)
        if not block and not cards:
            return None
        if not cards and not block.startswith((b"SIMPLE", b"XTENSION")):
            return None  # what follows the last HDU is padding
        cards += block
        if len(block) < _BLOCK:
            raise cut_short(path, 0, "a FITS header")
        if any(block[at : at + 8] == b"END     " for at in range(0, _BLOCK, 80)):
            return fits.Header.fromstring(cards)


def _data_bytes(header: fits.Header) -> int:
    naxis = int(header.get("NAXIS", 0))
    if naxis == 0:
        return 0
    size = int(np.prod([int(header[f"NAXIS{axis}"]) for axis in range(1, naxis + 1)]))
    values = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + size)
    used = abs(int(header["BITPIX"])) // 8 * values
    return -(-used // _BLOCK) * _BLOCK


def _skip(stream: pa.NativeFile, path: str, size: int) -> None:
    if stream.seekable():
        stream.seek(min(stream.tell() + size, stream.size()))
        return
    while size > 0:
        got = len(_read(stream, path, min(size, _PIECE), 0))
        if not got:
            return
        size -= got


def _table(header: fits.Header, path: str) -> _Table:
    if header.get("ZTABLE"):
        raise SpecError(path, "the table is tile-compressed", "unpack it first: funpack FILE")
    try:
        with warnings.catch_warnings():
            # astropy frets about units and display formats, which nobody reads here.
            warnings.simplefilter("ignore", AstropyWarning)
            layout = fits.BinTableHDU.fromstring(header.tostring().encode("ascii")).columns
            dtype = layout.dtype.newbyteorder(">")
            columns = {
                column.name: _Column(
                    field=field,
                    format=column.format.format,
                    shape=dtype[field].shape,
                    null=column.null if isinstance(column.null, int) else None,
                    scale=1.0 if column.bscale in (None, "") else float(column.bscale),
                    zero=0.0 if column.bzero in (None, "") else float(column.bzero),
                    unit=str(column.unit or "").strip(),
                    dtype=dtype[field].base,
                )
                for column, field in zip(layout, dtype.names, strict=True)
                if dtype[field].itemsize
            }
    except (ValueError, KeyError, TypeError, fits.VerifyError) as error:
        raise SpecError(path, f"the FITS table's header cannot be understood: {error}") from error
    if dtype.itemsize != header["NAXIS1"]:
        raise SpecError(
            path, f"the columns take {dtype.itemsize} bytes, a row has {header['NAXIS1']}"
        )
    return _Table(int(header["NAXIS2"]), dtype, columns)


def _read(stream: pa.NativeFile, path: str, size: int, row: int) -> bytes:
    try:
        return bytes(stream.read(size))
    except OSError as error:
        raise broken(path, error, row) from error


def _rows(
    stream: pa.NativeFile, path: str, table: _Table, rows: int, done: int
) -> tuple[NDArray[Any], GalbatchError | None]:
    """The next rows; where the file breaks, those before that and why."""
    width = table.dtype.itemsize
    failure: GalbatchError | None = None
    if stream.seekable():
        buffer = stream.read_buffer(rows * width)
    else:
        # In pieces, because a piece that fails is lost.
        pieces = bytearray()
        try:
            while len(pieces) < rows * width:
                piece = stream.read(min(_PIECE, rows * width - len(pieces)))
                if not piece:
                    break
                pieces += piece
        except OSError as error:
            failure = broken(path, error, done + len(pieces) // width)
        buffer = pa.py_buffer(pieces)
    whole = min(buffer.size // width, rows)
    if whole < rows and failure is None:
        failure = cut_short(path, done + whole, "the FITS table", table.rows)
    return np.frombuffer(buffer, dtype=table.dtype, count=whole), failure
