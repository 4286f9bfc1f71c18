"""CSV: what headers, values and mistakes look like in the wild."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from galbatch.errors import DataError, SpecError
from galbatch.readers import Batch
from galbatch.readers import csv as reader_module
from galbatch.readers.csv import CsvReader

FLOAT, WHOLE, LONG, TEXT = pa.float32(), pa.int16(), pa.int64(), pa.string()


def write(folder: Path, text: str | bytes, name: str = "alh.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read(path: str, types: dict[str, pa.DataType], rows: int = 1000, delimiter: str = ",") -> Batch:
    (batch,) = CsvReader(delimiter).batches(path, types, rows)
    return batch


@pytest.mark.parametrize(
    "head",
    [
        b"ID,RA\n",
        b"\xef\xbb\xbfID,RA\r\n",
        b' "ID" , RA \n',
        b"#SELECT ID,RA FROM minijpas.MagABDualObj\nID,RA\n",
        b"# made by hand\n\n# ID,RA\n",
        b"\nID,RA\n",
    ],
)
def test_headers(tmp_path: Path, head: bytes) -> None:
    path = write(tmp_path, head + b"1,150.5\n2,151.5\n")
    assert CsvReader().header(path).names == ("ID", "RA")
    batch = read(path, {"ID": LONG, "RA": FLOAT})
    assert batch.table.to_pydict() == {"ID": [1, 2], "RA": [150.5, 151.5]}
    assert batch.rows.tolist() == [1, 2]


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, ",ID,RA,\n0,1,150.5,\n")  # pandas' index, and a comma at the end
    assert CsvReader().header(path).names == ("ID", "RA")
    assert read(path, {"RA": FLOAT}).table["RA"].to_pylist() == [150.5]


@pytest.mark.parametrize(
    ("text", "delimiter", "message"),
    [
        ("ID;RA\n1;2\n", ",", r"separated by ';' \(say source.format: .*delimiter: \";\"\}\)"),
        ("ID\tRA\n1\t2\n", ",", r"separated by '\\t'"),
        ("ID|RA\n1|2\n", ",", r"separated by '\|'"),
        ("ID,RA\n1,2\n", ";", r"separated by ','"),
        ("ID   RA\n1   2\n", ",", "columns separated by spaces"),
        ("81473306375,150.5,2.1\n", ",", "put a line with the names before it"),
        ("\n\n", ",", "no header line"),
        ("# nothing\n", ",", "no header line"),
        ("", ",", r"is empty \(0 bytes\)"),
        ("ID,\0\n", ",", "binary data"),
        ("ID,RA\n1,2\n".encode("utf-16"), ",", "UTF-16 text .*iconv"),
        (b"\xfe\xff" + "ID,RA\n".encode("utf-16-be"), ",", "UTF-16 text"),
        ("ID,RA\n1,2\n".encode("utf-16-le"), ",", "binary data"),
        ("x" * 200_000, ",", "has no column 'ID'"),
        ("<?xml version='1.0'?><VOTABLE/>", ",", "VOTable"),
    ],
)
def test_no_csv_with_a_header(
    tmp_path: Path, text: str | bytes, delimiter: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match=message):
        list(CsvReader(delimiter).batches(path, {"ID": LONG}, 10))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_ends_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, last: bool, rows: int
) -> None:
    # A block ends between CR and LF, sooner or later.
    monkeypatch.setattr(reader_module, "_BLOCK", 61)
    monkeypatch.setattr(reader_module, "_PIECE", 7)
    lines = ["# made by hand", "", "ID,RA", *(f"{row},{row / 4}" for row in range(rows))]
    path = write(tmp_path, end.join(lines) + end * last)
    assert CsvReader().header(path).names == ("ID", "RA")
    batches = CsvReader().batches(path, {"ID": LONG, "RA": FLOAT}, 50)
    ids = [number for batch in batches for number in batch.table["ID"].to_pylist()]
    assert ids == list(range(rows))
    assert batches.records == rows


def test_a_column_as_it_comes_is_text(tmp_path: Path) -> None:
    path = write(tmp_path, "ID,note\n1,2.50\n2,fine\nx,y\n")
    batch = read(path, {"ID": LONG, "note": pa.null()})
    assert batch.table["note"].to_pylist() == ["2.50", "fine"]
    assert [row.row for row in batch.rejected] == [3]


def test_another_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "ID;RA\n1;2.5\n")
    assert read(path, {"RA": FLOAT}, delimiter=";").table["RA"].to_pylist() == [2.5]


def test_gz_that_is_not_gzipped(tmp_path: Path) -> None:
    path = write(tmp_path, "ID,RA\n1,2.5\n", "alh.csv.gz")
    with pytest.raises(SpecError, match=r"ends in \.gz but is not gzipped"):
        CsvReader().header(path)


def test_gzipped_without_the_ending(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"ID,RA\n1,2.5\n"))
    assert read(path, {"RA": FLOAT}).table["RA"].to_pylist() == [2.5]


def test_gzip_in_several_members(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"ID,RA\n1,2.5\n") + gzip.compress(b"2,3.5\n"), "a.csv.gz")
    assert read(path, {"RA": FLOAT}).table["RA"].to_pylist() == [2.5, 3.5]


def test_missing_values(tmp_path: Path) -> None:
    path = write(tmp_path, "F,I\n,\n nan , \nNULL,--\n-inf,3\n\n+1.5, 4\n1e-3,5.0\n")
    batch = read(path, {"F": FLOAT, "I": WHOLE})
    assert not batch.rejected
    assert str(batch.table["F"].to_pylist()) == str(
        [None, float("nan"), None, -np.inf, 1.5, float(np.float32(1e-3))]
    )
    assert batch.table["I"].to_pylist() == [None, None, None, 3, 4, 5]


def test_bad_rows_are_rejected_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "ID,F365W,Satur_Flag,name\n"
        "1,23.5,0,a\n"
        "2,abc,0,b\n"
        "3,23.5,0\n"
        "4,,1,\n"
        "\n"
        "5,23.5,0,e,f\n"
        "x,y,z,g\n"
        "7,99.0,1.5,h\n"
        "8,99.0,70000,i\n"
        "9,24.0,1,j\n",
    )
    types = {"ID": LONG, "F365W": FLOAT, "Satur_Flag": WHOLE, "name": TEXT}
    batch = read(path, types)
    assert batch.rows.tolist() == [1, 4, 9]
    assert batch.table["ID"].to_pylist() == [1, 4, 9]
    assert batch.table["F365W"].to_pylist() == [23.5, None, 24.0]
    assert [batch.table.schema.field(name).type for name in types] == list(types.values())
    assert [(row.row, row.reason) for row in batch.rejected] == [
        (2, "column 'F365W': expected a number, got 'abc'"),
        (3, "expected 4 values, got 3"),
        (5, "expected 4 values, got 5"),
        (6, "column 'ID': expected a whole number (int64), got 'x'"),
        (7, "column 'Satur_Flag': expected a whole number (int16), got '1.5'"),
        (8, "column 'Satur_Flag': expected a whole number (int16), got '70000'"),
    ]
    assert {row.file for row in batch.rejected} == {path}


def test_bad_rows_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_BLOCK", 256)
    monkeypatch.setattr(reader_module, "_PIECE", 16)
    values = ["x" if row % 4 else str(row) for row in range(2000)]
    path = write(tmp_path, "ID\n" + "\n".join(values) + "\n")
    batches = list(CsvReader().batches(path, {"ID": LONG}, 50))
    assert max(len(batch.rejected) for batch in batches) < 50 + 128
    assert max(len(batch.rows) for batch in batches) <= 50
    rejected = [row.row for batch in batches for row in batch.rejected]
    assert rejected == [row + 1 for row in range(2000) if row % 4]
    rows = np.concatenate([batch.rows for batch in batches])
    assert rows.tolist() == list(range(1, 2001, 4))


def test_a_column_that_is_not_read_may_hold_anything(tmp_path: Path) -> None:
    path = write(tmp_path, b"ID,note\n1,\xff\xfe\n2,fine\n")
    assert read(path, {"ID": LONG}).table["ID"].to_pylist() == [1, 2]


def test_a_row_of_rubbish(tmp_path: Path) -> None:
    path = write(tmp_path, b'ID,name\n1,a\n\xff\xfe\n"\xff\n3,c\n4,"d\n')
    batch = read(path, {"ID": LONG, "name": TEXT})
    assert batch.table.to_pydict() == {"ID": [1, 3], "name": ["a", "c"]}
    assert [row.row for row in batch.rejected] == [2, 3, 5]


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, "ID,name\n1,Benítez\n".encode("latin-1"))
    assert read(path, {"name": TEXT}).table["name"].to_pylist() == ["Benítez"]


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63) + 1, 4_611_686_018_427_387_905, 0])
def test_long_ids_survive_a_bad_neighbour(tmp_path: Path, number: int) -> None:
    path = write(tmp_path, f"ID\n{number}\nabc\n{'9' * 19}\n1e3\n12345678901234567890123\n")
    batch = read(path, {"ID": LONG})
    assert batch.table["ID"].to_pylist() == [number, 1000]
    assert [row.row for row in batch.rejected] == [2, 3, 5]


HINT = "give the column's dtype in the survey"


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("9007199254740991", pa.float64(), 2.0**53 - 1),
        ("9007199254740992", pa.float64(), 2.0**53),
        ("-9223372036854775808", pa.float64(), -(2.0**63)),
        ("1e30", pa.float64(), 1e30),
        ("1237648720000000001.0", pa.float64(), 1237648720000000001.0),
        ("-inf", pa.float32(), -np.inf),
        ("3e38", pa.float32(), float(np.float32(3e38))),
        ("9223372036854775807", LONG, 2**63 - 1),
        ("-9223372036854775808", LONG, -(2**63)),
        ("00000000000000000000012", LONG, 12),
        ("9007199254740991.0", LONG, 2**53 - 1),
        ("18446744073709551615", pa.uint64(), 2**64 - 1),
        ("0018446744073709551615", pa.uint64(), 2**64 - 1),
        ("-0", pa.uint64(), 0),
        ("5.0", pa.uint64(), 5),
        ("007", TEXT, "007"),
        ("9007199254740993", TEXT, "9007199254740993"),
    ],
)
def test_numbers_are_exact(
    tmp_path: Path, careful: bool, text: str, wanted: pa.DataType, value: object
) -> None:
    spoilt = "x,1\n" if careful else ""
    path = write(tmp_path, f"V,F\n{text},0\n{spoilt}")
    batch = read(path, {"V": wanted, "F": FLOAT})
    assert batch.table["V"].to_pylist()[0] == value
    assert batch.table.schema.field("V").type == wanted


@pytest.mark.parametrize(
    ("text", "wanted", "reason"),
    [
        ("1237648720000000001", pa.float64(),
         f"1237648720000000001 is a whole number that float64 cannot hold exactly: {HINT} "
         "(int64, string)"),
        ("+9007199254740993", FLOAT, f"float32 cannot hold exactly: {HINT} (int64, string)"),
        ("12376487200000000017", pa.float64(), f"cannot hold exactly: {HINT} (uint64, string)"),
        ("1" * 60, pa.float64(), f"cannot hold exactly: {HINT} (string)"),
        ("1" * 300, pa.float64(), f"cannot hold exactly: {HINT} (string)"),
        ("1e400", pa.float64(), "1e400 is too large for float64"),
        ("-1e39", FLOAT, "-1e39 is too large for float32"),
        ("true", pa.float64(), "expected a number, got 'true"),
        ("9223372036854775808", LONG, f"int64 cannot hold: {HINT} (uint64, string)"),
        ("-9223372036854775809", LONG, f"int64 cannot hold: {HINT} (string)"),
        ("9007199254740992.0", LONG, "expected a whole number (int64), got"),
        ("0x8000000000000001", LONG, "expected a whole number (int64), got"),
        ("0X1F", pa.uint64(), "expected a whole number (uint64), got"),
        ("\uff11", LONG, "expected a whole number (int64), got"),
        ("-1", pa.uint64(), f"uint64 cannot hold: {HINT} (int64, string)"),
        ("18446744073709551616", pa.uint64(), f"uint64 cannot hold: {HINT} (string)"),
        ("true", LONG, "expected a whole number (int64), got 'true"),
    ],
)  # fmt: skip
def test_numbers_that_would_be_others(
    tmp_path: Path, text: str, wanted: pa.DataType, reason: str
) -> None:
    path = write(tmp_path, f"V,F\n1,0\n{text},0\n{text} ,1\n3,0\n,0\n")
    batch = read(path, {"V": wanted, "F": FLOAT})
    assert batch.table["V"].to_pylist() == [1, 3, None]
    assert [row.row for row in batch.rejected] == [2, 3]
    for row in batch.rejected:
        assert row.reason.startswith("column 'V': ")
        assert reason in row.reason


def test_letters_x_in_a_text_beside_integers(tmp_path: Path) -> None:
    path = write(tmp_path, "ID,name\n1,0x1F\n2,10X\n")
    batch = read(path, {"ID": LONG, "name": TEXT})
    assert batch.table.to_pydict() == {"ID": [1, 2], "name": ["0x1F", "10X"]}
    assert not batch.rejected


def test_vectors(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'ID,MAG\n1,"1 2.5  3"\n2,\n3,"[4.0, 5.0, nan]"\n4,""\n5,"1 2"\n6,"1 x 3"\n7,(7;8;9)\n',
    )
    batch = read(path, {"ID": LONG, "MAG": pa.list_(FLOAT, 3)})
    assert batch.rows.tolist() == [1, 2, 3, 4, 7]
    assert str(batch.table["MAG"].to_pylist()) == str(
        [[1.0, 2.5, 3.0], None, [4.0, 5.0, float("nan")], None, [7.0, 8.0, 9.0]]
    )
    assert [(row.row, row.reason) for row in batch.rejected] == [
        (5, "column 'MAG': expected 3 numbers, got '1 2'"),
        (6, "column 'MAG': expected 3 numbers, got '1 x 3'"),
    ]


def test_vectors_of_integers_that_are_all_empty(tmp_path: Path) -> None:
    path = write(tmp_path, "ID,FLAGS\n1,\n2,\n")
    table = read(path, {"FLAGS": pa.list_(pa.int32(), 60)}).table
    assert table["FLAGS"].to_pylist() == [None, None]
    assert table.schema.field("FLAGS").type == pa.list_(pa.int32(), 60)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_BLOCK", 256)
    monkeypatch.setattr(reader_module, "_PIECE", 16)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("quote", ['"two\nlines, one value"', '5" pipe', '"say ""hi"""', "plain"])
