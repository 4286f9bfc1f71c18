"""The parts (HDUs) of a FITS file, and its bytes."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from galbatch.errors import DataError, GalbatchError
from galbatch.readers.opening import broken, cut_short, head, not_that, opened
from galbatch.readers.stamps import stamp
from galbatch.readers.tables import TableInfo, TableOption

_BLOCK = 2880
_PIECE = 1 << 18
OPTION = TableOption("fits", "hdu", "HDU")
TABLES = {"BINTABLE": "binary table", "TABLE": "ASCII table"}
COMPRESSED = "a compressed image"
_IMAGES = ("PRIMARY", "IMAGE")
# What a header raises that does not say what FITS wants.
RAISED = (ValueError, KeyError, TypeError, IndexError, OverflowError, fits.VerifyError)


@dataclass(frozen=True)
class Hdu:
    """Part of a file: what it is, and where its data begin."""

    number: int
    name: str
    kind: str
    header: fits.Header
    start: int

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return int(self.header["NAXIS2"])

    @property
    def axes(self) -> tuple[int, ...]:
        """Shape of the image, as NumPy has it: the slowest axis first; empty for no image."""
        key = "NAXIS"
        if self.kind == COMPRESSED:
            key = "ZNAXIS"
        elif self.kind not in _IMAGES or self.header.get("GROUPS"):
            return ()
        count = int(self.header.get(key, 0))
        return tuple(int(self.header[f"{key}{axis}"]) for axis in range(count, 0, -1))

    @property
    def info(self) -> TableInfo:
        """The table, for those who choose one."""
        names = (self.name,) if self.name else ()
        return TableInfo(names, self.number, self.rows, int(self.header["TFIELDS"]))


@dataclass(frozen=True)
class Contents:
    """The parts of a file, and what is wrong with it behind the beginning of the last."""

    hdus: tuple[Hdu, ...]
    failure: GalbatchError | None = None


class Stream:
    """The bytes of a file, unpacked where need be."""

    def __init__(self, path: str, file: pa.NativeFile | io.BufferedReader) -> None:
        self.path, self.at, self._file = path, 0, file
        self.size: int | None = file.size() if isinstance(file, pa.NativeFile) else None

    def __enter__(self) -> Stream:
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


def open_fits(path: str) -> Stream:
    """The bytes of a FITS file, from its begin.

    Raises
    ------
    SpecError
        If it is something else.
    """
    file, start = opened(path)
    if not start.startswith(b"SIMPLE  ="):
        raise not_that(path, "FITS", start)
    return Stream(path, file)


@contextmanager
def without_warnings() -> Iterator[None]:
    """astropy frets about units, display formats and cards that nobody reads here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def contents(path: str) -> Contents:
    """The parts of a file."""
    head(path)
    return _listed(path, stamp(path))


@lru_cache(maxsize=8)
def _listed(path: str, _: tuple[int, int | str]) -> Contents:
    """All parts of a file: gzip is unpacked to its end for that, but once for a file."""
    hdus: list[Hdu] = []
    with open_fits(path) as stream, without_warnings():
        while True:
            try:
                header = _header(stream, len(hdus))
                if header is None:
                    return Contents(tuple(hdus))
                hdu, size = _hdu(header, len(hdus), stream)
                hdus.append(hdu)
                end = stream.at + size
                stream.skip(size)
                if stream.at < end:
                    return Contents(tuple(hdus), _cut(stream, hdu))
                _see_padding(stream, hdu, size)
            except DataError as error:
                return Contents(tuple(hdus), error)


def _hdu(header: fits.Header, number: int, stream: Stream) -> tuple[Hdu, int]:
    """What begins with a header, and the bytes of its data."""
    try:
        kind = str(header.get("XTENSION", "PRIMARY")).strip()
        if kind == "BINTABLE" and header.get("ZIMAGE"):
            kind = COMPRESSED
        elif number and kind in TABLES:
            kind = TABLES[kind]
        hdu = Hdu(number, str(header.get("EXTNAME", "")).strip(), kind, header, stream.at)
        size = _data_bytes(header)
        if size < 0 or (kind in TABLES.values() and (hdu.rows < 0 or hdu.info.columns < 0)):
            raise ValueError("a negative size")
        return hdu, size
    except RAISED as error:
        problem = f"the header of HDU {number} cannot be understood: {error}"
        raise DataError(stream.path, problem, "fetch it again") from error


def _cut(stream: Stream, hdu: Hdu) -> DataError:
    if hdu.kind != TABLES["BINTABLE"] or not int(hdu.header["NAXIS1"]):
        return cut_short(stream.path, 0, f"HDU {hdu.number}")
    rows = min((stream.at - hdu.start) // int(hdu.header["NAXIS1"]), hdu.rows)
    return cut_short(stream.path, rows, "the FITS table", hdu.rows)


def _see_padding(stream: Stream, hdu: Hdu, size: int) -> None:
    """Go to the next block.

    Raises
    ------
    DataError
        If rows stand where there should be nothing.
    """
    padding = stream.read(-size % _BLOCK).rstrip(b"\0 ")
    width = int(hdu.header["NAXIS1"]) if hdu.kind == TABLES["BINTABLE"] else 0
    if 0 < width <= len(padding):
        raise _unclaimed(stream.path, hdu.number)


def _header(stream: Stream, number: int) -> fits.Header | None:
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
        f"if it means nothing, name the table: {OPTION.hint(str(number))}",
    )


def _data_bytes(header: fits.Header) -> int:
    axes = [int(header[f"NAXIS{axis}"]) for axis in range(1, int(header["NAXIS"]) + 1)]
    if axes and not axes[0] and header.get("GROUPS"):
        axes = axes[1:]
    size = math.prod(axes) if axes else 0
    values = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + size)
    return abs(int(header["BITPIX"])) // 8 * values
