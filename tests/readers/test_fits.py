"""FITS: what columns can hold and where the table can be."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from galbatch.columns import to_numpy
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
    pairs = pa.fixed_shape_tensor(pa.float64(), [2, 2])
    whole = dict.fromkeys(["J", "U16", "U32", "U64", "I8", "U8"], pa.int64())
    types = {**whole, "SCALED": pa.float32(), "FLAG": pa.int16(), "NAME": pa.string(),
             "E": pa.float32(), "GRID": pairs, "VECTOR": pa.list_(pa.int32(), 2)}  # fmt: skip
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
    np.testing.assert_array_equal(to_numpy(table["GRID"]), np.arange(12.0).reshape(3, 2, 2))
    # Numbers keep the width that the file has.
    assert table.schema.field("J").type == pa.int32()
    assert table.schema.field("U64").type == pa.uint64()


def test_the_header_says_what_comes(tmp_path: Path) -> None:
    path = write(tmp_path, COLUMNS)
    header = FitsReader().header(path)
    found = read(path, dict.fromkeys(header.names, pa.null())).table.schema
    said = {column.name: column.type for column in header.columns}
    assert said.pop("GRID") == pa.fixed_shape_tensor(pa.float64(), [2, 2])
    assert found.field("GRID").type == pa.list_(pa.float64(), 4)
    assert {name: type_ for name, type_ in said.items() if type_} == {
        field.name: field.type for field in found if field.name != "GRID"
    }
    assert [name for name, type_ in said.items() if type_ is None] == ["BITS", "C", "VLA"]
    assert {column.name: column.unit for column in header.columns if column.unit} == {"E": "mag"}


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


def scaled(folder: Path, format_: str, values: list[int], **words: object) -> str:
    """A table whose header gets words that astropy would use on the values."""
    path = folder / "scaled.fits"
    column = fits.Column("X", format_, array=np.array(values, {"B": "u1", "J": "i4", "K": "i8"}
                                                      [format_]))  # fmt: skip
    fits.BinTableHDU.from_columns([column], name="PHOT").writeto(path, overwrite=True)
    for word, value in words.items():
        fits.setval(path, f"{word}1", value=value, ext=1)
    return str(path)


BIG = 2**53


@pytest.mark.parametrize(
    ("format_", "values", "words", "found"),
    [
        ("J", [0, 7, -3], {"TZERO": 10}, [10, 17, 7]),
        ("J", [0, 7, -3], {"TSCAL": 100.0, "TZERO": 1.0}, [1, 701, -299]),
        ("B", [0, 255], {"TSCAL": 2}, [0, 510]),
        ("K", [BIG + 1, 5], {"TZERO": 2}, [BIG + 3, 7]),
        ("K", [1, 2], {"TZERO": BIG + 1}, [BIG + 2, BIG + 3]),
        ("K", [-(2**63), 3], {"TNULL": -(2**63), "TZERO": -5}, [None, -2]),
        ("K", [BIG + 1, 2], {"TNULL": 2}, [BIG + 1, None]),
        ("J", [1, 3], {"TSCAL": 0.5}, [0.5, 1.5]),
    ],
)
def test_scaled_integers_are_exact(
    tmp_path: Path, format_: str, values: list[int], words: dict[str, object], found: list[float]
) -> None:
    batch = read(scaled(tmp_path, format_, values, **words), {"X": pa.null()})
    assert batch.table["X"].to_pylist() == found
    assert not batch.rejected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, BIG + 1, 3], {"TSCAL": 0.5}),
        ([1, 2**63 - 1, 3], {"TZERO": 2}),
        ([1, -(2**63), 3], {"TZERO": -2}),
    ],
)
def test_scaled_integers_that_cannot_be_exact(
    tmp_path: Path, values: list[int], words: dict[str, object]
) -> None:
    reader = FitsReader()
    path = scaled(tmp_path, "K", values, **words)
    batches = reader.batches(path, {"X": pa.null()}, 10)
    (batch,) = batches
    assert batch.rows.tolist() == [1, 3]
    (rejected,) = batch.rejected
    assert rejected.row == 2
    assert rejected.reason == "column 'X': TSCAL and TZERO make no exact number of its integer"
    assert batches.records == 3


def test_text_ends_at_a_zero_byte(tmp_path: Path) -> None:
    path = Path(write(tmp_path, [fits.Column("T", "8A", array=np.array(["abcdefgh", "b"]))]))
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"ab\0defgh"))
    assert read(str(path), {"T": pa.string()}).table["T"].to_pylist() == ["ab", "b"]


def small(*values: float, name: str = "", **words: str) -> fits.BinTableHDU:
    columns = [
        fits.Column("id", "K", array=np.arange(len(values))),
        fits.Column("x", words.get("format", "E"), unit=words.get("unit"), array=np.array(values)),
    ]
    return fits.BinTableHDU.from_columns(columns, name=name)


def several(folder: Path, *tables: fits.BinTableHDU) -> str:
    path = folder / "several.fits"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path, overwrite=True)
    return str(path)


def x_of(path: str, hdu: int | str | None) -> list[float]:
    batches = FitsReader(hdu).batches(path, {"x": pa.float32()}, 2)
    found = list(batches)
    rows = [row for batch in found for row in batch.rows.tolist()]
    assert rows == list(range(1, batches.records + 1))
    assert all(len(batch.rows) <= 2 for batch in found)
    return [x for batch in found for x in batch.table["x"].to_pylist()]


@pytest.mark.parametrize("zipped", [False, True])
def test_several_tables(tmp_path: Path, zipped: bool) -> None:
    north, south = small(1, 2, 3, name="NORTH"), small(4, 5, name="SOUTH")
    path = several(tmp_path, small(name="EMPTY"), north, south, fits.ImageHDU(np.zeros((3, 3))))
    if zipped:
        content = gzip.compress(Path(path).read_bytes())
        path += ".gz"
        Path(path).write_bytes(content)
    message = (
        r"holds several tables: NORTH \(HDU 2, 3 rows\), SOUTH \(HDU 3, 2 rows\) \(name one, "
        r"source\.format: \{kind: fits, hdu: NORTH\}, or hdu: all to read them"
    )
    for ask in (FitsReader().header, lambda path: x_of(path, None)):
        with pytest.raises(SpecError, match=message):
            ask(path)
    assert x_of(path, "north") == x_of(path, 2) == [1, 2, 3]
    assert x_of(path, "SOUTH") == [4, 5]
    assert x_of(path, 1) == []
    assert x_of(path, "all") == [1, 2, 3, 4, 5]
    assert "NORTH (HDU 2, 3 rows), SOUTH" in FitsReader("all").header(path).notes[0]


def test_a_table_without_rows_is_no_choice(tmp_path: Path) -> None:
    path = several(tmp_path, small(name="A"), small(7, name="B"))
    assert x_of(path, None) == [7]
    assert x_of(several(tmp_path, small(name="A")), None) == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (small(4, format="D"), "x is float in A .HDU 1, 1 row., double in HDU 2"),
        (small(4, unit="mJy"), "x has uJy in A .*, mJy in HDU 2"),
        (
            fits.BinTableHDU.from_columns([fits.Column("y", "E", array=np.zeros(2))]),
            "only A .* has id, x; only HDU 2 .2 rows. has y",
        ),
    ],
)
def test_all_tables_have_to_be_alike(
    tmp_path: Path, other: fits.BinTableHDU, difference: str
) -> None:
    path = several(tmp_path, small(1, name="A", unit="uJy"), other)
    for ask in (FitsReader("all").header, lambda path: x_of(path, "all")):
        with pytest.raises(SpecError, match=f"'hdu: all' needs: {difference}"):
            ask(path)


def test_a_name_that_two_tables_have(tmp_path: Path) -> None:
    path = several(tmp_path, small(1, name="A"), small(2, name="A"))
    with pytest.raises(
        SpecError, match=r"several tables are called 'a': .* \{kind: fits, hdu: 1\}"
    ):
        FitsReader("a").header(path)
    with pytest.raises(SpecError, match=r"name one, source.format: \{kind: fits, hdu: 1\}"):
        FitsReader().header(path)


def test_tables_of_another_kind(tmp_path: Path) -> None:
    ascii_ = fits.TableHDU.from_columns([fits.Column("x", "E10.3", array=np.array([1.0, 2.0]))])
    path = several(tmp_path, ascii_)
    with pytest.raises(SpecError, match=r"HDU 1 is an ASCII table, .* stilts tcopy"):
        FitsReader().header(path)
    with pytest.raises(SpecError, match=r"HDU 1 \(2 rows\), B \(HDU 2, 1 row\)"):
        FitsReader().header(several(tmp_path, ascii_, small(1, name="B")))


def test_columns_without_a_name_or_with_the_same(tmp_path: Path) -> None:
    path = several(tmp_path, small(1))
    header = Path(path).read_bytes()
    Path(path).write_bytes(header.replace(b"TTYPE2  = 'x ", b"TTYPE2  = 'id"))
    with pytest.raises(SpecError, match="HDU 1: two columns are called 'id'"):
        FitsReader().header(path)
    Path(path).write_bytes(header.replace(b"TTYPE2  =", b"OTHER   ="))
    assert FitsReader().header(path).names == ("id", "col2")


def test_rows_that_the_header_does_not_count(tmp_path: Path) -> None:
    """A writer that was killed before it wrote NAXIS2, at the end of the file and within it."""
    for rows, tables in ((20, 1), (2000, 1), (2000, 2)):
        path = several(tmp_path, *[small(*range(rows))] * tables)
        fits.setval(path, "NAXIS2", value=rows // 2, ext=1)
        with pytest.raises(DataError, match="behind HDU 1 stands what belongs to no table"):
            FitsReader().header(path)
        with pytest.raises(DataError, match="does its NAXIS2 count all rows"):
            x_of(path, None)
        assert x_of(path, 1) == list(range(rows // 2))


def test_fewer_rows_than_the_header_counts(tmp_path: Path) -> None:
    path = several(tmp_path, small(*range(1000)))
    fits.setval(path, "NAXIS2", value=3000, ext=1)
    with pytest.raises(DataError, match="ends early, after row 1,200 of 3,000"):
        FitsReader().header(path)
    # The table that is not there could have been the one that was meant.
    with pytest.raises(DataError, match="ends early"):
        FitsReader("NORTH").header(path)


def test_variable_lengths_and_a_heap(tmp_path: Path) -> None:
    arrays = np.array([np.ones(400), np.ones(3)], dtype=object)
    heap = fits.BinTableHDU.from_columns(
        [
            fits.Column("v", "PE()", array=arrays),
            fits.Column("x", "E", array=np.array([1.0, 2.0])),
        ]
    )
    path = several(tmp_path, heap, small(name="LAST"))
    assert x_of(path, None) == [1, 2]
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: content.index(b"XTENSION", 6000) - 2880])
    with pytest.raises(DataError, match="ends early"):
        FitsReader().header(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NAXIS2  =                    3", b"NAXIS2  =                 many"),
        (b"NAXIS2  =                    3", b"NAXIS2  =                   -3"),
        (b"TFIELDS =                    2", b"TFIELDS =                    9"),
        (b"NAXIS1  =                   12", b"NAXIS1  =         999999999999"),
        (b"TFORM2  = 'E       '", b"TFORM2  = '9999999E'"),
        (b"TFORM2  = 'E       '", b"TFORM2  = '?       '"),
        (b"BITPIX  =                    8 / array", b"BITPIX  =              'eight'/ array"),
    ],
)
def test_headers_that_lie(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = Path(several(tmp_path, small(1, 2, 3)))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    for ask in (FitsReader().header, lambda path: x_of(path, None)):
        with pytest.raises((SpecError, DataError)) as caught:
            ask(str(path))
        assert "\n" not in str(caught.value)