def test_row_numbers_across_blocks(tmp_path: Path, quote: str) -> None:
    lines = [
        f"{row},{'bad' if row % 13 == 0 else row / 4},{quote if row % 5 == 0 else 'n'}"
        for row in range(1, 401)
    ]
    path = write(tmp_path, "ID,F,name\n" + "\n".join(lines))
    batches = list(CsvReader().batches(path, {"ID": LONG, "F": FLOAT, "name": TEXT}, 7))
    assert len(batches) > 20
    assert all(len(batch.rows) <= 7 for batch in batches)
    ids = [row for batch in batches for row in batch.table["ID"].to_pylist()]
    assert [row for batch in batches for row in batch.rows.tolist()] == ids
    assert ids == [row for row in range(1, 401) if row % 13]
    rejected = [row.row for batch in batches for row in batch.rejected]
    assert rejected == [row for row in range(1, 401) if row % 13 == 0]
    names = {row: name for batch in batches for row, name in
             zip(batch.rows.tolist(), batch.table["name"].to_pylist(), strict=True)}  # fmt: skip
    assert names[5] == {'"two\nlines, one value"': "two\nlines, one value",
                        '"say ""hi"""': 'say "hi"'}.get(quote, quote)  # fmt: skip


@pytest.mark.usefixtures("small_blocks")
def test_a_quote_that_never_closes_costs_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_LONGEST_ROW", 512)
    lines = [f'{row},{row},"n"' for row in range(1, 201)]
    lines[49] = '50,"50,n'
    path = write(tmp_path, "ID,F,name\n" + "\n".join(lines) + "\n")
    batches = list(CsvReader().batches(path, {"ID": LONG, "F": FLOAT, "name": TEXT}, 50))
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert rows == [row for batch in batches for row in batch.table["ID"].to_pylist()]
    assert rows == [row for row in range(1, 201) if row != 50]
    assert {name for batch in batches for name in batch.table["name"].to_pylist()} == {"n"}
    assert [row.row for batch in batches for row in batch.rejected] == [50]


