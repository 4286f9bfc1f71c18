"""The law of rows for text: every record is a row or is rejected, and damage costs its own line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galbatch.errors import DataError
from galbatch.readers import csv as reader_module
from galbatch.readers.csv import CsvReader
from galbatch.readers.records import AFTER, OPEN, ZERO, RecordBlock, Rule, first_line, whole_lines

TYPES = {"ID": pa.int64(), "F": pa.float64(), "name": pa.string()}
ENDS = ["\n", "\r\n", "\r"]


@dataclass
class Found:
    """What the reader made of a file."""

    rows: dict[int, tuple[object, ...]]
    rejected: dict[int, str]
    records: int

    @property
    def law(self) -> bool:
        """Whether each record is in it once."""
        numbers = sorted([*self.rows, *self.rejected])
        return numbers == list(range(1, self.records + 1))


def read(path: Path, types: dict[str, pa.DataType] = TYPES, delimiter: str = ",") -> Found:
    batches = CsvReader(delimiter).batches(str(path), types, 7)
    rows: dict[int, tuple[object, ...]] = {}
    rejected: dict[int, str] = {}
    for batch in batches:
        values = zip(*(batch.table[name].to_pylist() for name in types), strict=True)
        rows |= dict(zip(batch.rows.tolist(), values, strict=True))
        rejected |= {row.row: row.reason for row in batch.rejected}
    return Found(rows, rejected, batches.records)


def read_text(folder: Path, text: str, delimiter: str = ",") -> Found:
    path = folder / "a.csv"
    path.write_bytes(text.encode())
    return read(path, delimiter=delimiter)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_BLOCK", 64)
    monkeypatch.setattr(reader_module, "_PIECE", 16)


# -- a generator that knows the truth --------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A record as it stands in the file, and what must become of it."""

    text: str
    values: tuple[object, ...] | None
    reason: str = ""


words = st.text("xyzé ", min_size=1, max_size=5)
numbers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, width=64)


@st.composite
def lines(draw: st.DrawFn, delimiter: str) -> Line:
    number, value, word = draw(numbers), draw(floats), draw(words)
    quote = draw(st.sampled_from(["", '"']))
    begin = f"{quote}{number}{quote}{delimiter}"
    one = f"{begin}{value!r}{delimiter}"
    kinds = ["plain", "literal", "quoted", "spans"] * 3 + [
        "open", "open number", "after", "short", "long", "no number", "zero",
    ]  # fmt: skip
    match draw(st.sampled_from(kinds)):
        case "literal":
            literal = f'{word}"' + draw(st.sampled_from(["", '"', "x", '"x"']))
            return Line(one + literal, (number, value, literal))
        case "quoted":
            parts = draw(st.lists(st.sampled_from([delimiter, '"', "x", " ", "'"]), max_size=4))
            text = "".join(parts)
            return Line(one + '"' + text.replace('"', '""') + '"', (number, value, text))
        case "spans":
            more = st.text(f'xy"{delimiter}', max_size=4).map("x".__add__)
            end = draw(st.sampled_from(ENDS))
            text = end.join([word.strip() + "x", *draw(st.lists(more, min_size=1, max_size=3))])
            return Line(one + '"' + text.replace('"', '""') + '"', (number, value, text))
        case "open":
            return Line(f'{one}"{word}', None, OPEN)
        case "open number":
            return Line(f'{begin}"{value!r}{delimiter}{word}', None, OPEN)
        case "after":
            return Line(f'{one}"{word}"{word}x', None, AFTER)
        case "short":
            return Line(f"{number}{delimiter}{value!r}", None, "expected 3 values, got 2")
        case "long":
            more_text = f"{word}{delimiter}{word}"
            return Line(f"{number}{delimiter}1{delimiter}{more_text}", None, "values, got 4")
        case "no number":
            text = f"{number}{delimiter}bright{delimiter}{word}"
            return Line(text, None, "column 'F': expected a number, got 'bright'")
        case "zero":
            return Line(f"{one}{word}\0", None, ZERO)
    return Line(one + word, (number, value, word))


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, list[Line]]:
    delimiter = draw(st.sampled_from(",;|\t"))
    end = st.sampled_from(draw(st.sampled_from([*([one] for one in ENDS), ENDS])))
    records = draw(st.lists(lines(delimiter), max_size=15))
    text = delimiter.join(TYPES) + draw(end)
    for line in records:
        text += draw(st.sampled_from([""] * 6 + ["\n", " \n", "  \r\n", "\r"]))
        text += line.text + draw(end)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return delimiter, text.encode(), records


