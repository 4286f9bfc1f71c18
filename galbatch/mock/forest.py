"""What intergalactic gas takes from single lines of sight: the forest, and Lyman limits.

The optical depth of Lyman alpha is log-normal in a Gaussian field along the line of sight (Bi &
Davidsen 1997, ApJ 479, 523), with the mean transmission that is observed (Faucher-Giguere et al.
2008, ApJ 681, 831: tau = 0.0018 (1+z)^3.92). Lyman beta and gamma have depths in the ratio of their
strengths, from gas at lower redshift. Below the Lyman limit light ends at the first thick system.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from galbatch.mock.objects import Array
from galbatch.mock.optical import LYMAN_LIMIT

LYMAN_ALPHA = 1215.67
_SERIES = ((LYMAN_ALPHA, 1.0), (1025.72, 0.16), (972.54, 0.056))
"""Wavelength, and oscillator strength times wavelength over that of Lyman alpha."""

FIELD_WIDTHS = (1.6, 12.0)
"""Pixels that the field is correlated over: single absorbers, seen through the spectrograph, and
large-scale structure, with two thirds and a third of its variance."""
_SCATTER = 1.6
"""Of ln(optical depth)."""
_TAU, _POWER = 0.0018, 3.92


@cache
def _depths() -> tuple[Array, Array]:
    """Mean effective depths, and the median depth of the log-normal that has each."""
    median = np.geomspace(1e-5, 1e3, 200)
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    deep = median[:, None] * np.exp(_SCATTER * node)
    mean = (np.exp(-deep) * weight).sum(axis=1) / weight.sum()
    return -np.log(mean), median


def forest(
    wavelengths: Array, redshift: Array, normal: NDArray[np.float32], limit: Array
) -> NDArray[np.float32]:
    """Transmission of single lines of sight.

    Parameters
    ----------
    wavelengths : array, shape (m,)
        Observed, Angstrom.
    redshift : array, shape (n,)
        Of the sources.
    normal : array, shape (2, n, m), float32
        Standard normal numbers: of the absorbers, and of the large-scale structure.
    limit : array, shape (n,)
        Standard exponential numbers: how far the first system is that is thick at the Lyman limit.

    Returns
    -------
    array, shape (n, m), float32
        In [0, 1], 1 redward of Lyman alpha at the source.
    """
    shares = (2.0 / 3.0, 1.0 / 3.0)
    field = np.zeros(normal.shape[1:], np.float32)
    for numbers, width, share in zip(normal, FIELD_WIDTHS, shares, strict=True):
        smooth = gaussian_filter1d(numbers, width, axis=1, mode="nearest")
        # A Gaussian of this width leaves 1 / (2 sqrt(pi) width) of white noise's variance.
        field += np.float32(np.sqrt(share * 2.0 * np.sqrt(np.pi) * width)) * smooth
    effective, median = _depths()
    z1 = 1.0 + redshift[:, None]
    found = np.ones(field.shape, np.float32)
    for order, (line, strength) in enumerate(_SERIES):
        absorber = wavelengths / line
        depth = np.exp(
            np.interp(np.log(_TAU * absorber**_POWER), np.log(effective), np.log(median))
        )
        seen = absorber < z1
        # Each line's gas is elsewhere: the same numbers, the other way round for the second.
        here = field[:, :: (1, -1, 1)[order]]
        tau = strength * depth.astype(np.float32) * np.exp(np.float32(_SCATTER) * here)
        found *= np.where(seen, np.exp(-tau), np.float32(1.0))
    # Mean free path of ionising light: dz = 0.5 ((1+z)/4)^-4.4 (Worseck et al. 2014, MNRAS 445).
    thick = redshift - limit * 0.5 * ((1.0 + redshift) / 4.0) ** -4.4
    edge = LYMAN_LIMIT * (1.0 + np.maximum(thick, 0.0))[:, None]
    found *= np.where(wavelengths < edge, np.exp(-4.0 * (wavelengths / edge) ** 3), 1.0)
    return found