@pytest.mark.usefixtures("small_blocks")
def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_LONGEST_ROW", 512)
    path = write(tmp_path, "ID,F\n1,2\n" + "x" * 4096)
    with pytest.raises(DataError, match="after row 1 there is a line without end"):
        list(CsvReader().batches(path, {"ID": LONG}, 50))


@pytest.mark.usefixtures("small_blocks")
def test_integers_written_as_decimals(tmp_path: Path) -> None:
    lines = [f"{row},{row % 2}.0" for row in range(1, 301)]
    lines[199] = "200,0.5"
    path = write(tmp_path, "ID,flag\n" + "\n".join(lines))
    batches = list(CsvReader().batches(path, {"ID": LONG, "flag": WHOLE}, 20))
    flags = pa.concat_tables([batch.table for batch in batches])["flag"]
    assert flags.type == WHOLE
    assert flags.to_pylist() == [row % 2 for row in range(1, 301) if row != 200]
    (rejected,) = [row for batch in batches for row in batch.rejected]
    assert rejected.row == 200


@settings(max_examples=50, deadline=None)
@given(
    values=arrays(np.float64, st.integers(1, 30), elements=st.floats(allow_nan=True)),
    spoil=st.integers(0, 29),
)
def test_numbers_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, spoil: int
) -> None:
    lines = [f"{value!r},{row}" for row, value in enumerate(values.tolist())]
    text = "F,I\n" + "\n".join(lines) + "\n"
    path = write(tmp_path_factory.mktemp("csv"), text)
    batch = read(path, {"F": pa.float64(), "I": LONG})
    np.testing.assert_array_equal(batch.table["F"].to_numpy(), values)
    # The careful way reads the same numbers.
    lines.insert(min(spoil, len(lines)), "spoilt,0")
    path = write(tmp_path_factory.mktemp("csv"), "F,I\n" + "\n".join(lines) + "\n")
    careful = read(path, {"F": pa.float64(), "I": LONG})
    np.testing.assert_array_equal(careful.table["F"].to_numpy(), values)
    assert careful.table["I"].to_pylist() == batch.table["I"].to_pylist()
    assert [row.row for row in careful.rejected] == [min(spoil, len(values)) + 1]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8),
        min_size=1,
        max_size=20,
    )
)
def test_no_text_brings_it_down(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    path = write(tmp_path_factory.mktemp("csv"), "ID,F\n" + "\n".join(rows))
    seen: list[int] = []
    batches = CsvReader().batches(path, {"ID": LONG, "F": FLOAT}, 5)
    for batch in batches:
        seen += batch.rows.tolist() + [row.row for row in batch.rejected]
    assert sorted(seen) == list(range(1, batches.records + 1))


@pytest.mark.parametrize("header", ['id,"ra\ndec",x', 'id,"ra'])
def test_a_header_with_an_open_quote_is_refused(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, f"{header}\n1,2,3\n")
    with pytest.raises(SpecError, match="a quote in the header line does not close"):
        CsvReader().header(path)