@settings(max_examples=100, deadline=None)
@given(file=files(), block=st.integers(1, 300), piece=st.integers(1, 64), zipped=st.booleans())
def test_each_record_is_a_row_or_rejected(
    tmp_path_factory: pytest.TempPathFactory,
    file: tuple[str, bytes, list[Line]],
    block: int,
    piece: int,
    zipped: bool,
) -> None:
    delimiter, text, records = file
    path = tmp_path_factory.mktemp("law") / "a.csv"
    path.write_bytes(gzip.compress(text) if zipped else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "_BLOCK", block)
        patch.setattr(reader_module, "_PIECE", piece)
        found = read(path, delimiter=delimiter)
    assert found.records == len(records)
    assert found.law
    for number, line in enumerate(records, start=1):
        if line.values is not None:
            assert found.rows[number] == line.values
        else:
            assert line.reason in found.rejected[number]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text('",\n\r\n\r1.a \0', max_size=12), max_size=12).map("1,2,".join),
    st.integers(1, 40),
)
def test_the_law_holds_for_any_text_and_block(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes(b"ID,F,name\n" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        whole = read(path)
        patch.setattr(reader_module, "_BLOCK", block)
        patch.setattr(reader_module, "_PIECE", block)
        pieces = read(path)
    assert whole.law
    assert pieces == whole


# -- the rule, case by case ------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ('{},2.5,"extended', OPEN),
        ('{},"2.5,n', OPEN),
        ('"{},2.5,n', OPEN),
        ('{},2.5,"', OPEN),
        ('{},2.5,"say ""hi""', OPEN),
        ('{},2.5,"a"b', AFTER),
        ('{},"2".5,"n"', AFTER),
        ('{},2.5,n\0', ZERO),
    ],
)  # fmt: skip
def test_damage_costs_its_line(tmp_path: Path, end: str, damage: str, reason: str) -> None:
    rows = [f"{row},{row / 4},n" for row in range(1, 1501)]
    for row in (400, 401, 700, 1500):
        rows[row - 1] = damage.format(row)
    found = read_text(tmp_path, end.join(["ID,F,name", *rows]) + end)
    assert found.records == 1500
    assert found.rejected == dict.fromkeys((400, 401, 700, 1500), reason)
    assert found.rows == {row: (row, row / 4, "n") for row in range(1, 1501)
                          if row not in found.rejected}  # fmt: skip


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("end", ENDS)
def test_damage_costs_its_line_across_blocks(tmp_path: Path, end: str) -> None:
    rows = [f'{row},{row / 4},"n, {row}"' for row in range(1, 301)]
    for row in range(5, 301, 13):
        rows[row - 1] = f'{row},1,"open'
    found = read_text(tmp_path, end.join(["ID,F,name", *rows]))
    assert found.law
    assert sorted(found.rejected) == list(range(5, 301, 13))
    assert found.rows[300] == (300, 75.0, "n, 300")


def test_a_stray_quote_at_the_border_of_real_blocks(tmp_path: Path) -> None:
    line = "{},0.25," + "galaxy " * 30 + "\n"
    count = 3 * reader_module._BLOCK // 2 // len(line.format(10**6))
    rows = [line.format(10**6 + row) for row in range(count)]
    # The lines around the end of the first block.
    border = (reader_module._BLOCK - len("ID,F,name\n")) // len(rows[0])
    for row in (border - 1, border):
        rows[row] = f'{10**6 + row},0.25,"galax\n'
    found = read_text(tmp_path, "ID,F,name\n" + "".join(rows))
    assert found.records == count
    assert found.rejected == {border: OPEN, border + 1: OPEN}
    assert len(found.rows) == count - 2


def test_values_may_go_over_lines(tmp_path: Path) -> None:
    text = 'ID,F,name\n1,2,"two\nlines, of text, and ""quotes"""\n\n2,3,"\n\nx\r\n"\n"3","4","\n"\n'
    found = read_text(tmp_path, text)
    assert found.records == 3
    assert found.rows == {
        1: (1, 2.0, 'two\nlines, of text, and "quotes"'),
        2: (2, 3.0, "\n\nx\r\n"),
        3: (3, 4.0, "\n"),
    }


