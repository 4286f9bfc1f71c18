"""Where the records of a text end: by lines and a rule for quotes, before any parser sees them.

A quote opens a value only where a field begins, and then stands for everything up to the quote
that closes it, before a delimiter or the end of a line; two quotes inside are one. A value that
goes over several lines must close so, its record must have as many fields as there are columns, and
none of the lines it takes may be a record by itself. A quote that does otherwise costs its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from galbatch.readers.scalars import NULLS

OPEN = "a quote opens and does not close"
AFTER = "text after a closing quote"
ZERO = "holds a zero byte: the file may be damaged"

_LF, _CR, _QUOTE, _SPACE = b'\n\r" '
_PART = 1 << 18
_BLANK = b" \t\v\f"
_NULLS = frozenset(null.encode() for null in NULLS)
# From behind the quote that opens up to the one that closes.
_QUOTED = re.compile(rb'(?:[^"]++|"")*+')
_LINE_END = re.compile(rb"\n|\r\n?")


@dataclass(frozen=True)
class RecordBlock:
    """Some whole records, one after the other.

    Parameters
    ----------
    text : bytes
        Those that are sound, and empty lines.
    records : int
        How many there are, with the damaged ones.
    damaged : mapping of int to str
        Number (1 is the first of the block) of each record that is not in `text`, and why.
    spans : bool
        Whether a value in `text` goes over several lines.
    """

    text: bytes
    records: int
    damaged: Mapping[int, str] = field(default_factory=dict)
    spans: bool = False

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number of each record in `text`: 1 is the first of the block."""
        found = np.arange(1, self.records + 1, dtype=np.int64)
        return np.delete(found, [number - 1 for number in self.damaged]) if self.damaged else found


def first_line(data: bytes, *, ended: bool) -> int:
    """Where the first line ends: behind CR, LF or both; 0 where that is not known yet.

    Parameters
    ----------
    data : bytes
    ended : bool
        Whether nothing follows.
    """
    found = _LINE_END.search(data)
    if found is None or (not ended and _undecided(data) and found.end() == len(data)):
        return len(data) if ended else 0
    return found.end()


def whole_lines(data: bytes, *, ended: bool) -> int:
    """Where the last whole line ends; 0 for none."""
    if ended:
        return len(data)
    stop = len(data) - _undecided(data)
    end = data.rfind(b"\n", 0, stop)
    return max(end, data.rfind(b"\r", end + 1, stop)) + 1


def positions_of(data: bytes | NDArray[np.uint8], byte: int) -> NDArray[np.int64]:
    """Positions of a byte in data."""
    found = np.frombuffer(data, np.uint8)
    # In parts that fit the processor's cache: five times as fast.
    parts = range(0, max(len(found), 1), _PART)
    return np.concatenate([np.flatnonzero(found[at : at + _PART] == byte) + at for at in parts])


def _undecided(data: bytes) -> bool:
    """Whether a line ends with CR, and LF may follow."""
    return data.endswith(b"\r")


