"""Extinction by Galactic dust."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.spec.survey import Band

# Fitzpatrick (1999), table 3: 1 / wavelength [1/micron] and A / E(B-V) for R_V = 3.1.
_ANCHOR_X = np.array([0.0, 0.377, 0.820, 1.667, 1.828, 2.141, 2.433, 3.704, 3.846])
_ANCHOR_K = np.array([0.0, 0.265, 0.829, 2.688, 3.055, 3.806, 4.315, 6.265, 6.591])
_ULTRAVIOLET = 2700.0
_R_V = 3.1


def extinction_curve(wavelength: ArrayLike) -> NDArray[np.float64]:
    """A(wavelength) / E(B-V) of diffuse Galactic dust, R_V = 3.1.

    Parameters
    ----------
    wavelength : array-like, any shape
        Angstrom, 1000 to infinity.

    Returns
    -------
    ndarray, same shape
        Magnitudes of extinction per magnitude of E(B-V).

    Notes
    -----
    Fitzpatrick (1999, PASP 111, 63): longwards of 2700 Angstrom a cubic spline through the anchor
    points of his table 3; shortwards the Fitzpatrick & Massa (1990) form
    ``k = c1 + c2 x + c3 D(x) + c4 F(x)`` with his coefficients for R_V = 3.1. E(B-V) of Schlegel,
    Finkbeiner & Davis (1998) is too high by 14 % (Schlafly & Finkbeiner 2011): a survey that
    gives those values says so with `extinction` of its bands.
    """
    angstrom = np.asarray(wavelength, np.float64)
    x = 1e4 / angstrom
    c2 = -0.824 + 4.717 / _R_V
    c1 = 2.030 - 3.007 * c2
    bump = x**2 / ((x**2 - 4.596**2) ** 2 + (x * 0.99) ** 2)
    far = np.clip(x - 5.9, 0.0, None)
    rise = 0.5392 * far**2 + 0.05644 * far**3
    ultraviolet = _R_V + c1 + c2 * x + 3.23 * bump + 0.41 * rise
    return np.where(angstrom < _ULTRAVIOLET, ultraviolet, _optical()(x))


@cache
def _optical() -> Any:
    """The spline through the anchor points."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(_ANCHOR_X, _ANCHOR_K, bc_type="natural")


def band_extinction(band: Band) -> float:
    """A_band / E(B-V): the survey's own number, or the curve at the band's wavelength.

    Parameters
    ----------
    band : Band

    Returns
    -------
    float
        Magnitudes per magnitude of E(B-V).
    """
    if band.extinction is not None:
        return band.extinction
    return float(extinction_curve(band.wavelength))