def test_a_value_over_lines_must_not_swallow_a_record(tmp_path: Path) -> None:
    # The record would be whole, and the quote closes; but row 2 is a record by itself.
    found = read_text(tmp_path, 'ID,F,name\n1,2,"one\n2,3,5"\n3,4,x\n')
    assert found.rejected == {1: OPEN}
    assert found.rows == {2: (2, 3.0, '5"'), 3: (3, 4.0, "x")}
    # So is a row with nulls, and one whose own quote is stray.
    found = read_text(tmp_path, 'ID,F,name\n1,2,"one\nNA,,x\n2,3,"\n4,5,x\n')
    assert found.rejected == {1: OPEN, 3: OPEN}
    assert found.rows == {2: (None, None, "x"), 4: (4, 5.0, "x")}


def test_a_value_over_lines_whose_record_has_too_few_fields(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'ID,F,name\n1,"a\nb"\n2,3,x\n')
    assert found.rejected == {1: OPEN, 2: "expected 3 values, got 1"}
    assert found.rows == {3: (2, 3.0, "x")}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_blank_lines_are_no_records(tmp_path: Path, delimiter: str) -> None:
    rows = ["", "ID,F,name", "", "   ".replace(delimiter, ""), "1,2,x", "\v\f", ",,", "3,4,y", ""]
    text = "\n".join(row.replace(",", delimiter) for row in rows)
    found = read_text(tmp_path, text, delimiter)
    assert found.rows == {1: (1, 2.0, "x"), 2: (None, None, ""), 3: (3, 4.0, "y")}
    assert found.records == 3


def test_numbers_with_blanks_before_them(tmp_path: Path) -> None:
    found = read_text(tmp_path, "ID,F,name\n  1, 2.5, x\n   \n 10,-2.5,y\n")
    assert found.rows == {1: (1, 2.5, " x"), 2: (10, -2.5, "y")}


def test_a_file_of_damaged_lines_alone(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'ID,F,name\n1,2,"x\n3,4,"y"z\n')
    assert found.rejected == {1: OPEN, 2: AFTER}
    assert found.law


def test_a_hole_of_zeros(tmp_path: Path) -> None:
    found = read_text(tmp_path, "ID,F,name\n1,2,x\n2,3" + "\0" * 900 + "8,9,y\n9,9,z\n" + "\0" * 90)
    assert found.rejected == {2: ZERO, 4: ZERO}
    assert found.rows == {1: (1, 2.0, "x"), 3: (9, 9.0, "z")}


@pytest.mark.parametrize(
    ("data", "ended", "first", "whole"),
    [
        (b"", False, 0, 0),
        (b"a", False, 0, 0),
        (b"a", True, 1, 1),
        (b"a\nb", False, 2, 2),
        (b"a\r\nb\r\nc", False, 3, 6),
        (b"a\rb\rc", False, 2, 4),
        (b"a\r", False, 0, 0),
        (b"a\r", True, 2, 2),
        (b"a\nb\r", False, 2, 2),
        (b"a\r\r", False, 2, 2),
    ],
)
def test_where_lines_end(data: bytes, ended: bool, first: int, whole: int) -> None:
    assert first_line(data, ended=ended) == first
    assert whole_lines(data, ended=ended) == whole


def test_what_is_undecided_waits() -> None:
    rule = Rule(",", 2, [0])
    text = b'1,"a"\n2,"b\n'
    block, used = rule.cut(text, ended=False)
    assert (block.records, used) == (1, 6)
    assert rule.cut(text[6:], ended=False)[1] == 0
    block, used = rule.cut(text[6:], ended=False, patient=False)
    assert (block.damaged, block.records, used) == ({1: OPEN}, 1, 5)
    assert rule.cut(text[6:] + b'text"\n', ended=False)[0].records == 1


def quoted_lines(rows: int) -> Iterator[str]:
    random = np.random.default_rng(3)
    for row in range(rows):
        yield f'{row},{random.normal():.3f},"x, {row}"\n' if row % 3 else f'{row},1,5"\n'


def test_lines_with_sound_quotes_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[bytes] = []
    monkeypatch.setattr(Rule, "_walk", lambda self, text: walked.append(text))
    block, _ = Rule(",", 3, [0, 1]).cut("".join(quoted_lines(20_000)).encode(), ended=True)
    assert block.records == 20_000
    assert not walked


def test_a_count_that_the_parser_does_not_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Rule.cut

    def one_more(self: Rule, data: bytes, *, ended: bool, patient: bool) -> tuple[RecordBlock, int]:
        block, used = cut(self, data, ended=ended, patient=patient)
        return replace(block, records=block.records + 1), used

    monkeypatch.setattr(Rule, "cut", one_more)
    with pytest.raises(DataError, match="after row 0: 3 records by their lines, 2 by quotes"):
        read_text(tmp_path, "ID,F,name\n1,2,x\n2,3,y\n")
