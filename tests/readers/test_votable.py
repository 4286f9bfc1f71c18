"""VOTable: what columns can hold, how sloppy a file may be, and where the table can be."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path

import pyarrow as pa
import pytest
from astropy.io.votable import parse

from galbatch.errors import DataError, SpecError
from galbatch.readers import Batch, open_reader
from galbatch.readers.votable import VotableReader
from galbatch.spec.job import VotableFormat

TRIPLE = pa.list_(pa.float32(), 3)
TYPES = {
    "ID": pa.int64(),
    "S": pa.int16(),
    "F": pa.float32(),
    "D": pa.float64(),
    "B": pa.bool_(),
    "T": pa.string(),
    "U": pa.string(),
    "V": TRIPLE,
    "W": pa.list_(pa.float64(), 3),
    "N": pa.list_(pa.int32(), 2),
}
FIELDS = """
<FIELD name="ID" datatype="long"><VALUES null="-1"/></FIELD>
<FIELD name="S" datatype="short"/>
<FIELD name="F" datatype="float" unit="mag"/>
<FIELD name="D" datatype="double"><VALUES null="-99"/></FIELD>
<FIELD name="B" datatype="boolean"/>
<FIELD name="T" datatype="char" arraysize="4"/>
<FIELD name="U" datatype="unicodeChar" arraysize="*"/>
<FIELD name="V" datatype="float" arraysize="3"/>
<FIELD name="W" datatype="double" arraysize="*"/>
<FIELD name="N" datatype="int" arraysize="2"><VALUES null="0"/></FIELD>
<FIELD name="C" datatype="doubleComplex"/>
"""
ROWS = [
    ["1", "7", "1.5", "2.5", "T", "abcd", "é", "1 2 3", "4 5 6", "1 0", "1 2"],
    ["-1", "", "", "-99", "?", "", "", "", "", "", ""],
    ["3", "-7", "NaN", "1e3", "false", "a", "bb", "1 NaN 3", "4 5 6", "0 2", "1 2"],
]
FOUND = {
    "ID": [1, None, 3],
    "S": [7, None, -7],
    "F": [1.5, None, None],
    "D": [2.5, None, 1000.0],
    "B": [True, None, False],
    "T": ["abcd", None, "a"],
    "U": ["é", None, "bb"],
    "V": [[1, 2, 3], [None, None, None], [1, None, 3]],
    "W": [[4, 5, 6], None, [4, 5, 6]],
    "N": [[1, None], [None, None], [None, 2]],
}


def table(fields: str, rows: list[list[str]], attributes: str = "") -> str:
    cells = "".join(
        "<TR>" + "".join(f"<TD>{cell}</TD>" for cell in row) + "</TR>\n" for row in rows
    )
    data = f"<DATA><TABLEDATA>{cells}</TABLEDATA></DATA>"
    return f"<TABLE {attributes}>{fields}{data}</TABLE>"


def document(*tables: str, version: str = "1.4", before: str = "", after: str = "") -> str:
    space = f"http://www.ivoa.net/xml/VOTable/v{version}"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="{version}" xmlns="{space}">'
        f'<RESOURCE type="results">{before}{"".join(tables)}{after}</RESOURCE></VOTABLE>\n'
    )


def write(folder: Path, text: str, name: str = "catalogue.vot") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(path: str, types: dict[str, pa.DataType], which: int | str | None = None) -> Batch:
    (batch,) = VotableReader(which).batches(path, types, 100)
    return batch


@pytest.mark.parametrize("serialization", ["tabledata", "binary", "binary2"])
def test_what_columns_hold(tmp_path: Path, serialization: str) -> None:
    path = write(tmp_path, document(table(FIELDS, ROWS)))
    if serialization != "tabledata":
        # astropy cannot write null as an integer that has no null value.
        text = document(table(FIELDS, [*ROWS[:1], ["-1", "0", *ROWS[1][2:]], ROWS[2]]))
        whole = parse(write(tmp_path, text))
        whole.to_xml(path, tabledata_format=serialization)
    batch = read(path, TYPES)
    assert batch.rejected == ()
    found = batch.table.to_pydict()
    if serialization != "tabledata":
        found["S"][1] = None
    assert found == FOUND
    assert dict(zip(batch.table.schema.names, batch.table.schema.types, strict=True)) == TYPES


def test_types_are_the_files_own(tmp_path: Path) -> None:
    path = write(tmp_path, document(table(FIELDS, ROWS)))
    assert VotableReader().header(path).names == (*TYPES, "C")
    with pytest.raises(SpecError, match="column 'C': its numbers are complex"):
        read(path, {"C": pa.float64()})
    batch = read(path, dict.fromkeys([*TYPES, "C"], pa.null()))
    assert batch.table.column_names == list(TYPES)
    assert batch.table.schema.field("W").type == pa.list_(pa.float64())
    assert batch.table.schema.field("N").type == pa.list_(pa.int32(), 2)
    assert batch.table.schema.field("S").type == pa.int16()


FOUR = """<FIELD name="a" datatype="short"/><FIELD name="b" datatype="float"/>
<FIELD name="v" datatype="float" arraysize="3"/><FIELD name="t" datatype="char" arraysize="3"/>"""
FOUR_TYPES = {"a": pa.int16(), "b": pa.float32(), "v": TRIPLE, "t": pa.string()}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["x", "1", "1 2 3", "u"], "'a': expected a whole number (int16), got 'x'"),
        (["99999", "1", "1 2 3", "u"], "'a': expected a whole number (int16), got '99999'"),
        (["1", "bright", "1 2 3", "u"], "'b': expected a number, got 'bright'"),
        (["1", "1", "1 2", "u"], "'v': expected 3 numbers, got '1 2'"),
        (["1", "1", "1 2 x", "u"], "'v': expected 3 numbers, got '1 2 x'"),
    ],
)
def test_a_cell_that_is_not_what_it_should_be(tmp_path: Path, row: list[str], reason: str) -> None:
    """Its row is rejected, and the cells behind it stay where they are."""
    rows = [["1", "1.5", "1 2 3", "one"], row, ["3", "3.5", "7 8 9", "three"]]
    batch = read(write(tmp_path, document(table(FOUR, rows))), FOUR_TYPES)
    assert batch.rows.tolist() == [1, 3]
    assert batch.table.to_pydict() == {
        "a": [1, 3], "b": [1.5, 3.5], "v": [[1, 2, 3], [7, 8, 9]], "t": ["one", "three"],
    }  # fmt: skip
    (rejected,) = batch.rejected
    assert rejected.row == 2
    assert rejected.reason == f"column {reason}"


def test_rejected_rows_over_batches(tmp_path: Path) -> None:
    rows = [[str(n) if n % 3 else "x", "1", "1 2 3", "t"] for n in range(1, 11)]
    path = write(tmp_path, document(table(FOUR, rows)))
    batches = list(VotableReader().batches(path, {"a": pa.int16()}, 4))
    assert [batch.rows.tolist() for batch in batches] == [[1, 2, 4], [5, 7, 8], [10]]
    assert [[row.row for row in batch.rejected] for batch in batches] == [[3], [6], [9]]


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3", "1.5", "1.9"])
def test_sloppy_files(tmp_path: Path, version: str) -> None:
    """Without arraysize, with words for nulls, commas, unknown attributes and empty lines."""
    fields = """<FIELD name="a" datatype="int" wrong="yes"/><FIELD ID="b c" datatype="float"/>
    <FIELD name="v" datatype="float" arraysize="3"/><FIELD name="t" datatype="char"/>
    <FIELD name="s" datatype="string"/>"""
    rows = [
        ["1", " 1.5 ", "1, 2,\n3", "longer than one", "x"],
        ["", "null", "--", "", ""],
        ["nan", "--", "1 null 3", "u", "y"],
    ]
    text = document(table(fields, rows, 'nrows="2"'), version=version)
    types = {"a": pa.int32(), "b c": pa.float32(), "v": TRIPLE, "t": pa.string()}
    batch = read(write(tmp_path, "\n\n" + text), types)
    assert batch.rejected == ()
    assert batch.table.to_pydict() == {
        "a": [1, None, None],
        "b c": [1.5, None, None],
        "v": [[1, 2, 3], [None, None, None], [1, None, 3]],
        "t": ["longer than one", None, "u"],
    }


def test_without_version_or_namespace(tmp_path: Path) -> None:
    text = document(table(FOUR, [["1", "2", "1 2 3", "t"]]))
    bare = text.replace(' version="1.4"', "", 1)
    bare = bare[bare.index("<VOTABLE") :].replace(
        ' xmlns="http://www.ivoa.net/xml/VOTable/v1.4"', ""
    )
    assert read(write(tmp_path, bare), {"a": pa.int16()}).table["a"].to_pylist() == [1]
    prefixed = bare.replace("</", "</v:").replace("<", "<v:").replace("<v:/v:", "</v:")
    prefixed = prefixed.replace("<v:VOTABLE", '<v:VOTABLE xmlns:v="http://x"')
    assert read(write(tmp_path, prefixed), {"a": pa.int16()}).table["a"].to_pylist() == [1]


def one(name: str, value: int, attributes: str = "") -> str:
    field = f'<FIELD name="{name}" datatype="int"/>'
    return table(field, [[str(value)]], attributes)


def test_which_table(tmp_path: Path) -> None:
    inner = "<RESOURCE>" + one("z", 3, 'ID="deep"') + "</RESOURCE>"
    tables = ["<TABLE/>", one("x", 1, 'name="Sources"'), inner, one("y", 2, 'ID="t2" name="refs"')]
    path = write(tmp_path, document(*tables))
    for which, column in [
        (None, "x"), (1, "x"), (2, "z"), (3, "y"), ("sources", "x"), ("deep", "z"), ("t2", "y"),
        ("refs", "y"),
    ]:  # fmt: skip
        reader = open_reader(VotableFormat(table=which), path)
        assert reader.header(path).names == (column,)
        (batch,) = reader.batches(path, {column: pa.int32()}, 10)
        assert batch.table[column].to_pylist() == [{"x": 1, "y": 2, "z": 3}[column]]
    for which, hint in [("source", r"did you mean 'Sources'\?"), (7, "0, Sources, deep, refs")]:
        with pytest.raises(SpecError, match=f"there is no table '{which}' .*{hint}"):
            VotableReader(which).header(path)
    with pytest.raises(SpecError, match="there is no table '0' with columns"):
        VotableReader(0).header(path)


def test_a_table_without_data(tmp_path: Path) -> None:
    path = write(tmp_path, document(f"<TABLE>{FOUR}</TABLE>"))
    assert VotableReader().header(path).names == ("a", "b", "v", "t")
    assert list(VotableReader().batches(path, FOUR_TYPES, 10)) == []


def test_the_header_is_read_alone(tmp_path: Path) -> None:
    text = document(table(FOUR, [["1", "2", "1 2 3", "t"]] * 50_000))
    path = write(tmp_path, text[: len(text) // 2])
    assert VotableReader().header(path).names == ("a", "b", "v", "t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<?xml version='1.0'?><svg><a/></svg>", "this is XML of another kind: <svg>"),
        ("<?xml version='1.0'?>\n<!DOCTYPE html><html></html>", "expected VOTable, .* a web page"),
        ("<?xml version='1.0'?>\n<html></html>", "expected VOTable, .* a web page"),
        ("a,b\n1,2\n", "is not VOTable"),
        (document(), "the VOTable holds no table"),
        (document("<TABLE/>"), "no table of the VOTable has columns"),
        (
            document(before='<INFO name="QUERY_STATUS" value="ERROR">No such\n table</INFO>'),
            "holds no rows: the service answered 'No such table'",
        ),
        (
            document(
                f"<TABLE>{FOUR}<DATA><BINARY><STREAM href='https://x.org/t'/></BINARY></DATA></TABLE>"
            ),
            "its rows are in another place: https://x.org/t",
        ),
        (
            document(f"<TABLE>{FOUR}<DATA><FITS><STREAM>AAA</STREAM></FITS></DATA></TABLE>"),
            "its rows are FITS inside XML",
        ),
        (
            document(table('<FIELD name="a" datatype="integer"/>', [])),
            "the VOTable's header cannot be understood: .*E06",
        ),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match=message) as caught:
        VotableReader().header(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match=message):
        list(VotableReader().batches(path, {"a": pa.int16()}, 10))


def rows_before(path: str, match: str) -> int:
    batches: list[Batch] = []
    with pytest.raises(DataError, match=match) as caught:
        batches.extend(VotableReader().batches(path, {"a": pa.int16()}, 10))
    assert "\n" not in str(caught.value)
    return sum(len(batch.rows) for batch in batches)


def test_files_that_break(tmp_path: Path) -> None:
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(100)]
    whole = document(table(FOUR, rows))
    at = whole.index("<TD>60</TD>")
    assert rows_before(write(tmp_path, whole[:at]), r"ends early, after row 60 \(the down") == 0
    broken = whole[:at] + "</TR>" + whole[at:]
    assert rows_before(write(tmp_path, broken), "damaged after row 60") == 0
    short = whole[:at] + "<TD>1</TD></TR><TR>" + whole[at:]
    assert rows_before(write(tmp_path, short), "damaged after row 60: .*E21") == 0
    zipped = tmp_path / "catalogue.vot.gz"
    zipped.write_bytes(gzip.compress(whole.encode())[:-40])
    assert rows_before(str(zipped), "the gzip stream ends early") == 0


def test_fewer_rows_than_it_says(tmp_path: Path) -> None:
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(20)]
    text = document(table(FOUR, rows, 'nrows="30"'))
    assert rows_before(write(tmp_path, text), "ends early, after row 20 of 30") == 20


@pytest.mark.parametrize("serialization", ["binary", "binary2"])
def test_a_stream_that_ends_within_a_row(tmp_path: Path, serialization: str) -> None:
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(20)]
    path = write(tmp_path, document(table(FOUR, rows)))
    parse(path).to_xml(path, tabledata_format=serialization)
    text = Path(path).read_text(encoding="utf-8")
    start, end = text.index('encoding="base64">') + 18, text.index("</STREAM>")
    stream = base64.b64decode(text[start:end])
    text = text[:start] + base64.b64encode(stream[:-5]).decode() + text[end:]
    text = re.sub(r' nrows="\d+"', "", text)
    assert rows_before(write(tmp_path, text), "ends early, after row 19 ") == 19


def test_a_batch_without_any_text(tmp_path: Path) -> None:
    path = write(tmp_path, document(table(FOUR, [["1", "2", "1 2 3", ""]])))
    assert read(path, {"t": pa.string()}).table["t"].to_pylist() == [None]
    outside = table(FOUR, []).join(["<VOTABLE version='1.4'>", "</VOTABLE>"])
    with pytest.raises(SpecError, match="no table of the VOTable has columns"):
        VotableReader().header(write(tmp_path, outside))


def test_a_service_that_fails_on_the_way(tmp_path: Path) -> None:
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(20)]
    text = document(
        table(FOUR, rows), after='<INFO name="QUERY_STATUS" value="ERROR">time is up</INFO>'
    )
    assert rows_before(write(tmp_path, text), "failed after row 20: time is up") == 20
    # The limit that was asked for is no failure.
    full = document(table(FOUR, rows), after='<INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    assert len(list(VotableReader().batches(write(tmp_path, full), {"a": pa.int16()}, 100))) == 1
