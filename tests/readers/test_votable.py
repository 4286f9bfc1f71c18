"""VOTable: what columns can hold, how sloppy a file may be, and where the table can be."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from astropy.io.votable import parse

from galbatch.errors import DataError, SpecError
from galbatch.readers import Batch, open_reader
from galbatch.readers.votable import VotableReader
from galbatch.readers.votable_walk import Walk
from galbatch.spec.formats import VotableFormat

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
    text = document(table(fields, rows, 'nrows="3"'), version=version)
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
        (1, "x"), (2, "z"), (3, "y"), ("sources", "x"), ("deep", "z"), ("t2", "y"),
        ("refs", "y"),
    ]:  # fmt: skip
        reader = open_reader(VotableFormat(table=which), path)
        assert reader.header(path).names == (column,)
        (batch,) = reader.batches(path, {column: pa.int32()}, 10)
        assert batch.table[column].to_pylist() == [{"x": 1, "y": 2, "z": 3}[column]]
    with pytest.raises(SpecError, match=r"several tables: Sources \(table 1, 1 row\), deep .*refs"):
        VotableReader().header(path)
    for which, hint in [
        ("source", r"did you mean 'Sources'\?"),
        (7, r"tables in it: table 0 \(0 rows\), Sources"),
    ]:
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


BINARY = """<FIELD name="a" datatype="short"/><FIELD name="b" datatype="bit" arraysize="9"/>
<FIELD name="c" datatype="doubleComplex"/><FIELD name="d" datatype="unicodeChar" arraysize="3"/>
<FIELD name="e" datatype="char" arraysize="5*"/><FIELD name="f" datatype="boolean" arraysize="2"/>
<FIELD name="g" datatype="float" arraysize="2x2"/><FIELD name="h" datatype="long" arraysize="*"/>
<FIELD name="i" datatype="unsignedByte"/><FIELD name="j" datatype="char"/>"""
CELLS = ["1", "1 0 1 0 1 0 1 0 1", "1 2", "abc", "hello", "T F", "1 2 3 4", "7 8", "9", "j"]


@pytest.mark.parametrize("serialization", ["binary", "binary2"])
def test_a_stream_is_read_to_its_last_byte(tmp_path: Path, serialization: str) -> None:
    """A stream that is cut within the first cell of a row, and letters that are no base64."""
    path = write(tmp_path, document(table(BINARY, [CELLS] * 20)))
    parse(path).to_xml(path, tabledata_format=serialization)
    assert len(read(path, {"a": pa.int16()}).rows) == 20
    text = re.sub(r' nrows="\d+"', "", Path(path).read_text(encoding="utf-8"))
    start, end = text.index('encoding="base64">') + 18, text.index("</STREAM>")
    stream = base64.b64decode(text[start:end])
    for size in (len(stream) // 20 * 19 + 1, len(stream) - 1):
        cut = base64.b64encode(stream[:size]).decode()
        assert rows_before(write(tmp_path, text[:start] + cut + text[end:]), "after row 19 ") == 19
    middle = (start + end) // 2
    for letter in "=#":
        odd = text[:middle] + letter + text[middle:]
        assert rows_before(write(tmp_path, odd), "is no base64") == 0


@pytest.mark.parametrize("serialization", ["binary", "binary2"])
def test_a_stream_that_begins_with_text(tmp_path: Path, serialization: str) -> None:
    """Where the first cell of a row ends in its length, in its text, or there is none."""
    fields = '<FIELD name="t" datatype="char" arraysize="*"/><FIELD name="a" datatype="short"/>'
    path = write(tmp_path, document(table(fields, [["abcdefghi", "1"]] * 20)))
    parse(path).to_xml(path, tabledata_format=serialization)
    batch = read(path, {"t": pa.string(), "a": pa.int16()})
    assert batch.table.to_pydict() == {"t": ["abcdefghi"] * 20, "a": [1] * 20}
    text = re.sub(r' nrows="\d+"', "", Path(path).read_text(encoding="utf-8"))
    start, end = text.index('encoding="base64">') + 18, text.index("</STREAM>")
    stream = base64.b64decode(text[start:end])
    row = len(stream) // 20
    for size in range(19 * row + 1, 20 * row):
        cut = text[:start] + base64.b64encode(stream[:size]).decode() + text[end:]
        assert rows_before(write(tmp_path, cut), "ends early, after row 19 ") == 19


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
    path = write(tmp_path, text)
    with pytest.raises(DataError, match="failed on the way: time is up"):
        VotableReader().header(path)
    assert rows_before(path, "failed on the way: time is up") == 0


@pytest.mark.parametrize("serialization", ["tabledata", "binary2"])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("zipped", [False, True])
def test_an_answer_that_was_cut(
    tmp_path: Path, serialization: str, place: str, zipped: bool
) -> None:
    """It is said before a row is read, wherever it stands in the file."""
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(20)]
    path = write(tmp_path, document(table(FOUR, rows)))
    parse(path).to_xml(path, tabledata_format=serialization)
    text = Path(path).read_text(encoding="utf-8")
    info = '<INFO name="QUERY_STATUS" value="OVERFLOW">20 of 99</INFO>'
    start = re.search("</RESOURCE>" if place == "after" else r"<TABLE[ >]", text)
    assert start is not None
    text = text[: start.start()] + info + text[start.start() :]
    path = write(tmp_path, text)
    if zipped:
        path += ".gz"
        Path(path).write_bytes(gzip.compress(text.encode()))
    types = {"a": pa.int16()}
    for ask in (VotableReader().header, lambda path: list(VotableReader().batches(path, types, 9))):
        with pytest.raises(SpecError, match=r"limit of rows .*: 20 of 99\).*overflow: accept"):
            ask(path)
    reader = open_reader(VotableFormat(overflow="accept"), path)
    assert "QUERY_STATUS OVERFLOW: 20 of 99" in reader.header(path).notes[0]
    batches = reader.batches(path, types, 100)
    assert [len(batch.rows) for batch in batches] == [batches.records] == [20]


def test_the_state_of_another_answer(tmp_path: Path) -> None:
    """A file may hold several answers; each speaks of its own rows."""
    cut = '<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
    other = "</RESOURCE><RESOURCE>" + cut + one("y", 2, 'name="cut"')
    path = write(tmp_path, document(one("x", 1, 'name="whole"'), other))
    assert VotableReader("whole").header(path).notes == ()
    with pytest.raises(SpecError, match="at its limit of rows"):
        VotableReader("cut").header(path)


def many(*sizes: int, field: str = '<FIELD name="x" datatype="int" unit="s"/>') -> list[str]:
    """Tables that go on counting where the one before ended."""
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return [
        table(field, [[str(n)] for n in range(start, start + size)], f'name="t{place}"')
        for place, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


@pytest.mark.parametrize("serialization", ["tabledata", "binary"])
def test_all_tables(tmp_path: Path, serialization: str) -> None:
    tables = many(5, 0, 3)
    tables.insert(1, "</RESOURCE><RESOURCE>")
    path = write(tmp_path, document(*tables))
    parse(path).to_xml(path, tabledata_format=serialization)
    with pytest.raises(SpecError, match=r"t0 \(table 0, 5 rows\), t2 \(table 2, 3 rows\) \(name"):
        VotableReader().header(path)
    reader = VotableReader("all")
    assert "one after the other: t0 (table 0, 5 rows), t2" in reader.header(path).notes[0]
    batches = reader.batches(path, {"x": pa.int64()}, 4)
    found = list(batches)
    assert [batch.rows.tolist() for batch in found] == [[1, 2, 3, 4], [5], [6, 7, 8]]
    assert [x for batch in found for x in batch.table["x"].to_pylist()] == list(range(8))
    assert batches.records == 8


def test_all_tables_and_a_bad_cell(tmp_path: Path) -> None:
    bad = table('<FIELD name="x" datatype="int" unit="s"/>', [["9"], ["x"]])
    (batch, rest) = VotableReader("all").batches(
        write(tmp_path, document(*many(2), bad)), {"x": pa.int64()}, 5
    )
    assert batch.rows.tolist() == [1, 2]
    assert rest.rows.tolist() == [3]
    assert [row.row for row in rest.rejected] == [4]


@pytest.mark.parametrize(
    ("field", "difference"),
    [
        ('<FIELD name="x" datatype="long" unit="s"/>', "x is int32 in t0 .*, int64 in t0"),
        ('<FIELD name="x" datatype="int" unit="h"/>', "x has s in t0 .*, h in t0"),
        ('<FIELD name="y" datatype="int"/>', "only t0 .table 0, 2 rows. has x"),
    ],
)
def test_all_tables_have_to_be_alike(tmp_path: Path, field: str, difference: str) -> None:
    path = write(tmp_path, document(*many(2), *many(3, field=field)))
    for ask in (
        VotableReader("all").header,
        lambda path: list(VotableReader("all").batches(path, {"x": pa.int64()}, 5)),
    ):
        with pytest.raises(SpecError, match=f"'table: all' needs: {difference}"):
            ask(path)


def test_resources_that_are_no_results(tmp_path: Path) -> None:
    """TAP services add descriptions of services, which may have tables of their own."""
    meta = (
        '</RESOURCE><RESOURCE type="meta" utype="adhoc:service"><PARAM name="standardID" '
        'datatype="char" arraysize="*" value="ivo://x"/><GROUP name="inputParams">'
        '<PARAM name="ID" datatype="char" arraysize="*" value="" ref="x"/></GROUP>'
    )
    status = '<INFO name="QUERY_STATUS" value="OK"/>'
    for extra in (meta, meta + one("y", 1)):
        path = write(tmp_path, document(*many(3), extra, before=status))
        assert VotableReader().header(path).names == ("x",)
        batches = VotableReader().batches(path, {"x": pa.int32()}, 5)
        assert [len(batch.rows) for batch in batches] == [batches.records] == [3]


@pytest.mark.parametrize("where", ["<!-- <TABLE name='x'> QUERY_STATUS -->", "<![CDATA[<TABLE>]]>"])
def test_what_looks_like_a_table(tmp_path: Path, where: str) -> None:
    text = document(*many(3), after=f"<DESCRIPTION>{where}</DESCRIPTION>")
    assert VotableReader().header(write(tmp_path, text)).names == ("x",)


@pytest.mark.parametrize("piece", [1, 5, 17, 64, 301])
def test_a_second_table_far_behind(
    tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the pieces are cut in which a file is looked through."""
    monkeypatch.setattr("galbatch.readers.votable_glance._PIECE", piece)
    monkeypatch.setattr("galbatch.readers.votable_glance._LONGEST_TAG", 100)
    path = write(tmp_path, document(*many(3), " " * 200, *many(1)))
    with pytest.raises(SpecError, match=r"several tables: t0 .table 0, 3 rows"):
        VotableReader().header(path)
    path = write(tmp_path, document(*many(30)))
    walked: list[bool] = []
    contents = Walk.contents

    def spied(walk: Walk, *, whole: bool) -> Any:
        walked.append(whole)
        return contents(walk, whole=whole)

    monkeypatch.setattr(Walk, "contents", spied)
    assert VotableReader().header(path).names == ("x",)
    assert walked == [False], "one table is not gone through for its header"


