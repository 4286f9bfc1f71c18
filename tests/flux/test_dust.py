from __future__ import annotations

import numpy as np
import pytest

from galbatch.flux.dust import band_extinction, extinction_curve
from galbatch.spec.survey import Band


def test_anchor_points_of_fitzpatrick() -> None:
    # Table 3 of Fitzpatrick (1999): the optical and infrared anchors, A / E(B-V).
    wavelength = [26500, 12200, 6000, 5470, 4670, 4110]
    expected = [0.265, 0.829, 2.688, 3.055, 3.806, 4.315]
    np.testing.assert_allclose(extinction_curve(wavelength), expected, atol=3e-3)


def test_ultraviolet_branch_meets_its_anchors() -> None:
    # The two ultraviolet anchors of table 3 come from the Fitzpatrick & Massa form.
    np.testing.assert_allclose(extinction_curve([2699.99, 2600]), [6.265, 6.591], atol=2e-3)


def test_bump_stands_out() -> None:
    bump, beside = extinction_curve([2175, 1800])
    assert bump > 8.5 > beside


def test_a_survey_may_know_better() -> None:
    band = Band(name="r", wavelength=6200, width=1000, extinction=2.285)
    assert band_extinction(band) == 2.285
    assert band_extinction(Band(name="r", wavelength=6200, width=1000)) == pytest.approx(2.58, 0.01)
