"""FITS: what columns can hold and where the table can be."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from galbatch.errors import DataError, SpecError
from galbatch.readers import Batch
from galbatch.readers.fits import FitsReader


def write(folder: Path, columns: list[fits.Column], name: str = "PHOT") -> str:
    path = folder / "catalogue.fits"
    image = fits.ImageHDU(np.zeros((50, 70), dtype=np.float32), name="SCI")
    table = fits.BinTableHDU.from_columns(columns, name=name)
    fits.HDUList([fits.PrimaryHDU(np.ones(5000)), image, table]).writeto(path)
    if "SCALED" in table.columns.names:  # astropy cannot write scaled integers
        number = table.columns.names.index("SCALED") + 1
        fits.setval(path, f"TSCAL{number}", value=0.5, ext=2)
        fits.setval(path, f"TZERO{number}", value=10, ext=2)
    return str(path)


def read(path: str, types: dict[str, pa.DataType], hdu: int | str | None = None) -> Batch:
    (batch,) = FitsReader(hdu).batches(path, types, 100)
    return batch


COLUMNS = [
    fits.Column("J", "J", null=-999, array=np.array([1, -999, 3], dtype=np.int32)),
    fits.Column("VECTOR", "2I", null=0, array=np.array([[1, 0], [2, 3], [0, 0]], dtype=np.int16)),
    fits.Column("U16", "I", bzero=2**15, array=np.array([0, 40_000, 65_535], dtype=np.uint16)),
    fits.Column("U32", "J", bzero=2**31, array=np.array([0, 3_000_000_000, 1], dtype=np.uint32)),
    fits.Column("U64", "K", bzero=2**63, array=np.array([0, 2**63 + 7, 1], dtype=np.uint64)),
    fits.Column("I8", "B", bzero=-128, array=np.array([-128, 0, 127], dtype=np.int8)),
    fits.Column("U8", "B", array=np.array([0, 200, 255], dtype=np.uint8)),
    fits.Column("SCALED", "I", array=np.array([0, 3, -2], dtype=np.int16)),
    fits.Column("FLAG", "L", array=np.array([True, False, True])),
    fits.Column("NAME", "8A", array=np.array(["a", "", "caf3"])),
    fits.Column("E", "E", unit="mag", array=np.array([1.5, np.nan, 99], dtype=np.float32)),
    fits.Column("GRID", "4D", dim="(2,2)", array=np.arange(12.0).reshape(3, 2, 2)),
    fits.Column("BITS", "3X", array=np.zeros((3, 3), dtype=bool)),
    fits.Column("C", "C", array=np.zeros(3, dtype=np.complex64)),
    fits.Column("VLA", "PE()", array=np.array([np.ones(2), np.ones(3), np.ones(1)], dtype=object)),
]


def test_every_kind_of_column(tmp_path: Path) -> None:
    path = write(tmp_path, COLUMNS)
    assert FitsReader().header(path).names == tuple(column.name for column in COLUMNS)
    pairs = pa.list_(pa.float64(), 4)
    number = dict.fromkeys(["J", "U16", "U32", "U64", "I8", "U8", "SCALED"], pa.float64())
    types = {**number, "FLAG": pa.int16(), "NAME": pa.string(), "E": pa.float32(),
             "GRID": pairs, "VECTOR": pa.list_(pa.int32(), 2)}  # fmt: skip
    table = read(path, types).table
    assert table["J"].to_pylist() == [1, None, 3]
    assert table["VECTOR"].to_pylist() == [[1, None], [2, 3], [None, None]]
    assert table["U16"].to_pylist() == [0, 40_000, 65_535]
    assert table["U32"].to_pylist() == [0, 3_000_000_000, 1]
    assert table["U64"].to_pylist() == [0, 2**63 + 7, 1]
    assert table["I8"].to_pylist() == [-128, 0, 127]
    assert table["U8"].to_pylist() == [0, 200, 255]
    assert table["SCALED"].to_pylist() == [10.0, 11.5, 9.0]
    assert table["FLAG"].to_pylist() == [1, 0, 1]
    assert table["NAME"].to_pylist() == ["a", "", "caf3"]
    assert str(table["E"].to_pylist()) == "[1.5, nan, 99.0]"
    assert table["GRID"].to_pylist() == np.arange(12.0).reshape(3, 4).tolist()
    # Numbers keep the type that the file has.
    assert table.schema.field("J").type == pa.int32()
    assert table.schema.field("U64").type == pa.uint64()


@pytest.mark.parametrize(
    ("name", "problem"),
    [("BITS", "single bits"), ("C", "complex"), ("VLA", "different lengths")],
)
def test_columns_that_cannot_be_read(tmp_path: Path, name: str, problem: str) -> None:
    path = write(tmp_path, COLUMNS)
    with pytest.raises(SpecError, match=f"column '{name}': .*{problem}"):
        read(path, {name: pa.float32()})


def test_columns_that_nobody_asked_for_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, COLUMNS)
    everything = dict.fromkeys(FitsReader().header(path).names, pa.null())
    table = read(path, everything).table
    assert set(everything) - set(table.column_names) == {"BITS", "C", "VLA"}
    assert table.schema.field("FLAG").type == pa.bool_()


@pytest.mark.parametrize("hdu", [2, "PHOT", "phot", None])
@pytest.mark.parametrize("zipped", [False, True])
def test_where_the_table_is(tmp_path: Path, hdu: int | str | None, zipped: bool) -> None:
    path = write(tmp_path, COLUMNS)
    if zipped:
        content = gzip.compress(Path(path).read_bytes())
        path += ".gz"
        Path(path).write_bytes(content)
    assert read(path, {"E": pa.float32()}, hdu).rows.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("hdu", "message"),
    [
        (1, "HDU 1 is no binary table but IMAGE"),
        (0, "HDU 0 is no binary table but PRIMARY"),
        (7, "there is no HDU '7'"),
        ("PHOTO", r"there is no HDU 'PHOTO' \(did you mean 'PHOT'\?\)"),
    ],
)
def test_where_it_is_not(tmp_path: Path, hdu: int | str, message: str) -> None:
    path = write(tmp_path, COLUMNS)
    with pytest.raises(SpecError, match=message):
        FitsReader(hdu).header(path)


def test_only_images(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((40, 40)))]).writeto(path)
    with pytest.raises(SpecError, match="no binary table in its 2 HDUs"):
        FitsReader().header(str(path))


def test_a_header_that_is_cut_short(tmp_path: Path) -> None:
    path = Path(write(tmp_path, COLUMNS))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"TFORM1")])
    with pytest.raises(DataError, match="a FITS header ends early"):
        FitsReader().header(str(path))


def test_padding_behind_the_last_hdu(tmp_path: Path) -> None:
    path = Path(write(tmp_path, COLUMNS))
    path.write_bytes(path.read_bytes() + bytes(5760))
    with pytest.raises(SpecError, match="there is no HDU '7'"):
        FitsReader(7).header(str(path))
