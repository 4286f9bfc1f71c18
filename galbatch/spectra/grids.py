"""Grids of wavelengths that are even in the logarithm, on which a redshift is a shift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SDSS_STEP = 1e-4
"""Of log10(wavelength), from one pixel of SDSS to the next: 69 km/s."""
_EVEN = 1e-3
"""Of a pixel: how far wavelengths may be from a grid that is even in the logarithm."""


@dataclass(frozen=True)
class LogGrid:
    """Wavelengths whose logarithms are evenly spaced.

    Parameters
    ----------
    first : float
        log10 of the first wavelength, in Angstrom (COEFF0 of SDSS).
    step : float
        From the logarithm of one wavelength to that of the next (COEFF1).
    points : int
    """

    first: float
    step: float
    points: int

    @cached_property
    def logarithms(self) -> NDArray[np.float64]:
        """log10 of the wavelengths in Angstrom, of shape (points,)."""
        return np.asarray(self.first + self.step * np.arange(self.points), np.float64)

    @cached_property
    def wavelengths(self) -> NDArray[np.float64]:
        """In Angstrom, of shape (points,)."""
        return np.asarray(10.0**self.logarithms, np.float64)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the pixels in Angstrom, of shape (points + 1,): half a step around each."""
        middle = self.first + self.step * (np.arange(self.points + 1) - 0.5)
        return np.asarray(10.0**middle, dtype=np.float64)

    def pixels(self, redshift: float) -> float:
        """By how many pixels a redshift moves a spectrum to the red.

        Parameters
        ----------
        redshift : float
            Above -1.
        """
        return float(np.log10(1.0 + redshift)) / self.step

    def redshifts(self, pixels: NDArray[np.generic]) -> NDArray[np.float64]:
        """The redshifts that move a spectrum by so many pixels, of the same shape."""
        moved = self.step * np.asarray(pixels, dtype=np.float64)
        return np.asarray(10.0**moved - 1.0, np.float64)


def log_grid_of(wavelengths: NDArray[np.float64]) -> LogGrid | None:
    """The grid of SDSS's step that wavelengths are; None where they are none.

    Parameters
    ----------
    wavelengths : ndarray, shape (points,)
        Angstrom, rising.
    """
    logarithms = np.log10(wavelengths)
    off = np.abs(logarithms - logarithms[0] - SDSS_STEP * np.arange(len(logarithms)))
    if off.max() > _EVEN * SDSS_STEP:
        return None
    return LogGrid(float(logarithms[0]), SDSS_STEP, len(logarithms))