class Rule:
    """The rule for the records of one file.

    Parameters
    ----------
    delimiter : str
    fields : int
        In each record.
    numbers : sequence of int
        Positions of the fields that hold numbers.
    """

    def __init__(self, delimiter: str, fields: int, numbers: Sequence[int]) -> None:
        self._delimiter = delimiter.encode()
        self._fields, self._numbers = fields, tuple(numbers)
        self._opening = self._delimiter + b'"'
        self._blank = _BLANK.replace(self._delimiter, b"")
        mark = re.escape(self._delimiter)
        self._value = re.compile(rb'("(?:[^"]++|"")*+"|[^' + mark + rb"]*+)" + mark)
        self._border = np.zeros(256, dtype=bool)
        self._border[[_LF, _CR, *self._delimiter]] = True

    def cut(self, data: bytes, *, ended: bool, patient: bool = True) -> tuple[RecordBlock, int]:
        """The whole records that `data` begins with.

        Parameters
        ----------
        data : bytes
            Begins with a record.
        ended : bool
            Whether nothing follows.
        patient : bool
            Whether a quoted value that is still open may close in the data that follows.

        Returns
        -------
        tuple of RecordBlock and int
            And how many bytes they take; 0 where the first record is not whole.
        """
        whole = data[: whole_lines(data, ended=ended)]
        if not whole:
            return RecordBlock(b"", 0), 0
        lines = _Lines(whole)
        blank, spaces = self._blank_lines(lines)
        damaged = dict.fromkeys(lines.holding(0).tolist(), ZERO) if b"\0" in whole else {}
        inside: list[int] = []
        if b'"' in whole:
            open_end = not ended and patient
            stop = self._quotes(lines, damaged, inside, open_end=open_end)
            if stop < lines.count:
                return self.cut(whole[: lines.starts[stop]], ended=True)[0], int(lines.starts[stop])
        if not damaged and not inside and not len(spaces):
            return RecordBlock(whole, lines.count - int(blank.sum())), len(whole)
        record = ~blank
        record[inside] = False
        spaces = np.setdiff1d(spaces, inside)
        number = np.cumsum(record)
        text = lines.without(np.union1d(spaces, np.fromiter(damaged, np.int64, len(damaged))))
        reasons = {int(number[line]): damaged[line] for line in sorted(damaged)}
        return RecordBlock(text, int(number[-1]), reasons, bool(inside)), len(whole)

    def _blank_lines(self, lines: _Lines) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which lines are no records, and which of these hold blanks."""
        first = lines.bytes[lines.starts]
        blank = (first == _LF) | (first == _CR)
        likely = (first <= _SPACE) & ~blank
        if not likely.any():
            return blank, np.empty(0, np.int64)
        likely &= ~np.logical_or.reduceat(lines.bytes > _SPACE, lines.starts)
        spaces = [
            line for line in np.flatnonzero(likely).tolist() if not lines[line].strip(self._blank)
        ]
        blank[spaces] = True
        return blank, np.array(spaces, np.int64)

    def _quotes(
        self, lines: _Lines, damaged: dict[int, str], inside: list[int], *, open_end: bool
    ) -> int:
        """Find lines that quotes damage, and those inside a value; where to stop, undecided."""
        free = 0
        broken = dict(damaged)
        for line in self._suspicious(lines):
            if line < free or line in broken:
                continue
            fields, state = self._walk(lines[line])
            if state == "open":
                last = self._closing(lines, line, fields, broken)
                if last is None and open_end:
                    return line
                if last:
                    inside += range(line + 1, last + 1)
                    free = last + 1
                    continue
            if state != "sound":
                damaged[line] = OPEN if state == "open" else AFTER
        return lines.count

    def _suspicious(self, lines: _Lines) -> Iterator[int]:
        """Lines in which quotes do not open and close values in turn; the others are sound."""
        for first, stop in lines.parts():
            quotes = lines.positions_of(_QUOTE, first, stop)
            if len(quotes):
                yield from self._suspicious_among(lines, first, stop, quotes)

    def _suspicious_among(
        self, lines: _Lines, first: int, stop: int, quotes: NDArray[np.int64]
    ) -> list[int]:
        begin = np.searchsorted(quotes, lines.starts[first:stop])
        count = np.diff(begin, append=len(quotes))
        before = self._border[lines.bytes[quotes - 1]]
        before[0] |= quotes[0] == 0
        after = self._border[lines.bytes[np.minimum(quotes + 1, len(lines.bytes) - 1)]]
        after[-1] |= quotes[-1] == len(lines.bytes) - 1
        pair = np.diff(quotes) == 1
        closes = ((np.arange(len(quotes)) - np.repeat(begin, count)) & 1).astype(bool)
        fine = np.where(closes, after, before)
        # Two quotes inside a value.
        fine[:-1] |= closes[:-1] & pair
        fine[1:] |= ~closes[1:] & pair
        wrong = count % 2 == 1
        wrong[lines.of(quotes[~fine]) - first] = True
        # Where none stands at the begin of a field, they are part of values: 5", 12h30'15".
        opens = np.concatenate([[0], np.cumsum(before)])
        wrong &= opens[begin + count] > opens[begin]
        found: list[int] = (np.flatnonzero(wrong) + first).tolist()
        return found

    def _walk(self, text: bytes) -> tuple[int, Literal["sound", "open", "after"]]:
        """Number of fields in what begins a field, and how it ends."""
        fields, at = 1, 0
        while True:
            if text.startswith(b'"', at):
                end = self._end(text, at + 1)
                if end == len(text):
                    return fields, "open"
                if end + 1 == len(text):
                    return fields, "sound"
                if not text.startswith(self._delimiter, end + 1):
                    return fields, "after"
                fields, at = fields + 1, end + 1 + len(self._delimiter)
            else:
                opening = text.find(self._opening, at)
                if opening < 0:
                    return fields + text.count(self._delimiter, at), "sound"
                opening += len(self._delimiter)
                fields, at = fields + text.count(self._delimiter, at, opening), opening

    @staticmethod
    def _end(text: bytes, at: int) -> int:
        """Where the quote stands that closes a value, or where the text ends."""
        found = _QUOTED.match(text, at)
        return found.end() if found else at

    def _closing(
        self, lines: _Lines, first: int, fields: int, broken: Mapping[int, str]
    ) -> int | None:
        """Last line of the record that opens a value at the end of line `first`.

        0 where the quote is stray, None where it is open at the end.
        """
        for line in range(first + 1, lines.count):
            text = lines[line]
            if line in broken or self._is_record(text):
                return 0
            # As if the value began here.
            more, state = self._walk(b'"' + text)
            fields += more - 1
            if state == "sound" and fields == self._fields:
                return line
            if state != "open" or fields > self._fields:
                return 0
        return None

    def _is_record(self, text: bytes) -> bool:
        """Whether a line has all fields, and numbers where numbers belong."""
        if text.count(self._delimiter) + 1 < self._fields or not text.strip(self._blank):
            return False
        values = text.split(self._delimiter)
        if b'"' in text and self._walk(text)[1] == "sound":
            values = self._value.findall(text + self._delimiter)
        return len(values) == self._fields and all(
            _is_number_or_null(values[position]) for position in self._numbers
        )


class _Lines:
    """The lines of a text, which its last byte ends.

    Parameters
    ----------
    text : bytes, not empty
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.bytes = np.frombuffer(text, np.uint8)
        ends = positions_of(self.bytes, _LF) + 1
        if b"\r" in text:
            alone = positions_of(self.bytes, _CR)
            behind = self.bytes[np.minimum(alone + 1, len(text) - 1)]
            alone = alone[behind != _LF] + 1
            ends = np.sort(np.concatenate([ends, alone])) if len(alone) else ends
        if not len(ends) or ends[-1] < len(text):
            ends = np.append(ends, len(text))
        self.ends = ends
        self.starts = np.concatenate([[0], ends[:-1]])
        self.count = len(ends)

    def __getitem__(self, line: int) -> bytes:
        return self.text[self.starts[line] : self.ends[line]].rstrip(b"\r\n")

    def positions_of(self, byte: int, first: int, stop: int) -> NDArray[np.int64]:
        """Where a byte is in the lines from `first` to before `stop`."""
        start = int(self.starts[first])
        return np.flatnonzero(self.bytes[start : self.ends[stop - 1]] == byte) + start

    def parts(self) -> Iterator[tuple[int, int]]:
        """The lines in parts of about 256 KiB: the first of each, and the first behind it."""
        cuts = np.searchsorted(self.ends, np.arange(_PART, len(self.text), _PART)) + 1
        bounds = np.unique(np.concatenate([[0], cuts, [self.count]])).tolist()
        yield from pairwise(bounds)

    def of(self, positions_of: NDArray[np.int64]) -> NDArray[np.int64]:
        """The line of each byte."""
        return np.searchsorted(self.ends, positions_of, side="right")

    def holding(self, byte: int) -> NDArray[np.int64]:
        """The lines that hold a byte."""
        return np.unique(self.of(positions_of(self.bytes, byte)))

    def without(self, left_out: NDArray[np.int64]) -> bytes:
        """The text without some lines, in order."""
        starts = np.concatenate([[0], self.ends[left_out]]).tolist()
        ends = np.concatenate([self.starts[left_out], [len(self.text)]]).tolist()
        return b"".join(self.text[start:end] for start, end in zip(starts, ends, strict=True))


def _is_number_or_null(value: bytes) -> bool:
    value = value.strip(b' \t"')
    if value in _NULLS:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True
