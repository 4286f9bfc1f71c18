"""Positions in degrees, whatever they come in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from galbatch.intake.positions import degrees, is_sexagesimal, wrapped

ANGLES = np.array([0.0, 10.5, 151.25, 359.999])


def column(values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


@pytest.mark.parametrize(
    ("unit", "one"),
    [("", 1), ("deg", 1), ("rad", 180 / np.pi), ("h", 15), ("hourangle", 15), ("arcsec", 1 / 3600)],
)
def test_every_unit_of_angle(unit: str, one: float) -> None:
    found = degrees(column(ANGLES / one), unit, hours=True)
    np.testing.assert_allclose(found, ANGLES, rtol=1e-14)


def test_sexagesimal_text_is_what_astropy_says() -> None:
    ra = ["10:05:00.0", "10 05 00.123", "00h00m01.5s", "bad", "25:00:00", "23:61:00", "12.5", None]
    dec = ["-01:30:00", "+89 59 59.9", "-00:00:30", "", "1d30m00s", "-0:00:01", "-12.5", "x"]
    found = degrees(column(ra), "", hours=True)
    known = SkyCoord(ra[:3], dec[:3], unit=("hourangle", "deg"))
    np.testing.assert_allclose(found[:3], known.ra.deg, rtol=1e-14)
    assert np.isnan(found[[3, 5, 7]]).all()
    assert found[6] == 12.5
    found = degrees(column(dec), "", hours=False)
    np.testing.assert_allclose(found[:3], known.dec.deg, rtol=1e-14)
    np.testing.assert_allclose(found[4:7], [1.5, -1 / 3600, -12.5])
    # What a survey says of the unit is said of numbers.
    assert degrees(column(["10:30:00"]), "deg", hours=True) == pytest.approx(157.5)
    assert degrees(column(["10:30:00"]), "deg", hours=False) == pytest.approx(10.5)


def test_what_is_sexagesimal() -> None:
    assert is_sexagesimal(column(["10:05:00.0", "", "11:00:00"]))
    assert not is_sexagesimal(column(["10.5", "11.0", "10:05:00.0"]))
    assert not is_sexagesimal(column(["", ""]))


@given(st.floats(-180, 360))
def test_right_ascension_is_wrapped_into_the_circle(ra: float) -> None:
    (turned,) = wrapped(np.array([ra]))
    assert 0 <= turned < 360
    assert np.isclose(np.cos(np.radians(turned - ra)), 1)
    if 0 <= ra < 360:
        assert turned == ra


def test_no_number_is_no_angle() -> None:
    turned = wrapped(np.array([np.inf, -np.inf, np.nan, 361.0]))
    assert np.isnan(turned[:3]).all()
    assert turned[3] == 1
