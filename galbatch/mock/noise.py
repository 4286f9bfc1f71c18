"""The noise that a simulated survey measures fluxes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE_NOISE = 40.0
"""A source this many times brighter than the 5-sigma depth has as much noise of its own as of the
sky: about right for sky-limited images of an hour on a 4 m telescope."""


@dataclass(frozen=True)
class NoiseLaw:
    """Variance of a measured flux f: ``(nu s)**2 + f s / (5 SOURCE_NOISE) + (c f)**2``.

    nu is the noise in the object's aperture over that of a point source.

    Parameters
    ----------
    sky : array, shape (b,), float
        s, the sky's noise of a point source in each band, microjansky.
    calibration : float
        c, systematic error as a fraction of the flux.

    Notes
    -----
    Everything is computed in the precision of `sky`, if `calibration` has it too.
    """

    sky: NDArray[Any]
    calibration: Any

    @property
    def source(self) -> NDArray[Any]:
        """Variance per flux of the source's own photons, shape (b,), microjansky."""
        return self.sky / (5.0 * SOURCE_NOISE)

    def variance(self, flux: NDArray[Any], sky: NDArray[Any]) -> NDArray[Any]:
        """Variance of fluxes.

        Parameters
        ----------
        flux : array, shape (n, b)
            Microjansky, not negative.
        sky : array, shape (n, b)
            nu s: the sky's noise in each object's aperture, microjansky.

        Returns
        -------
        array, shape (n, b)
            Microjansky squared.
        """
        return np.asarray(sky**2 + flux * self.source + (self.calibration * flux) ** 2)

    def variance_without_sky(self, flux: NDArray[Any]) -> NDArray[Any]:
        """The part of the variance that depends on the flux, shape (n, b)."""
        return np.asarray(flux * self.source + (self.calibration * flux) ** 2)
