"""Numbers as they stand on the page."""

from __future__ import annotations

import math

import pytest

from galbatch.report.words import counted, decimals, duration, percent, sentence, thousands


def test_numbers() -> None:
    assert thousands(1234567) == "1\u202f234\u202f567"
    assert decimals(-0.01234) == "\u22120.0123"
    assert decimals(-0.0) == "0.0000" and decimals(0.0003) == "0.0003"
    assert decimals(-0.000031) == "\u22123.1e\u221205"
    assert decimals(math.nan) == "–"
    assert percent(0.01234) == "1.23\u202f%"
    assert percent(math.nan) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "–"), (4.44, "4.4 s"), (59.97, "1 min 00 s"), (312, "5 min 12 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_words() -> None:
    assert counted(1, "rows") == "1 row"
    assert counted(2, "partition") == "2 partitions"
    assert counted(1200, "delivery") == "1\u202f200 deliveries"
    assert sentence("labelled rows. ") == "Labelled rows."
    assert sentence("") == ""
