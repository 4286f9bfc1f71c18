"""VOTable: the XML that the services of the Virtual Observatory answer with, plain or gzipped."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io.votable import converters, tree
from astropy.io.votable.exceptions import VOWarning
from astropy.utils.xml.iterparser import get_xml_iterator
from numpy.typing import NDArray

from galbatch.errors import DataError, GalbatchError, SpecError, did_you_mean
from galbatch.readers.base import Batch, Batches, FileColumn, Header
from galbatch.readers.conform import NULLS, make_batch
from galbatch.readers.door import broken, cut_short, kind, must_have, not_that, opened
from galbatch.readers.numpy_arrow import from_numpy
from galbatch.values import RejectedRow

Event = tuple[bool, str, Any, tuple[int, int]]

_TEXT = ("char", "unicodeChar")
_ELEMENTS = {
    "boolean": pa.bool_(), "bit": pa.bool_(), "unsignedByte": pa.uint8(), "short": pa.int16(),
    "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
}  # fmt: skip
_EMPTY = frozenset(word.lower() for word in NULLS) | {"nan"}
_BETWEEN = re.compile(r"[\s,]+")
_ENDS_EARLY = ("no element found", "unclosed token", "unclosed CDATA")
# What astropy raises over a document that is not as it should be.
_RAISED = (
    ValueError, LookupError, TypeError, AttributeError, EOFError, NotImplementedError,
    OverflowError, struct.error, VOWarning,
)  # fmt: skip


class VotableReader:
    """Reads a table that lies in the file as TABLEDATA, BINARY or BINARY2.

    Unlike the other readers this one holds the whole table in memory, in the columns asked for:
    astropy gives no row of a VOTable before it has read the last. Measured with astropy 8.0: as
    TABLEDATA the bytes of each number and one more (126 for an id, a position and 20 magnitudes),
    70 for a text of 12 letters; from BINARY and BINARY2 besides that 8.6 times the bytes of the
    file. 10,000 to 25,000 rows of 23 columns are read in a second.

    Rows with a cell that does not hold what its column should (text for a number, a number too
    large for its type) are rejected. Empty cells are null, text too: a VOTable cannot tell.

    Parameters
    ----------
    table : int or str, optional
        Number (from 0), name or ID of the table; by default the first one that has columns.
    """

    def __init__(self, table: int | str | None = None) -> None:
        self.table = table

    def header(self, path: str) -> Header:
        """The columns of the table, with their units."""
        columns = _Walk(path, self.table).header()
        return Header(
            tuple(FileColumn(_name(one), _type(one), str(one.unit or "")) for one in columns)
        )

    def batches(self, path: str, types: Mapping[str, pa.DataType], rows: int) -> Batches:
        """Read the columns in `types`, at most `rows` rows at a time."""
        walk = _Walk(path, self.table)
        return Batches(self._read(path, types, rows, walk), lambda: walk.rows)

    def _read(
        self, path: str, types: Mapping[str, pa.DataType], rows: int, walk: _Walk
    ) -> Iterator[Batch]:
        header = _Walk(path, self.table).header()
        found = {_name(column): column for column in header}
        must_have(path, types, list(found))
        for name, wanted in types.items():
            problem = _problem(found[name])
            if problem and not pa.types.is_null(wanted):
                raise SpecError(path, f"column '{name}': {problem}")
        types = {name: types[name] for name in types if not _problem(found[name])}
        numbers = [n for n, column in enumerate(header) if _name(column) in types]
        array = walk.data(numbers)
        keys = {_name(header[n]): key for n, key in zip(numbers, array.dtype.names, strict=False)}
        for start in range(0, len(array), rows):
            row = np.arange(start + 1, min(start + rows, len(array)) + 1, dtype=np.int64)
            rejected = tuple(walk.rejected[n] for n in row.tolist() if n in walk.rejected)
            row = row[~np.isin(row, [one.row for one in rejected])]
            arrays = {}
            for name in types:
                part = array[keys[name]][row - 1]
                arrays[name] = _arrow(part.data, np.ma.getmaskarray(part), found[name])
            yield make_batch(path, row, arrays, types, rejected)
        walk.check_end(len(array))


class _Walk:
    """One reading of a file, by astropy, as far as the end of the table wanted.

    astropy asks for one element of the XML after the other. On their way to it they are watched
    here, because it would not tell in which table and row it is, because it would read all tables
    there are, and because it would fetch what lies elsewhere.
    """

    def __init__(self, path: str, wanted: int | str | None) -> None:
        self.path, self.wanted = path, wanted
        self.rows = 0
        self.rejected: dict[int, RejectedRow] = {}
        self._tables: list[str] = []
        self._declared: int | None = None
        self._failure = ""
        self._found: tree.TableElement | None = None

    def header(self) -> Sequence[tree.Field]:
        """The columns of the table, without reading its rows."""
        try:
            columns: Sequence[tree.Field] = self._parse(None).all_fields
        except _RAISED as error:
            text = _first_line(error)
            if any(words in text for words in _ENDS_EARLY):
                raise cut_short(self.path, 0, "the VOTable") from error
            problem = f"the VOTable's header cannot be understood: {text}"
            raise SpecError(self.path, problem) from error
        return columns

    def data(self, columns: Sequence[int]) -> np.ma.MaskedArray[Any, Any]:
        """The rows of the table, in the columns with these numbers (sorted)."""
        try:
            array: np.ma.MaskedArray[Any, Any] = self._parse(columns).array
        except _RAISED as error:
            # The row that it was in when it broke is not whole.
            row = max(self.rows - 1, 0)
            if any(words in _first_line(error) for words in _ENDS_EARLY):
                raise cut_short(self.path, row, "the VOTable", self._declared) from error
            raise broken(self.path, error, row) from error
        return array

    def check_end(self, rows: int) -> None:
        """Tell of a table that is well-formed and lacks rows all the same.

        Raises
        ------
        DataError
            If it has fewer than it says, or the service that wrote it failed on the way.
        """
        if self._failure:
            problem = f"the service that wrote it failed after row {rows:,}: {self._failure}"
            raise DataError(self.path, problem, "fetch it again")
        if rows < max(self.rows, self._declared or 0):
            raise cut_short(self.path, rows, "the VOTable", self._declared)

    def _parse(self, columns: Sequence[int] | None) -> tree.TableElement:
        stream, start = opened(self.path)
        is_xml = start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
        if not is_xml or kind(start) not in ("VOTable", "XML", ""):
            raise not_that(self.path, "VOTable", start)
        # Not invalid="mask": it shifts the cells behind a bad one by a column (astropy 8.0).
        config = {"verify": "ignore", "invalid": "exception", "filename": self.path,
                  "columns": list(columns) if columns else None}  # fmt: skip
        try:
            with stream:
                stream.read(start.index(b"<"))  # services write empty lines before the first
                with get_xml_iterator(stream.read) as events:
                    document = tree.VOTableFile(config=config, pos=(1, 1))
                    document.parse(self._watch(events, document, config, columns), config)
        except GalbatchError:
            raise
        except OSError as error:
            raise broken(self.path, error, max(self.rows - 1, 0)) from error
        if self._found is None:
            raise self._no_table()
        return self._found

    def _watch(
        self,
        events: Iterator[Event],
        document: tree.VOTableFile,
        config: Mapping[str, Any],
        columns: Sequence[int] | None,
    ) -> Iterator[Event]:
        """Pass on the elements of headers, and the rows of the table wanted (if any `columns`)."""
        before: list[tree.TableElement] = []
        meant = failed = False
        root = ""
        for event in events:
            start, tag, data, position = event
            if not root and start and tag != "xml":
                root = tag
                if root != "VOTABLE":
                    problem = f"expected VOTable, this is XML of another kind: <{root}>"
                    raise SpecError(self.path, problem)
            if tag == "TABLE" and start:
                meant = self._meets(data)
                before = list(document.iter_tables())
            elif tag == "INFO" and start:
                words = [str(data.get(key, "")).upper() for key in ("name", "value")]
                failed = words == ["QUERY_STATUS", "ERROR"]
            elif tag == "INFO" and failed:
                self._failure = " ".join(data.split())[:200] or "it does not say why"
            elif meant and (tag == "DATA" or tag == "TABLE"):
                inside = (one for one in document.iter_tables() if one not in before)
                table = next(inside, None)
                if table is not None and table.all_fields:
                    self._found, meant = table, False
                    self._declared = table.nrows
                    if columns is None:
                        if tag == "DATA":
                            self._find_rows(events)
                        yield False, "TABLE", "", position
                        return
                    if tag == "DATA":
                        for column in table.all_fields:
                            self._guard(column, config)
                        self._count_rows(table.all_fields[0].converter)
                        yield event
                        yield from self._pass_rows(events)
                        continue
            if tag == "DATA":
                for event in events:
                    if event[1] == "DATA":
                        break
                continue
            yield event
            # What follows the table may say that the service failed on the way.
            if tag == "RESOURCE" and not start and self._found is not None:
                return

    def _meets(self, attributes: Mapping[str, str]) -> bool:
        """Whether the table that begins is the one wanted."""
        names = [attributes[key] for key in ("name", "ID") if attributes.get(key)]
        number = len(self._tables)
        self._tables.append(names[0] if names else str(number))
        if self._found is not None:
            return False
        if isinstance(self.wanted, str):
            return self.wanted.strip().lower() in (name.lower() for name in names)
        return self.wanted is None or self.wanted == number

    def _find_rows(self, events: Iterator[Event]) -> None:
        """See that the rows lie in the file."""
        for event in events:
            self._refuse_elsewhere(event)
            if event[1] in ("TABLEDATA", "STREAM", "DATA"):
                return

    def _pass_rows(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            start, tag, _, _ = event
            if start and tag == "TR":
                self.rows += 1
            elif start:
                self._refuse_elsewhere(event)
            yield event
            if tag == "DATA":
                return

    def _refuse_elsewhere(self, event: Event) -> None:
        start, tag, data, _ = event
        if start and tag == "STREAM" and "href" in data:
            problem = f"its rows are in another place: {data['href']}"
            raise SpecError(self.path, problem, "fetch that, and name it in source.paths")
        if start and tag in ("FITS", "PARQUET"):
            problem = f"its rows are {tag} inside XML, which galbatch does not read"
            raise SpecError(self.path, problem, "convert it: stilts tcopy FILE catalogue.fits")

    def _count_rows(self, first: converters.Converter) -> None:
        """Count the rows of BINARY: astropy drops the last without a word when the stream ends."""
        binparse = first.binparse

        def counting(read: Any) -> Any:
            value = binparse(read)
            self.rows += 1
            return value

        first.binparse = counting

    def _guard(self, column: tree.Field, config: Mapping[str, Any]) -> None:
        """Have astropy read the cells of a column strictly, and note the rows where it cannot.

        By itself it gives up the whole file, or makes 32767 of 99999, 0 of an empty cell (before
        VOTable 1.3), null of a word, and of a text what fits in the length its column declares.
        """
        converter, name = column.converter, _name(column)
        if column.datatype in _TEXT:
            converter.format = "O"
            converter.parse = lambda text, config=None, position=None: (text, False)
            return
        if _problem(column):
            return
        strictly = {**config, "verify": "exception"}
        strict = converters.get_converter(column, strictly)
        expected = _expected(column)

        def parse(text: str, config: object = None, position: object = None) -> tuple[Any, Any]:
            words = _BETWEEN.split(text.strip()) if column.arraysize else [text.strip()]
            if len(words) == 1 and words[0].lower() in _EMPTY:
                return strict.default, True
            if column.datatype in ("float", "double"):
                words = ["nan" if word.lower() in _EMPTY else word for word in words]
            try:
                value: tuple[Any, Any] = strict.parse(" ".join(words), strictly, position)
            except _RAISED:
                shown = text if len(text) <= 40 else text[:37] + "..."
                reason = f"column '{name}': expected {expected}, got {shown!r}"
                row = RejectedRow(self.path, self.rows, reason)
                self.rejected.setdefault(self.rows, row)
                return strict.default, True
            return value

        converter.parse = parse

    def _no_table(self) -> SpecError:
        if self._failure:
            return SpecError(self.path, f"holds no rows: the service answered '{self._failure}'")
        if not self._tables:
            return SpecError(self.path, "the VOTable holds no table")
        if self.wanted is None:
            return SpecError(self.path, "no table of the VOTable has columns")
        hint = did_you_mean(str(self.wanted), self._tables)
        if not hint or isinstance(self.wanted, int):
            hint = f"tables in it, from 0: {', '.join(self._tables)}"
        return SpecError(self.path, f"there is no table '{self.wanted}' with columns", hint)


def _name(column: tree.Field) -> str:
    return str(column.name or column.ID)


def _type(column: tree.Field) -> pa.DataType | None:
    if _problem(column):
        return None
    if column.datatype in _TEXT:
        return pa.string()
    one = _ELEMENTS[column.datatype]
    if not column.arraysize:
        return one
    shape = str(column.arraysize)
    return pa.list_(one) if "*" in shape else pa.list_(one, math.prod(map(int, shape.split("x"))))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _problem(column: tree.Field) -> str:
    """Why a column cannot be read, or nothing."""
    return "its numbers are complex" if column.datatype not in (*_ELEMENTS, *_TEXT) else ""


def _expected(column: tree.Field) -> str:
    what = {"boolean": "true or false", "bit": "0 or 1", "float": "a number", "double": "a number"}
    one = what.get(column.datatype, f"a whole number ({_ELEMENTS[column.datatype]})")
    if not column.arraysize:
        return one
    return "numbers" if "*" in column.arraysize else f"{column.arraysize} numbers"


def _arrow(values: NDArray[Any], null: NDArray[Any], column: tree.Field) -> pa.Array:
    if column.datatype in _TEXT:
        text = pa.array([value or None for value in values.tolist()], pa.string())
        return pc.utf8_rtrim_whitespace(text)
    if values.dtype.kind != "O":
        return from_numpy(values, np.asarray(null, dtype=bool))
    rows = [np.ma.ravel(value) for value in values.tolist()]
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    null = np.concatenate([np.ma.getmaskarray(row) for row in rows])
    flat = from_numpy(np.concatenate([row.data for row in rows]), null)
    numbers = flat.cast(_ELEMENTS[column.datatype], safe=False)
    return pa.ListArray.from_arrays(pa.array(offsets), numbers, mask=pa.array(lengths == 0))
