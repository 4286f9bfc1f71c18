"""Wavelengths in air and in vacuum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FROM = 2000.0
"""Angstrom: what is shorter is given in vacuum by convention."""


def vacuum_wavelengths(air: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wavelengths in vacuum, of those in standard air (15 degrees Celsius, 1013.25 hPa).

    Ciddor (1996), equation 1, for dry air with 450 ppm of CO2; below 2000 Angstrom the convention
    is vacuum already, and nothing changes.

    Parameters
    ----------
    air : ndarray
        In Angstrom.

    Returns
    -------
    ndarray
        In Angstrom, of the same shape.
    """
    found = np.array(air, dtype=np.float64)
    # The index belongs to the wavelength in vacuum, which is found by turns; two are enough.
    vacuum = found.copy()
    for _ in range(3):
        vacuum = np.where(found >= _FROM, found * refractive_index(vacuum), found)
    return vacuum


def refractive_index(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of standard air, at wavelengths in vacuum (Angstrom); see `vacuum_wavelengths`."""
    inverse = (1e4 / np.maximum(vacuum, _FROM)) ** 2
    return 1.0 + 0.05792105 / (238.0185 - inverse) + 0.00167917 / (57.362 - inverse)