@pytest.mark.parametrize("serialization", ["tabledata", "binary", "binary2"])
@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (19, "says that it has 19 rows, it has 20"),
        (21, "ends early, after row 20 of 21"),
        (10**15, "ends early, after row 20 of 1,000,000,000,000,000"),
    ],
)
def test_other_rows_than_it_says(
    tmp_path: Path, serialization: str, stated: int, message: str
) -> None:
    rows = [[str(n), "2", "1 2 3", "t"] for n in range(20)]
    path = write(tmp_path, document(table(FOUR, rows)))
    parse(path).to_xml(path, tabledata_format=serialization)
    text = re.sub(r' nrows="\d+"', "", Path(path).read_text(encoding="utf-8"))
    path = write(tmp_path, text.replace("<TABLE", f'<TABLE nrows="{stated}"', 1))
    assert rows_before(path, message) == 20


def test_the_header_says_what_comes(tmp_path: Path) -> None:
    path = write(tmp_path, document(table(FIELDS, ROWS)))
    header = VotableReader().header(path)
    batch = read(path, dict.fromkeys(header.names, pa.null()))
    assert {column.name: column.type for column in header.columns if column.type} == {
        field.name: field.type for field in batch.table.schema
    }
    assert {column.name: column.unit for column in header.columns if column.unit} == {"F": "mag"}


