"""Columns as CSV, and all that goes wrong with text."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from broken.truth import ANYTHING, NULLS, Fate, Record

if TYPE_CHECKING:
    from broken.catalogues import Draft


@dataclass
class TextFile:
    """A CSV in the making.

    The values of the draft are what the fields mean; `raw` is what stands in the file where that
    is not the plain way to write it.
    """

    draft: Draft
    draw: random.Random
    delimiter: str
    numbers: tuple[str, ...] = ()
    """Columns in which a word is a damage."""
    raw: dict[tuple[int, str], str] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    """Rows that are not written plainly."""
    more: dict[int, int] = field(default_factory=dict)
    """Values too many (or too few) of a row."""
    blank: dict[int, int] = field(default_factory=dict)
    """Blank lines before a row; that after the last one has the number of rows."""
    latin: set[int] = field(default_factory=set)
    ends: tuple[str, ...] = ("\n",)
    final_end: bool = True
    before: str = ""
    header: list[str] = field(default_factory=list)
    header_more: int = 0
    every_row_more: int = 0
    quote_all: bool = False
    encoding: str = "utf-8"
    bom: bool = False
    cut: bool = False
    content: bytes | None = None

    def __post_init__(self) -> None:
        self.header = [column.name for column in self.draft.columns]

    def free(self) -> list[int]:
        """Rows that are sound and plain, but for the first."""
        return [row for row in self.draft.free() if row not in self.touched]

    def pick(self) -> int | None:
        rows = self.free()
        return self.draw.choice(rows) if rows else None

    def damage(self, row: int, what: str, fate: Fate = "quarantined") -> None:
        self.touched.add(row)
        if self.draft.fates.get(row, ("stored",))[0] != "quarantined":
            self.draft.fates[row] = (fate, what)

    def name(self) -> str:
        """Some column; the last one and text a little more often."""
        names = [column.name for column in self.draft.columns]
        return self.draw.choice([*names, names[-1], *(["remark"] if "remark" in names else [])])

    def value(self, row: int, name: str) -> str:
        value: str = self.draft.column(name).values[row]
        return value

    def set(self, row: int, name: str, value: str) -> None:
        self.draft.column(name).values[row] = value
        self.raw.pop((row, name), None)

    def say(self, words: str) -> None:
        self.draft.defects.append(words)

    def line(self, row: int) -> str:
        fields = [self._field(row, column.name) for column in self.draft.columns]
        more = self.more.get(row, 0) + self.every_row_more
        fields = fields[:more] if more < 0 else fields + [""] * more
        return self.delimiter.join(fields)

    def _field(self, row: int, name: str) -> str:
        raw = self.raw.get((row, name))
        if raw is not None:
            return raw
        value = self.value(row, name)
        if self.quote_all or self.delimiter in value or "\n" in value or value.startswith('"'):
            return quoted(value)
        return value

    def finish(self, record: Callable[[Any, int], Record]) -> tuple[bytes, tuple[Record, ...]]:
        """The bytes, and the records that stand in them."""
        if self.content is not None:
            return self.content, ()
        head = self.before + self.delimiter.join(self.header + [""] * self.header_more)
        content = bytearray(b"\xef\xbb\xbf" if self.bom else b"")
        content += (head + self._end()).encode()
        spans = []
        for row in range(self.draft.rows):
            content += (self._end() * self.blank.get(row, 0)).encode()
            start = len(content)
            content += self.line(row).encode("latin-1" if row in self.latin else "utf-8")
            spans.append((start, len(content)))
            if row < self.draft.rows - 1 or self.final_end:
                content += self._end().encode()
        content += (self._end() * self.blank.get(self.draft.rows, 0)).encode()
        records = [record(self.draft, row) for row in range(self.draft.rows)]
        if self.encoding != "utf-8":
            return content.decode().encode(self.encoding), tuple(records)
        if self.cut:
            return self._cut_off(bytes(content), spans, record)
        return bytes(content), tuple(records)

    def _end(self) -> str:
        return self.draw.choice(self.ends)

    def _cut_off(
        self, content: bytes, spans: list[tuple[int, int]], record: Callable[[Any, int], Record]
    ) -> tuple[bytes, tuple[Record, ...]]:
        at = self.draw.randrange(len(content))
        if self.draw.random() < 0.2 and spans:  # at the end of a row, or close to it
            at = min(self.draw.choice(spans)[1] + self.draw.randint(-2, 1), len(content))
        self.say(f"cut at byte {at:,} of {len(content):,}")
        if at == 0:
            self.draft.refuse("must")
        elif not spans or at < spans[0][0]:
            self.draft.refuse("may")
        whole = [row for row, (_, end) in enumerate(spans) if end <= at]
        records = [record(self.draft, row) for row in whole]
        if len(whole) < len(spans) and spans[len(whole)][0] < at:
            row = len(whole)
            records.append(self._partly(row, content[spans[row][0] : at], record))
        return content[:at], tuple(records)

    def _partly(self, row: int, part: bytes, record: Callable[[Any, int], Record]) -> Record:
        """The row that the file ends in."""
        text = part.decode("latin-1")
        columns = len(self.header) + self.header_more
        untouched = row not in self.touched and '"' not in text and text.isascii()
        if untouched and text.count(self.delimiter) == columns - 1 and not self.header_more:
            last = self.draft.columns[-1].name
            self.set(row, last, text.rpartition(self.delimiter)[2])
            self.damage(row, "cut", "either")
            return record(self.draft, row)
        if untouched:
            self.damage(row, "cut")
            return record(self.draft, row)
        found = record(self.draft, row)
        values = dict.fromkeys(found.values, ANYTHING)
        return replace(found, id=ANYTHING, values=values, fate="either", damage="cut")


def quoted(value: str) -> str:
    """As a quoted field."""
    return '"' + value.replace('"', '""') + '"'


# Quotes.


def _open_quote(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None:
        return
    if draw.random() < 0.25 and text.draft.rows - 1 in text.free():
        row = text.draft.rows - 1
    name = text.name()
    text.raw[row, name] = '"' + text.value(row, name)
    text.damage(row, f"an open quote in {name}")
    text.say(f"an open quote in row {row + 1}, {name}")
    text.draft.readable = False


def _two_strays(draw: random.Random, text: TextFile) -> None:
    rows = text.free()
    if len(rows) < 2:
        return
    first, second = sorted(draw.sample(rows, 2))
    if draw.random() < 0.5:
        second = next(row for row in rows if row > first)
    names = [text.name(), text.name()]
    if draw.random() < 0.5:
        names[1] = names[0]
    text.raw[first, names[0]] = '"' + text.value(first, names[0])
    text.damage(first, f"an open quote in {names[0]}")
    if draw.random() < 0.5:
        text.raw[second, names[1]] = '"' + text.value(second, names[1])
        text.damage(second, f"an open quote in {names[1]}")
    else:
        text.set(second, names[1], text.value(second, names[1]) + '"')
        text.raw[second, names[1]] = text.value(second, names[1])
        text.damage(
            second, "a stray quote", "quarantined" if names[1] in text.numbers else "either"
        )
    text.say(f"stray quotes in rows {first + 1} ({names[0]}) and {second + 1} ({names[1]})")
    text.draft.readable = False


def _after_closing(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None:
        return
    name = text.name()
    text.raw[row, name] = quoted(text.value(row, name)) + draw.choice(["x", " y", "5", "\\"])
    text.damage(row, f"text after a closing quote in {name}")
    text.say(f"text after a closing quote in row {row + 1}, {name}")
    text.draft.readable = False


def _legitimate_quotes(draw: random.Random, text: TextFile) -> None:
    if not text.draft.has("remark"):
        return
    for _ in range(draw.randint(1, 4)):
        row = text.pick()
        if row is None:
            return
        text.touched.add(row)
        value = draw.choice(
            ['5"', '5" x 3"', 'a "quoted" word', "it's", 'ends in ""', "one, two", 'say "hi", so',
             "line one\nline two", "one,\n\ntwo", '"', '""', 'a\n"b"\nc', "é 5″", "#", "x;y|z\tw"]
        )  # fmt: skip
        text.set(row, "remark", value)
        bare = text.delimiter not in value and "\n" not in value and not value.startswith('"')
        text.raw[row, "remark"] = value if bare else quoted(value)
    text.say("legitimate quotes in remark")


def _quoted_numbers(draw: random.Random, text: TextFile) -> None:
    if draw.random() < 0.5:
        text.quote_all = True
        text.say("every value in quotes")
        return
    name = text.name()
    for row in text.free():
        text.raw[row, name] = quoted(text.value(row, name))
    text.say(f"{name} in quotes")


# Lines.


def _line_ends(draw: random.Random, text: TextFile) -> None:
    text.ends = draw.choice([("\r\n",), ("\r",), ("\n", "\r\n"), ("\n", "\r\n", "\r")])
    text.say("lines end with " + " or ".join(map(repr, text.ends)))


def _no_final_end(draw: random.Random, text: TextFile) -> None:
    text.final_end = False
    text.say("no end of the last line")


def _blank_lines(draw: random.Random, text: TextFile) -> None:
    for _ in range(draw.randint(1, 4)):
        text.blank[draw.randint(0, text.draft.rows)] = draw.randint(1, 3)
    text.say("blank lines")


def _trailing_delimiters(draw: random.Random, text: TextFile) -> None:
    text.every_row_more = 1
    text.header_more = draw.choice([0, 1, 1])
    if not text.header_more:
        text.draft.refuse("may")
        text.draft.readable = False
        for row in range(text.draft.rows):
            text.damage(row, "a value too many in every row", "either")
    else:
        text.draft.readable = False
    text.say("delimiters at the end of rows" + " and header" * text.header_more)


def _values_too_few_or_many(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None or text.every_row_more:
        return
    text.more[row] = draw.choice([-1, -3, 1, 1, 4])
    text.damage(row, f"{text.more[row]:+d} values")
    text.say(f"row {row + 1} has {text.more[row]:+d} values")
    text.draft.readable = False


# Values.


def _bad_number(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None or not text.numbers:
        return
    name = draw.choice(text.numbers)
    word = draw.choice(["bright", "1_000", "0x1F", "12.3.4", "1e", "--5", "1 2", "#N/A", "12,5"])
    text.set(row, name, word)
    text.damage(row, f"{name} is {word}")
    text.say(f"row {row + 1}: {name} is {word!r}")


def _nulls(draw: random.Random, text: TextFile) -> None:
    names = [name for name in text.numbers if name.endswith(("val", "err")) or name == "detection"]
    names += ["zspec"] if text.draft.has("zspec") else []
    for _ in range(draw.randint(1, 6)):
        row = text.pick()
        if row is None or not names:
            return
        text.set(row, draw.choice(names), draw.choice(NULLS))
        text.touched.add(row)
    text.say("null spellings")


def _written_otherwise(draw: random.Random, text: TextFile) -> None:
    """The same numbers, with a sign, an exponent or blanks."""
    change: Callable[[str], str] = draw.choice(
        [lambda v: f"+{v}", lambda v: f" {v}", lambda v: f"{v} ", lambda v: f"{float(v):.17e}",
         lambda v: f"{float(v):.3E}"]
    )  # fmt: skip
    name = draw.choice(["g_val", "g_err", "r_val", "zspec"])
    if not text.draft.has(name):
        return
    for row in text.free():
        if text.value(row, name) not in NULLS:
            text.set(row, name, change(text.value(row, name)))
    text.say(f"{name} like {text.value(0, name)!r}, {text.value(text.draft.rows - 1, name)!r}")


def _ids_as_floats(draw: random.Random, text: TextFile) -> None:
    if not text.draft.has("objid"):
        return
    ids = text.draft.column("objid")
    if not all(value.isdigit() and not value.startswith("0") and int(value) < 2**53
               for value in ids.values):  # fmt: skip
        return
    for row in text.free():
        text.set(row, "objid", f"{text.value(row, 'objid')}.0")
    text.say("ids like 5.0")


def _sexagesimal(draw: random.Random, text: TextFile) -> None:
    draft = text.draft
    if draft.degrees != {"ra": 1.0, "dec": 1.0} or text.touched or draft.fates:
        return
    separators = draw.choice(["::", "hms", "  "])
    ra, dec = draft.column("ra"), draft.column("dec")
    for row in range(draft.rows):
        for column, per in ((ra, 15), (dec, 1)):
            value = float(column.values[row]) % 360 if column is ra else float(column.values[row])
            seconds = round(abs(value) / per * 3600, 4)
            parts = (int(seconds // 3600), int(seconds % 3600 // 60), seconds % 60)
            sign = "-" if value < 0 else "+" if column is dec else ""
            degrees = (parts[0] + parts[1] / 60 + float(f"{parts[2]:07.4f}") / 3600) * per
            marks = separators if column is ra or separators != "hms" else "dms"
            ends = marks[2:] if separators == "hms" else ""
            column.values[row] = f"{sign}{parts[0]:02d}{marks[0]}{parts[1]:02d}{marks[1]}" + (
                f"{parts[2]:07.4f}{ends}"
            )
            draft.sky[row, column.name] = -degrees if sign == "-" else degrees
    draft.refuse("may")
    for row in range(draft.rows):
        text.damage(row, "sexagesimal", "either")
    text.numbers = ()
    text.say(f"positions like {ra.values[0]} {dec.values[0]}")


# The whole file.


def _mark(draw: random.Random, text: TextFile) -> None:
    text.bom = True
    text.say("a byte order mark")


def _latin_1(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None or not text.draft.has("remark") or text.encoding != "utf-8":
        return
    text.set(row, "remark", draw.choice(["café", "Ångström", "±5"]))
    text.latin.add(row)
    text.touched.add(row)
    text.say(f"Latin-1 in row {row + 1}")
    text.draft.readable = False


def _utf_16(draw: random.Random, text: TextFile) -> None:
    if text.latin:
        return
    text.encoding = draw.choice(["utf-16", "utf-16-le", "utf-16-be"])
    text.draft.refuse("may")
    text.draft.readable = False
    text.say(text.encoding)


def _nul(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    if row is None:
        return
    name = text.name()
    text.raw[row, name] = text.value(row, name) + "\0"
    text.set(row, name, text.value(row, name) + "\0")
    text.damage(row, f"a NUL in {name}", "either")
    text.draft.refuse("may")
    text.say(f"a NUL in row {row + 1}, {name}")
    text.draft.readable = False


def _empty(draw: random.Random, text: TextFile) -> None:
    text.content = draw.choice([b"", b"", b"\n", b"\n\n\n"])
    text.draft.refuse("must")
    text.draft.readable = False
    text.say(f"nothing but {text.content!r}")


def _header_alone(draw: random.Random, text: TextFile) -> None:
    head = text.delimiter.join(text.header)
    text.content = (head + draw.choice(["", "\n", "\r\n", "\n\n"])).encode()
    text.draft.refuse("may")
    text.draft.readable = False
    text.say("a header and nothing else")


def _header_spelling(draw: random.Random, text: TextFile) -> None:
    change: Callable[[str], str] = draw.choice([str.upper, str.title, quoted, " {} ".format])
    # Columns that the survey may not know are told apart by their case.
    unknown = ("extra", "detection")
    text.header = [name if name in unknown else change(name) for name in text.header]
    text.draft.readable = False
    text.say(f"a header like {change('ra')!r}")


def _infinite(draw: random.Random, text: TextFile) -> None:
    row = text.pick()
    names = [name for name in text.numbers if name in ("ra", "dec", "g_val", "r_err")]
    if row is None or not names:
        return
    name, word = draw.choice(names), draw.choice(["inf", "-inf", "Infinity", "1e400", "nan"])
    text.set(row, name, word)
    text.damage(row, f"{name} is {word}", "either" if "_" in name else "quarantined")
    text.say(f"row {row + 1}: {name} is {word}")
    text.draft.readable = False


def _ids_otherwise(draw: random.Random, text: TextFile) -> None:
    """Whole numbers with a sign or blanks."""
    if "objid" not in text.numbers:
        return
    change = draw.choice([" {}", "{} ", "+{}"])
    for row in text.free():
        if text.value(row, "objid").isdigit():
            text.set(row, "objid", change.format(text.value(row, "objid")))
    text.draft.readable = False
    text.say(f"ids like {change!r}")


def _no_column(draw: random.Random, text: TextFile) -> None:
    names = [one for one in ("objid", "ra", "dec", "r_err", "number") if one in text.header]
    if not names:
        return
    name = draw.choice(names)
    text.header[text.header.index(name)] = "other"
    text.draft.refuse("must", name)
    text.draft.readable = False
    text.say(f"no column {name}")


def _column_twice(draw: random.Random, text: TextFile) -> None:
    name = draw.choice(["g_val", "r_err"])
    other = next((one for one in ("flag", "remark", "zspec") if text.draft.has(one)), None)
    if other is None or name not in text.header or other not in text.header:
        return
    text.header[text.header.index(other)] = name
    text.draft.refuse("must", name)
    text.draft.readable = False
    text.say(f"column {name} twice")


def _comments(draw: random.Random, text: TextFile) -> None:
    end = text.ends[0]
    text.before = draw.choice(["# made by hand", "\n# a\n\n#b", "#"]).replace("\n", end) + end
    text.draft.readable = False
    text.say("comments before the header")


def _cut(draw: random.Random, text: TextFile) -> None:
    text.cut = True
    text.draft.readable = False


TEXT_DEFECTS = (
    *(_open_quote, _two_strays, _legitimate_quotes, _line_ends, _bad_number) * 3,
    *(_after_closing, _quoted_numbers, _blank_lines, _values_too_few_or_many, _nulls, _cut) * 2,
    _written_otherwise, _ids_as_floats, _sexagesimal, _mark, _latin_1, _utf_16, _nul, _empty,
    _header_spelling, _infinite, _ids_otherwise,
    _header_alone, _no_column, _column_twice, _comments, _trailing_delimiters, _no_final_end,
)  # fmt: skip
