"""Files that are packed: gzip, bzip2, xz, Zstandard, or a zip archive of one file."""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import pyarrow as pa

from galbatch.errors import SpecError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 1 << 16
_BUFFER = 1 << 18
_SHOWN = 5


@dataclass(frozen=True)
class Packing:
    """A way to pack files.

    Parameters
    ----------
    name : str
        For messages.
    ending : str
        Of such files' names.
    start : pattern
        What such a file begins with, in its first ten bytes.
    check : str
        The command that tells whether a file of this kind is whole.
    """

    name: str
    ending: str
    start: re.Pattern[bytes]
    check: str


PACKINGS = (
    Packing("gzip", ".gz", re.compile(rb"\x1f\x8b"), "gzip -t"),
    # Six bytes behind the level are fixed, too: a column may be called BZh.
    Packing("bzip2", ".bz2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bzip2 -t"),
    Packing("xz", ".xz", re.compile(rb"\xfd7zXZ\0"), "xz -t"),
    Packing("Zstandard", ".zst", re.compile(rb"\x28\xb5\x2f\xfd"), "zstd -t"),
    Packing("zip", ".zip", re.compile(rb"PK(?:\x03\x04|\x05\x06)"), "unzip -t"),
)


class Unpackable(OSError):
    """A packed file that breaks.

    Parameters
    ----------
    packing : Packing
    problem : str
    early : bool
        Whether it ends before it should.
    """

    def __init__(self, packing: Packing, problem: str, *, early: bool = False) -> None:
        self.packing, self.problem, self.early = packing, problem, early
        super().__init__(problem)


def packing_of(start: bytes) -> Packing | None:
    """How a file is packed, judging by its first bytes."""
    return next((packing for packing in PACKINGS if packing.start.match(start)), None)


def unpacked(path: str, packing: Packing) -> io.BufferedReader:
    """The content of a packed file, as a stream that cannot seek.

    The file is opened with the first read, which raises SpecError if it is a zip archive that does
    not hold one file that anyone may read. Any read raises Unpackable where the file is damaged.
    """
    raw: io.RawIOBase
    match packing.name:
        case "zip":
            raw = _Guarded(partial(_member, path, packing), packing)
        case "Zstandard":
            raw = _Guarded(partial(pa.input_stream, path, compression="zstd"), packing)
        case _:
            raw = _Streams(path, packing)
    return io.BufferedReader(raw, _BUFFER)


class _Unpacker(Protocol):
    """Unpacks one stream; `bz2.BZ2Decompressor` is one."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib with the methods of the other libraries of Python."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


_UNPACKERS: dict[str, Callable[[], _Unpacker]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}


class _Streams(io.RawIOBase):
    """Packed streams, one after the other, with nothing but zeros between and behind them.

    The libraries of Python end at bytes behind the first stream that they cannot read, and ignore a
    damaged second stream.
    """

    def __init__(self, path: str, packing: Packing) -> None:
        self._path, self._packing = path, packing
        self._new = _UNPACKERS[packing.name]
        self._stream = self._new()
        self._waiting = b""

    @cached_property
    def _file(self) -> IO[bytes]:
        return Path(self._path).open("rb")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        while not self._stream.eof or self._next_stream():
            packed = self._packed() if self._stream.needs_input else b""
            hungry = self._stream.needs_input and not packed
            try:
                data = self._stream.decompress(packed, size)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise Unpackable(self._packing, str(error)) from error
            if data:
                return data
            if hungry and not self._stream.eof:
                raise Unpackable(self._packing, "the stream has no end", early=True)
        return b""

    def _packed(self) -> bytes:
        packed, self._waiting = self._waiting, b""
        return packed or self._file.read(_PIECE)

    def _next_stream(self) -> bool:
        """Go to the next stream, if there is one."""
        rest = self._stream.unused_data.lstrip(b"\0")
        while len(rest) < 10:  # as many bytes as tell how it is packed
            piece = self._file.read(_PIECE)
            if not piece:
                break
            # Tapes, and tools that write whole blocks, leave zeros behind the stream.
            rest = (rest + piece).lstrip(b"\0")
        if not rest:
            return False
        if not self._packing.start.match(rest):
            raise Unpackable(self._packing, "something else follows what is packed")
        self._stream, self._waiting = self._new(), rest
        return True


class _Guarded(io.RawIOBase):
    """What a library unpacks, with its errors raised as `Unpackable`."""

    def __init__(self, opening: Callable[[], IO[bytes]], packing: Packing) -> None:
        self._opening, self._packing = opening, packing

    @cached_property
    def _stream(self) -> IO[bytes]:
        return self._opening()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if "_stream" in self.__dict__:
            self._stream.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._stream.read(len(view))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            if isinstance(error, Unpackable) or (isinstance(error, OSError) and error.errno):
                raise
            early = isinstance(error, EOFError) or "truncated" in str(error).lower()
            raise Unpackable(self._packing, str(error), early=early) from error
        view[: len(data)] = data
        return len(data)


def _member(path: str, packing: Packing) -> IO[bytes]:
    """The one file in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            # A Mac adds a file of its own for each.
            found = [
                one for one in archive.infolist()
                if not one.is_dir() and not one.filename.startswith("__MACOSX/")
            ]  # fmt: skip
            if len(found) != 1:
                raise _not_one(path, [one.filename for one in found])
            if found[0].flag_bits & 1:
                raise SpecError(path, "the zip archive is encrypted", "unpack it first")
            return archive.open(found[0])
    except NotImplementedError as error:
        problem = f"the zip archive is packed in a way that cannot be read here ({error})"
        raise SpecError(path, problem, "unpack it first: unzip FILE") from None
    except zipfile.BadZipFile as error:
        # The list of what is in it stands at its end.
        raise Unpackable(packing, str(error), early=True) from error


def _not_one(path: str, names: list[str]) -> SpecError:
    if not names:
        return SpecError(path, "the zip archive is empty")
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return SpecError(
        path,
        f"the zip archive holds {len(names)} files, not one: {shown}",
        "unpack it, and name the files in source.paths",
    )
