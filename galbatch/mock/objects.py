"""What galaxies, stars and quasars of the simulated sky have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Objects:
    """A block of the simulated sky before anything observes it.

    Parameters
    ----------
    is_star : array, shape (n,), bool
    is_qso : array, shape (n,), bool
    redshift : array, shape (n,), float64
        NaN for stars.
    log_mass : array, shape (n,), float64
        log10 of the stellar mass in solar masses; NaN for stars and quasars, as are the next two.
    abs_mag_b : array, shape (n,), float64
        Rest-frame AB magnitude in Johnson B, internal dust included.
    spectral_type : array, shape (n,), float64
        1 (reddest) to 11 (bluest), internal dust included.
    radius : array, shape (n,), float64
        Half-light radius along the major axis, arcsec; 0 for stars and quasars.
    axis_ratio : array, shape (n,), float64
        b/a in (0, 1]; 1 for stars and quasars.
    flux : array, shape (n, n_band), float32
        Noise-free flux densities in microjansky.
    pair : array, shape (n, 2), int32
        Rows of the library of galaxies, or of stars, that are mixed; 0 for quasars.
    share : array, shape (n,), float32
        Of the second of them: of a galaxy's mass, of a star's flux in the reference band.
    ebv : array, shape (n,), float32
        E(B-V) of its own dust: the stars' in galaxies; 0 for stars.
    lines : array, shape (n, 3), float32
        Strength of emission lines over the library's, or of a quasar's three groups of lines
        (high ionisation, low ionisation, narrow) over the composite's.
    tilt : array, shape (n, 2), float32
        Deviation from that: magnitudes per ln(wavelength over the reference band's), and per its
        square.
    """

    is_star: NDArray[np.bool_]
    is_qso: NDArray[np.bool_]
    redshift: Array
    log_mass: Array
    abs_mag_b: Array
    spectral_type: Array
    radius: Array
    axis_ratio: Array
    flux: NDArray[np.float32]
    pair: NDArray[np.int32]
    share: NDArray[np.float32]
    ebv: NDArray[np.float32]
    lines: NDArray[np.float32]
    tilt: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.is_star)
