"""NumPy: a structured array (`.npy`), or an archive of one array for each column (`.npz`)."""

from __future__ import annotations

import ast
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import GalbatchError, SpecError
from galbatch.readers.base import Batch, Batches, Header
from galbatch.readers.groups import ColumnGroup, GroupColumn, row_problem, row_type
from galbatch.readers.opening import broken, cut_short, head, not_that

_MAGIC = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"
_LONGEST_HEADER = 1 << 20
# What a damaged file raises.
_RAISED = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile)


class NumpyReader:
    """Reads row ranges of a structured array, or of the arrays in an archive, in step.

    Nothing is unpickled: arrays of Python objects are refused. Rows are read and not mapped, so
    that memory stays flat.
    """

    def header(self, path: str) -> Header:
        """The fields of the array, or the arrays of the archive."""
        with ExitStack() as stack:
            return _group(path, stack).header(path)

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        return Batches(self._read(path, types, rows), lambda: self._records(path))

    def _records(self, path: str) -> int:
        """Rows by the shape of the arrays."""
        with ExitStack() as stack:
            return _group(path, stack).rows

    def _read(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Iterator[Batch]:
        with ExitStack() as stack:
            yield from _group(path, stack).batches(path, types, rows, 0)


@dataclass(frozen=True)
class _Array:
    """What the header of an array says, and how many bytes it takes itself."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int


def _group(path: str, stack: ExitStack) -> ColumnGroup:
    """The columns of a file, which is open until the stack is left."""
    start = head(path)
    try:
        if start.startswith(_MAGIC[: len(start)]):
            columns = _fields(path, stack)
        elif start.startswith(_ZIP):
            columns = _members(path, stack)
        else:
            raise not_that(path, "NumPy", start)
    except GalbatchError:
        raise
    except (EOFError, zipfile.BadZipFile) as error:
        # The list of what is in an archive stands at its end.
        raise cut_short(path, 0, "the NumPy file") from error
    except _RAISED as error:
        raise broken(path, error, 0) from error
    return ColumnGroup("", columns, _RAISED)


def _fields(path: str, stack: ExitStack) -> dict[str, GroupColumn]:
    file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 (the stack closes it)
    array = _header(file)
    if array.dtype.names is None or len(array.shape) != 1:
        problem = f"is one array of shape {array.shape} without names of columns"
        hint = "save a structured array, or a column for each name: np.savez(FILE, ra=ra, dec=dec)"
        raise SpecError(path, problem, hint)
    rows = array.shape[0]
    if array.dtype.hasobject:
        objects = [n for n in array.dtype.names if array.dtype[n].hasobject]
        problem = f"column '{objects[0]}': its values are Python objects, which galbatch does not"
        raise SpecError(path, f"{problem} read", "save numbers and texts")
    there = (Path(path).stat().st_size - array.start) // max(array.dtype.itemsize, 1)
    if there < rows:
        raise cut_short(path, there, "the NumPy array", rows)
    block = _Block(file, array)
    columns = {}
    for name in array.dtype.names:
        dtype = array.dtype[name]
        problem = row_problem(dtype.base, dtype.shape)
        kind = None if problem else row_type(dtype.base, dtype.shape)
        columns[name] = GroupColumn(rows, kind, "", block.of(name), problem)
    return columns


class _Block:
    """Rows of a structured array, read once for all of its fields."""

    def __init__(self, file: IO[bytes], array: _Array) -> None:
        self._file, self._array = file, array
        self._range, self._rows = (0, 0), np.zeros(0, array.dtype)

    def of(self, field: str) -> Any:
        """Reads rows of a field."""

        def read(start: int, stop: int) -> NDArray[Any]:
            if (start, stop) != self._range:
                size = self._array.dtype.itemsize
                self._file.seek(self._array.start + start * size)
                content = _exactly(self._file, (stop - start) * size)
                self._rows = np.frombuffer(content, self._array.dtype, stop - start)
                self._range = (start, stop)
            return np.asarray(self._rows[field])

        return read


def _members(path: str, stack: ExitStack) -> dict[str, GroupColumn]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    if not names:
        raise SpecError(path, "is a zip archive that holds no NumPy arrays")
    columns = {}
    for name in names:
        with archive.open(name) as file:
            array = _header(file)
        if array.shape:
            member = _Member(archive, name, stack)
            columns[name.removesuffix(".npy")] = _member_column(array, member)
    if all(column.beside for column in columns.values()):
        raise SpecError(path, "holds no columns (arrays of one or two axes)")
    return columns


def _member_column(array: _Array, member: _Member) -> GroupColumn:
    shape = array.shape[1:]
    problem = row_problem(array.dtype, shape)
    if not problem and array.fortran and shape:
        problem = "its values lie column by column: save np.ascontiguousarray(ARRAY)"
    kind = None if problem else row_type(array.dtype, shape)
    return GroupColumn(array.shape[0], kind, "", member.read, problem, beside=len(shape) > 1)


class _Member:
    """The rows of an array in an archive, from its first to its last: nobody can seek in it."""

    def __init__(self, archive: zipfile.ZipFile, name: str, stack: ExitStack) -> None:
        self._archive, self._name, self._stack = archive, name, stack
        self._file: IO[bytes] | None = None
        self._array: _Array | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The next rows."""
        if self._file is None or self._array is None:
            self._file = self._stack.enter_context(self._archive.open(self._name))
            self._array = _header(self._file)
        shape, dtype = self._array.shape[1:], self._array.dtype
        content = _exactly(self._file, (stop - start) * math.prod(shape) * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(stop - start, *shape)


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError(f"{size - len(content):,} bytes are missing")
    return content


def _header(file: IO[bytes]) -> _Array:
    """What an array says of itself: a dictionary in Python's own words, after a magic number."""
    if _exactly(file, len(_MAGIC)) != _MAGIC:
        raise ValueError("an array does not begin with the magic number of NumPy")
    version = _exactly(file, 2)[0]
    long = version > 1
    (size,) = struct.unpack("<I" if long else "<H", _exactly(file, 4 if long else 2))
    if size > _LONGEST_HEADER:
        raise ValueError(f"a header of {size:,} bytes")
    text = _exactly(file, size).decode("utf-8" if version > 2 else "latin-1")
    try:
        said = ast.literal_eval(text.strip())
        dtype = np.lib.format.descr_to_dtype(said["descr"])
        shape = tuple(int(axis) for axis in said["shape"])
        fortran = bool(said["fortran_order"])
    except (SyntaxError, LookupError, TypeError) as error:
        raise ValueError(f"the header of an array cannot be understood: {error}") from error
    return _Array(dtype, shape, fortran, len(_MAGIC) + 2 + (4 if long else 2) + size)
