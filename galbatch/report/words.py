"""Names of classes and number formats of the page."""

from __future__ import annotations

import math

from galbatch import errors

CLASS_MEMBERS = {"galaxy": "galaxies", "star": "stars", "qso": "quasars"}
"""Members of the classes, by their names in `values.CLASSES`."""

NOTHING = "–"


def thousands(number: int) -> str:
    """``12,345`` with a thin space, as astronomers print it."""
    return f"{number:,}".replace(",", "\u202f")


def decimals(number: float, places: int = 4) -> str:
    """A fixed number of decimals with a true minus sign; a dash where there is no number.

    What these would hardly show is written with a power of ten: ``3.1e-05``.
    """
    if not math.isfinite(number):
        return NOTHING
    few = 0 < abs(number) < 2 * 10.0**-places
    text = f"{number:.1e}" if few else f"{number + 0.0:.{places}f}"
    return text.replace("-", "\u2212")


def percent(fraction: float, places: int = 2) -> str:
    """A fraction as a percentage; a dash where there is no number.

    What would be shown as nothing is written with a power of ten.
    """
    if not math.isfinite(fraction):
        return NOTHING
    value = 100 * fraction
    tiny = 0 < abs(value) < 0.5 * 10.0**-places
    text = decimals(value, places) if tiny else f"{value + 0.0:.{places}f}".replace("-", "\u2212")
    return f"{text}\u202f%"


def duration(seconds: float) -> str:
    """``0.4 s``, ``3 min 20 s``, ``2 h 05 min``; a dash where it was not measured."""
    if seconds <= 0:
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(number: int, what: str) -> str:
    """``1 row``, ``25 rows``, from ``row`` or ``rows``."""
    return errors.counted(number, what.removesuffix("s")).replace(",", "\u202f")


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip().rstrip('.')}." if text else ""
