"""A VOTable read by astropy, whose XML elements are checked as they come."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io.votable import converters, tree
from astropy.io.votable.exceptions import VOWarning
from astropy.utils.xml.iterparser import get_xml_iterator

from galbatch.errors import DataError, GalbatchError, SpecError
from galbatch.readers.opening import broken, cut_short, kind, not_that, opened
from galbatch.readers.scalars import NULLS
from galbatch.readers.tables import TableInfo
from galbatch.readers.votable_columns import TEXT, bytes_in_cell, expected_of, name_of, problem_of
from galbatch.values import RejectedRow

Event = tuple[bool, str, Any, tuple[int, int]]
_Watch = Callable[[Iterator[Event], tree.VOTableFile, Mapping[str, Any]], Iterator[Event]]

_NOT_WELL = ("ERROR", "OVERFLOW")
_BASE64 = re.compile(r"[A-Za-z0-9+/ \r\n\t]*+=?[ \r\n\t]*+=?[ \r\n\t]*+")
_UNPACKED_BYTES = 10_000
"""Of one byte in a packed file, at most: no table is packed tighter."""
_EMPTY = frozenset(text.lower() for text in NULLS) | {"nan"}
_BETWEEN = re.compile(r"[\s,]+")
_ENDS_EARLY = ("no element found", "unclosed token", "unclosed CDATA")
# What astropy raises over a document that is not as it should be.
_RAISED = (
    ValueError, LookupError, TypeError, AttributeError, EOFError, NotImplementedError,
    OverflowError, struct.error, VOWarning,
)  # fmt: skip


@dataclass(frozen=True)
class FoundTable:
    """A table of a file: its number and place in it, and what is said of it there."""

    number: int
    names: tuple[str, ...]
    resources: tuple[int, ...]
    columns: Sequence[tree.Field]
    rows: int | None
    is_metadata: bool
    problem: tuple[str, str] | None

    @property
    def info(self) -> TableInfo:
        """The table, for those who choose one."""
        return TableInfo(self.names, self.number, self.rows, len(self.columns), self.is_metadata)


@dataclass(frozen=True)
class QueryState:
    """What a service says of its answer: the resources that it stands in, and its problem."""

    resources: tuple[int, ...]
    status: str
    text: str


class Walk:
    """One reading of a file, by astropy.

    astropy asks for one element of the XML after the other. They are checked here first, because
    astropy does not tell in which table and row it is, reads all tables of the file, and fetches
    rows from other addresses.

    Parameters
    ----------
    path : str
    number : int, optional
        The table whose rows shall be read.
    before : int
        Rows of the file that come before those of this table.
    """

    def __init__(self, path: str, number: int | None = None, before: int = 0) -> None:
        self.path, self.number, self.before = path, number, before
        self.rows = 0
        self.rejected: dict[int, RejectedRow] = {}
        self._tables: list[FoundTable] = []
        self._states: list[QueryState] = []
        self._place: list[tuple[int, bool]] = []
        self._resources = 0
        self._declared: int | None = None
        self._most_rows = 0
        self._columns = self._row_bytes = self._varying_bytes = 0
        self._stream_bytes: int | None = None
        self._element: tree.TableElement | None = None

    def contents(self, *, whole: bool) -> tuple[list[FoundTable], list[QueryState]]:
        """Tables and states, without the rows.

        Parameters
        ----------
        whole : bool
            Whether to look at the whole of the file; otherwise as far as the first row.
        """
        try:
            self._parse(lambda events, document, _: self._look(events, document, whole), None)
        except _RAISED as error:
            text = first_error_line(error)
            if any(words in text for words in _ENDS_EARLY):
                raise cut_short(self.path, 0, "the VOTable") from error
            problem = f"the VOTable's header cannot be understood: {text}"
            raise SpecError(self.path, problem) from error
        return self._tables, self._states

    def data(self, columns: Sequence[int]) -> np.ma.MaskedArray[Any, Any]:
        """The rows of the table, in the columns with these numbers (sorted)."""
        try:
            self._parse(self._pass_table, columns)
        except _RAISED as error:
            # The row that it was in when it broke is not whole.
            row = self.before + max(self.rows - 1, 0)
            if any(words in first_error_line(error) for words in _ENDS_EARLY):
                raise cut_short(self.path, row, "the VOTable", self._declared) from error
            raise broken(self.path, error, row) from error
        if self._element is None:
            raise DataError(self.path, "changed while it was read", "try again")
        array: np.ma.MaskedArray[Any, Any] = self._element.array
        return array

    def check_end(self, rows: int) -> None:
        """Tell of a table that is well-formed and has other rows than it says all the same.

        Raises
        ------
        DataError
        """
        if rows < max(self.rows, self._declared or 0):
            raise cut_short(self.path, self.before + rows, "the VOTable", self._declared)
        if self._declared is not None and rows > self._declared:
            problem = f"the table says that it has {self._declared:,} rows, it has {rows:,}"
            raise DataError(self.path, problem, "fetch it again")
        if self._stream_bytes not in (None, rows * self._row_bytes + self._varying_bytes):
            raise cut_short(self.path, self.before + rows, "the VOTable's stream", self._declared)

    def _parse(self, watch: _Watch, columns: Sequence[int] | None) -> None:
        stream, start = opened(self.path)
        is_xml = start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and b"\0" not in start
        if not is_xml or kind(start) not in ("VOTable", "XML", ""):
            raise not_that(self.path, "VOTable", start)
        packed = not isinstance(stream, pa.NativeFile)
        self._most_rows = Path(self.path).stat().st_size * (_UNPACKED_BYTES if packed else 1)
        # Not invalid="mask": it shifts the cells behind a bad one by a column (astropy 8.0).
        config = {"verify": "ignore", "invalid": "exception", "filename": self.path,
                  "columns": list(columns) if columns else None}  # fmt: skip
        try:
            with stream:
                stream.read(start.index(b"<"))  # services write empty lines before the first
                with get_xml_iterator(stream.read) as events:
                    document = tree.VOTableFile(config=config, pos=(1, 1))
                    document.parse(watch(self._follow(events), document, config), config)
        except GalbatchError:
            raise
        except OSError as error:
            row = self.before + max(self.rows - 1, 0)
            raise broken(self.path, error, row) from error

    def _follow(self, events: Iterator[Event]) -> Iterator[Event]:
        """Note the place in the file, and what services say about their answers."""
        root, status = "", ""
        for event in events:
            start, tag, data, position = event
            if not root and start and tag != "xml":
                root = tag
                if root != "VOTABLE":
                    problem = f"expected VOTable, this is XML of another kind: <{root}>"
                    raise SpecError(self.path, problem)
            if tag == "RESOURCE" and start:
                self._resources += 1
                self._place.append((self._resources, str(data.get("type", "")) == "meta"))
            elif tag == "RESOURCE":
                self._place.pop()
            elif tag == "TABLE" and start:
                data = self._plausible(data)
            elif tag == "INFO" and start:
                name, value = (str(data.get(key, "")).strip().upper() for key in ("name", "value"))
                status = value if name == "QUERY_STATUS" and value in _NOT_WELL else ""
            elif tag == "INFO" and status:
                text = " ".join(data.split())[:200]
                if status == "ERROR":
                    text = text or "it does not say why"
                self._states.append(QueryState(self._here, status, text))
                status = ""
            yield start, tag, data, position

    @property
    def _here(self) -> tuple[int, ...]:
        return tuple(number for number, _ in self._place)

    def _plausible(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Without a number of rows that the file cannot hold: astropy makes room for them."""
        text = str(attributes.get("nrows", "")).strip()
        declared = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
        if self._element is None:
            self._declared = declared
        if declared is not None and declared <= self._most_rows:
            return dict(attributes)
        return {key: value for key, value in attributes.items() if key != "nrows"}

    def _look(
        self, events: Iterator[Event], document: tree.VOTableFile, whole: bool
    ) -> Iterator[Event]:
        """Pass on all but rows, and list the tables."""
        before: list[tree.TableElement] = []
        names: tuple[str, ...] = ()
        inside = False
        for event in events:
            start, tag, data, position = event
            if tag == "TABLE" and start:
                names = tuple(str(data[key]) for key in ("name", "ID") if data.get(key))
                before, inside = list(document.iter_tables()), True
            elif inside and (tag == "DATA" or tag == "TABLE"):
                inside = False
                new = (one for one in document.iter_tables() if one not in before)
                element = next(new, None)
                columns = element.all_fields if element is not None else ()
                stop = bool(columns) and not whole
                rows, problem = self._over_rows(events, stop) if tag == "DATA" else (0, None)
                is_metadata = any(is_meta for _, is_meta in self._place)
                number = len(self._tables)
                self._tables.append(
                    FoundTable(number, names, self._here, columns, rows, is_metadata, problem)
                )
                if stop:
                    yield False, "TABLE", "", position
                    return
                if tag == "DATA":
                    continue
            elif tag == "DATA":
                continue
            yield event

    def _over_rows(
        self, events: Iterator[Event], stop: bool
    ) -> tuple[int | None, tuple[str, str] | None]:
        """Go to the end of DATA (or into it); how many rows it holds, and why not to read them."""
        rows: int | None = None
        for event in events:
            start, tag, data, _ = event
            problem = _elsewhere(event)
            if problem or (start and stop and tag in ("TABLEDATA", "STREAM")):
                return self._declared, problem
            if start and tag == "TABLEDATA":
                rows = 0
            elif start and tag == "TR":
                rows = (rows or 0) + 1
            elif tag == "STREAM" and not start:
                rows = self._declared if data.strip() else 0
            elif tag == "DATA":
                break
        return rows, None

    def _pass_table(
        self, events: Iterator[Event], document: tree.VOTableFile, config: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Pass on all but the rows of other tables than the one wanted, up to its resource's end.

        What comes behind that does not matter; what is behind the table has to be whole, or the
        file was cut short.
        """
        before: list[tree.TableElement] = []
        number, meant = -1, False
        for event in events:
            start, tag, _, _ = event
            if tag == "TABLE" and start:
                number += 1
                meant, before = number == self.number, list(document.iter_tables())
            elif meant and (tag == "DATA" or tag == "TABLE"):
                meant = False
                new = (one for one in document.iter_tables() if one not in before)
                self._element = next(new, None)
                if tag == "DATA" and self._element is not None:
                    for column in self._element.all_fields:
                        self._guard(column, config)
                    self._count(self._element.all_fields)
                    yield event
                    yield from self._pass_rows(events)
                    continue
            if tag == "DATA":
                for event in events:
                    if event[1] == "DATA":
                        break
                continue
            yield event
            if tag == "RESOURCE" and not start and self._element is not None:
                return

    def _pass_rows(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            start, tag, data, _ = event
            if start and tag == "TR":
                self.rows += 1
            elif start and tag == "BINARY2":
                # Each row begins with a bit for each column.
                self._row_bytes += (self._columns + 7) // 8
            elif tag == "STREAM" and not start:
                if not _BASE64.fullmatch(data):
                    # Python would leave out what it does not know, or end there.
                    raise DataError(
                        self.path, "the VOTable's stream is no base64", "fetch it again"
                    )
                letters = len(data) - sum(data.count(blank) for blank in " \r\n\t")
                self._stream_bytes = letters // 4 * 3 - data.count("=")
            yield event
            if tag == "DATA":
                return

    def _count(self, columns: Sequence[tree.Field]) -> None:
        """Count rows and bytes of BINARY: astropy drops without a word what is no whole row."""
        self._columns = len(columns)
        for column in columns:
            size = bytes_in_cell(column)
            self._row_bytes += size or 0
            if size is None:
                column.converter.binparse = self._counting_bytes(column.converter.binparse)
        first = columns[0].converter
        binparse = first.binparse

        def counting(read: Any) -> Any:
            value = binparse(read)
            self.rows += 1
            return value

        first.binparse = counting

    def _counting_bytes(self, binparse: Any) -> Any:
        def counting(read: Any) -> Any:
            size = 0

            def counted(wanted: int) -> Any:
                nonlocal size
                found = read(wanted)
                size += wanted
                return found

            # Raises where the stream ends: a cell that is not whole is no cell.
            value = binparse(counted)
            self._varying_bytes += size
            return value

        return counting

    def _guard(self, column: tree.Field, config: Mapping[str, Any]) -> None:
        """Have astropy read the cells of a column strictly, and note the rows where it cannot.

        By itself it gives up the whole file, or makes 32767 of 99999, 0 of an empty cell (before
        VOTable 1.3), null of a word, and of a text what fits in the length its column declares.
        """
        converter, name = column.converter, name_of(column)
        if column.datatype in TEXT:
            converter.format = "O"
            converter.parse = lambda text, config=None, position=None: (text, False)
            return
        if problem_of(column):
            return
        strictly = {**config, "verify": "exception"}
        strict = converters.get_converter(column, strictly)
        expected = expected_of(column)

        def parse(text: str, config: object = None, position: object = None) -> tuple[Any, Any]:
            values = _BETWEEN.split(text.strip()) if column.arraysize else [text.strip()]
            if len(values) == 1 and values[0].lower() in _EMPTY:
                return strict.default, True
            if column.datatype in ("float", "double"):
                values = ["nan" if value.lower() in _EMPTY else value for value in values]
            try:
                found: tuple[Any, Any] = strict.parse(" ".join(values), strictly, position)
            except _RAISED:
                shown = text if len(text) <= 40 else text[:37] + "..."
                reason = f"column '{name}': expected {expected}, got {shown!r}"
                row = RejectedRow(self.path, self.before + self.rows, reason)
                self.rejected.setdefault(self.rows, row)
                return strict.default, True
            return found

        converter.parse = parse


def _elsewhere(event: Event) -> tuple[str, str] | None:
    """Why rows cannot be read here, and what to do, if that is what an element says."""
    start, tag, data, _ = event
    if start and tag == "STREAM" and "href" in data:
        problem = f"its rows are in another place: {data['href']}"
        return problem, "fetch that, and name it in source.paths"
    if start and tag in ("FITS", "PARQUET"):
        problem = f"its rows are {tag} inside XML, which galbatch does not read"
        return problem, "convert it: stilts tcopy FILE catalogue.fits"
    return None


def first_error_line(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
