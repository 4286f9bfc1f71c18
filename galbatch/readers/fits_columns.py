"""How the columns of a FITS table, and the rows of an image, lie in a file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from galbatch.errors import SpecError, counted
from galbatch.readers.fits_file import COMPRESSED, RAISED, TABLES, Hdu, without_warnings
from galbatch.readers.numpy_arrow import from_numpy


@dataclass(frozen=True)
class StoredColumn:
    """How a column lies in a row and what its numbers mean."""

    field: str
    format: str
    shape: tuple[int, ...]
    null: int | None
    scale: int | float
    zero: int | float
    unit: str
    dtype: np.dtype[Any]
    unreadable: str = ""

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
        if self.unreadable:
            return self.unreadable
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
        """Its values in some rows, as they lie in the file."""
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
class RowLayout:
    """How the rows of a table, or of an image, lie in a file.

    Parameters
    ----------
    hdu : Hdu
    rows : int
    dtype : numpy.dtype
        Of a row.
    columns : dict of str to StoredColumn
        An image is one column.
    """

    hdu: Hdu
    rows: int
    dtype: np.dtype[Any]
    columns: dict[str, StoredColumn]

    @property
    def is_image(self) -> bool:
        """Whether it is an image."""
        return bool(self.hdu.axes)

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return f"the FITS image {next(iter(self.columns))}" if self.is_image else "the FITS table"


_IMAGE_FORMATS = {
    8: ("B", "u1"), 16: ("I", ">i2"), 32: ("J", ">i4"), 64: ("K", ">i8"),
    -32: ("E", ">f4"), -64: ("D", ">f8"),
}  # fmt: skip
"""By BITPIX: what a column of such numbers is called, and how they lie in the file."""


def image_layouts(hdus: Sequence[Hdu], rows: int, names: Container[str]) -> list[RowLayout]:
    """The images that have as many rows as a table: their slowest axis counts them.

    Parameters
    ----------
    hdus : sequence of Hdu
        All parts of the file.
    rows : int
        Of the table.
    names : container of str
        Of the table's columns: an image of the same name is not the one that is meant.
    """
    images = [hdu for hdu in _images(hdus, names) if hdu.axes[0] == rows]
    called = Counter(_image_name(hdu) for hdu in images)
    layouts = []
    for hdu in images:
        name = _image_name(hdu)
        if called[name] == 0:
            continue
        unreadable = "it is a compressed image: unpack it (funpack FILE)"
        if called[name] > 1:
            unreadable, called[name] = "several images are called so", 0
        elif hdu.kind != COMPRESSED:
            unreadable = ""
        layouts.append(_image_layout(hdu, name, unreadable))
    return layouts


def other_images(
    hdus: Sequence[Hdu], rows: int, names: Container[str]
) -> tuple[tuple[str, str], ...]:
    """The images that have another number of rows than a table, each with how many it has.

    Parameters
    ----------
    hdus : sequence of Hdu
        All parts of the file.
    rows : int
        Of the table.
    names : container of str
        Of the table's columns.
    """
    return tuple(
        (_image_name(hdu), f"the image has {counted(hdu.axes[0], 'row')}, the table {rows:,}")
        for hdu in _images(hdus, names)
        if hdu.axes[0] != rows
    )


def _images(hdus: Sequence[Hdu], names: Container[str]) -> Iterator[Hdu]:
    """The images that hold something and are not called like a column of the table."""
    for hdu in hdus:
        empty = math.prod(hdu.axes[1:]) == 0
        if hdu.axes and not empty and _image_name(hdu) not in names:
            yield hdu


def _image_name(hdu: Hdu) -> str:
    return hdu.name or (f"HDU{hdu.number}" if hdu.number else "PRIMARY")


def _image_layout(hdu: Hdu, name: str, unreadable: str) -> RowLayout:
    header, shape = hdu.header, hdu.axes[1:]
    # A compressed image has the BITPIX of its table, 8: nothing is read of it.
    format, code = _IMAGE_FORMATS[int(header["BITPIX"])]
    blank = header.get("BLANK")
    column = StoredColumn(
        field="image",
        format=format,
        shape=shape,
        null=blank if isinstance(blank, int) else None,
        scale=_exact(header.get("BSCALE"), 1),
        zero=_exact(header.get("BZERO"), 0),
        unit=str(header.get("BUNIT", "")).strip(),
        dtype=np.dtype(code),
        unreadable=unreadable,
    )
    return RowLayout(hdu, hdu.axes[0], np.dtype([("image", code, shape)]), {name: column})


def table_layout(hdu: Hdu, path: str) -> RowLayout:
    """The columns of a binary table.

    Raises
    ------
    SpecError
        If it is no such table, or its header cannot be understood.
    """
    where = f"HDU {hdu.number}"
    if hdu.kind == TABLES["TABLE"]:
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
        with without_warnings():
            layout = fits.BinTableHDU.fromstring(header.tostring().encode("ascii")).columns
            dtype = layout.dtype.newbyteorder(">")
            columns = {
                column.name: StoredColumn(
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
    except RAISED as error:
        problem = f"the FITS table's header cannot be understood: {error}"
        raise SpecError(path, problem) from error
    if dtype.itemsize != width:
        raise SpecError(path, f"the columns take {dtype.itemsize} bytes, a row has {width}")
    return RowLayout(hdu, hdu.rows, dtype, columns)


def _exact(number: Any, default: int) -> int | float:
    """A number of a header, as an integer where it is one."""
    if number is None or number == "":
        return default
    value = number if isinstance(number, int) else float(number)
    return int(value) if math.isfinite(value) and value == int(value) else value
