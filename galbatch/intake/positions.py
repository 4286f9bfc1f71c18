"""Positions in degrees, from any unit of angle and from sexagesimal text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from galbatch.columns import is_text
from galbatch.spec import units

LOWEST_RA, HIGHEST_RA = -180.0, 360.0
"""Right ascensions run from 0 to 360 degrees, or from -180 to 180."""
_SEXAGESIMAL = r"^[+-]?\d{1,3}\s*[:\shd°]\s*[0-5]?\d\s*[:\sm'′]\s*[0-5]?\d(\.\d*)?\s*[s\"″]?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_HOURS_TO_DEGREES = 15.0


def is_sexagesimal(sample: pa.ChunkedArray) -> bool:
    """Whether the first values of a column of text are sexagesimal (most of them)."""
    text = pc.utf8_trim_whitespace(sample)
    known = text.filter(pc.not_equal(text, ""))
    if not len(known):
        return False
    matches = pc.sum(pc.match_substring_regex(known, _SEXAGESIMAL)).as_py() or 0
    return bool(2 * matches > len(known))


def degrees(column: pa.ChunkedArray, unit: str, *, hours: bool) -> NDArray[np.float64]:
    """An angle in degrees.

    Parameters
    ----------
    column : pyarrow.ChunkedArray, n rows
        Numbers, or text that holds numbers or sexagesimal angles.
    unit : str
        Of the numbers: any unit of angle; empty for degrees. Hours (of time, too) are of angle.
    hours : bool
        Whether sexagesimal text is in hours, as right ascension is.

    Returns
    -------
    array, shape (n,), float64
        NaN where there is no number.

    Raises
    ------
    ValueError
        If `unit` is no unit of angle.
    """
    per_unit = degrees_per_unit(unit)
    if is_text(column.type):
        return _from_text(column, per_unit, hours)
    values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy()
    return values if per_unit == 1.0 else values * per_unit


def degrees_per_unit(unit: str) -> float:
    """How many degrees one of a unit of angle is; 1 for the empty unit.

    Raises
    ------
    ValueError
        If it is no unit of angle.
    """
    if not unit:
        return 1.0
    if units.is_hours(unit):
        return _HOURS_TO_DEGREES
    found = units.factor(unit, "deg")
    if found is None:
        raise ValueError(f"'{unit}' is no unit of angle")
    return found


def wrapped(ra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right ascension from 0 to below 360 degrees."""
    turned = np.mod(np.where(np.isfinite(ra), ra, np.nan), 360.0)
    # A tiny negative angle rounds to 360 itself.
    return np.where(turned >= 360.0, 0.0, turned)


def _from_text(column: pa.ChunkedArray, per_unit: float, hours: bool) -> NDArray[np.float64]:
    text = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    text = text if isinstance(text, pa.Array) else pa.concat_arrays(text.chunks)
    plain = pc.utf8_ltrim(text, characters="+")
    number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
    numbers = pc.if_else(number, plain, pa.scalar(None, pa.string())).cast(pa.float64())
    found: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False) * per_unit
    sexagesimal = pc.fill_null(pc.match_substring_regex(text, _SEXAGESIMAL), False).to_numpy(
        zero_copy_only=False
    )
    if sexagesimal.any():
        found[sexagesimal] = _angles(text.filter(pa.array(sexagesimal)), hours)
    return found


def _angles(text: pa.Array, hours: bool) -> NDArray[np.float64]:
    from astropy.coordinates import Angle

    unit = "hourangle" if hours else "deg"
    values = text.to_numpy(zero_copy_only=False).astype(str)
    try:
        found: NDArray[np.float64] = Angle(values, unit=unit).degree
    except ValueError:
        # A value that is out of range (25 hours) makes only its own row NaN.
        found = np.array([_angle(value, unit) for value in values])
    return found


def _angle(value: str, unit: str) -> float:
    from astropy.coordinates import Angle

    try:
        return float(Angle(value, unit=unit).degree)
    except ValueError:
        return float("nan")