def test_integers_are_exact(tmp_path: Path) -> None:
    fields = """<FIELD name="long" datatype="long"><VALUES null="-1"/></FIELD>
    <FIELD name="byte" datatype="unsignedByte"/><FIELD name="double" datatype="double"/>"""
    rows = [[str(2**63 - 1), "255", "7"], ["-1", "0", str(2**53 + 2)], ["5", "256", "8"]]
    path = write(tmp_path, document(table(fields, rows)))
    batch = read(path, dict.fromkeys(["long", "byte"], pa.null()))
    assert batch.table.to_pydict() == {"long": [2**63 - 1, None], "byte": [255, 0]}
    assert [row.row for row in batch.rejected] == [3]
    batch = read(path, {"double": pa.int64()})
    assert batch.table.to_pydict() == {"double": [7, 8]}
    assert "is beyond 2**53" in batch.rejected[0].reason


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    field = '<FIELD name="x" datatype="int"/>'
    path = write(tmp_path, document(table(field * 2 + field.replace("x", "y"), [["1", "2", "3"]])))
    with pytest.raises(SpecError, match="has 2 columns called 'x'"):
        read(path, {"x": pa.int32()})
    table_ = read(path, {"x": pa.null(), "y": pa.int32()}).table
    assert table_.to_pydict() == {"y": [3]}
