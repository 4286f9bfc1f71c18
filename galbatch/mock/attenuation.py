"""What stands between a galaxy's stars and the telescope: its own dust, and intergalactic gas."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

R_V_CALZETTI = 4.05
"""Total-to-selective attenuation A_V / E(B-V) of the Calzetti curve (Calzetti 2000, eq. 5)."""

STARS_TO_GAS = 0.44
"""E(B-V) of the stars over that of the ionised gas (Calzetti et al. 2000, eq. 3)."""

_LYMAN_LIMIT = 911.8


def calzetti_curve(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Attenuation per unit reddening, k = A(lambda) / E(B-V), of starburst galaxies.

    Calzetti et al. (2000), ApJ 533, 682, equation 4, defined for 1200 A to 2.2 micrometres.
    Continued with its slope at 1200 A down to the Lyman limit, and held at 0 where the red
    branch would turn negative.

    Parameters
    ----------
    wavelength : array_like
        Rest-frame wavelength in Angstrom.

    Returns
    -------
    array, same shape
        k in magnitudes per magnitude.
    """
    x = 1e4 / np.asarray(wavelength, np.float64)
    red = 2.659 * (-1.857 + 1.040 * x) + R_V_CALZETTI
    # Beyond the bluest measured point the cubic bends over; a straight line in 1/lambda does not.
    x_end = 1e4 / 1200.0
    inside = np.minimum(x, x_end)
    cubic = -2.156 + 1.509 * inside - 0.198 * inside**2 + 0.011 * inside**3
    slope = 1.509 - 0.396 * x_end + 0.033 * x_end**2
    blue = 2.659 * (cubic + slope * (x - inside)) + R_V_CALZETTI
    return np.maximum(np.where(x < 1e4 / 6300.0, red, blue), 0.0)


def dust_transmission(wavelength: NDArray[np.float64], ebv: ArrayLike) -> NDArray[np.float64]:
    """Fraction of light that leaves a galaxy through its dust, after Calzetti et al. (2000).

    ``F_obs = F_int 10**(-0.4 E(B-V) k(lambda))``, equation 2 of ApJ 533, 682. For emission lines
    give ``ebv / STARS_TO_GAS``.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        Rest-frame wavelength in Angstrom.
    ebv : array_like, shape (...)
        Reddening E(B-V) in magnitudes.

    Returns
    -------
    array, shape (..., n_wave)
        In [0, 1].
    """
    reddening = np.asarray(ebv, np.float64)[..., None]
    return np.asarray(10.0 ** (-0.4 * reddening * calzetti_curve(wavelength)))


def igm_transmission(
    wavelength_observed: NDArray[np.float64], redshift: ArrayLike
) -> NDArray[np.float64]:
    """Mean transmission of the intergalactic medium, after Inoue et al. (2014).

    MNRAS 442, 1805: Lyman-series absorption by the Lyman-alpha forest (equation 21) and by damped
    systems (22), Lyman-continuum absorption by the forest (25 to 27) and by damped systems (28,
    29), with the coefficients of their table 2.

    Parameters
    ----------
    wavelength_observed : array, shape (n_wave,)
        Observed wavelength in Angstrom.
    redshift : array_like, shape (...)
        Redshift of the source.

    Returns
    -------
    array, shape (..., n_wave)
        In [0, 1]; 1 redward of Lyman alpha at the source.
    """
    z1 = 1.0 + np.asarray(redshift, np.float64)[..., None]
    wave = np.asarray(wavelength_observed, np.float64)
    tau = np.zeros(np.broadcast_shapes(z1.shape, wave.shape))
    # The series' optical depth at an observed wavelength does not depend on the source: only on
    # which of the lines the light has crossed on its way.
    for line, forest, damped in zip(*_lyman_series(), strict=True):
        ratio = wave / line
        crossed = (ratio > 1.0) & (ratio < z1)
        tau += np.where(crossed, _series_depth(ratio, forest, damped), 0.0)
    ratio = wave / _LYMAN_LIMIT
    crossed = (ratio > 1.0) & (ratio < z1)
    tau += np.where(crossed, _forest_continuum(ratio, z1) + _damped_continuum(ratio, z1), 0.0)
    return np.asarray(np.exp(-tau))


def _series_depth(
    ratio: NDArray[np.float64], forest: NDArray[np.float64], damped: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Equations 21 and 22 for one line, at observed over line wavelength."""
    tau_forest = np.where(
        ratio < 2.2,
        forest[0] * ratio**1.2,
        np.where(ratio < 5.7, forest[1] * ratio**3.7, forest[2] * ratio**5.5),
    )
    tau_damped = np.where(ratio < 3.0, damped[0] * ratio**2.0, damped[1] * ratio**3.0)
    return np.asarray(tau_forest + tau_damped)


def _forest_continuum(ratio: NDArray[np.float64], z1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equations 25 (1+z < 2.2), 26 (< 5.7) and 27."""
    low = 0.325 * (ratio**1.2 - z1**-0.9 * ratio**2.1)
    middle = 2.55e-2 * z1**1.6 * ratio**2.1 + np.where(
        ratio < 2.2, 0.325 * ratio**1.2 - 0.250 * ratio**2.1, -2.55e-2 * ratio**3.7
    )
    high = 5.22e-4 * z1**3.4 * ratio**2.1 + np.where(
        ratio < 2.2,
        0.325 * ratio**1.2 - 3.14e-2 * ratio**2.1,
        np.where(ratio < 5.7, 0.218 * ratio**2.1 - 2.55e-2 * ratio**3.7, -5.22e-4 * ratio**5.5),
    )
    return np.where(z1 < 2.2, low, np.where(z1 < 5.7, middle, high))


def _damped_continuum(ratio: NDArray[np.float64], z1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equations 28 (1+z < 3) and 29."""
    low = 0.211 * z1**2.0 - 7.66e-2 * z1**2.3 * ratio**-0.3 - 0.135 * ratio**2.0
    high = (
        4.70e-2 * z1**3.0
        - 1.78e-2 * z1**3.3 * ratio**-0.3
        + np.where(
            ratio < 3.0, 0.634 - 0.135 * ratio**2.0 - 0.291 * ratio**-0.3, -2.92e-2 * ratio**3.0
        )
    )
    return np.where(z1 < 3.0, low, high)


@cache
def _lyman_series() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Wavelengths (39,), forest (39, 3) and damped (39, 2) coefficients: Inoue's table 2."""
    table = np.array(_INOUE_TABLE_2.split(), np.float64).reshape(39, 6)
    return table[:, 0], table[:, 1:4], table[:, 4:6]


# Lyman alpha and the 38 lines after it: wavelength in Angstrom, A_LAF 1 to 3, A_DLA 1 and 2.
_INOUE_TABLE_2 = """
1215.67 1.690e-02 2.354e-03 1.026e-04 1.617e-04 5.390e-05
1025.72 4.692e-03 6.536e-04 2.849e-05 1.545e-04 5.151e-05
972.537 2.239e-03 3.119e-04 1.360e-05 1.498e-04 4.992e-05
949.743 1.319e-03 1.837e-04 8.010e-06 1.460e-04 4.868e-05
937.803 8.707e-04 1.213e-04 5.287e-06 1.429e-04 4.763e-05
930.748 6.178e-04 8.606e-05 3.752e-06 1.402e-04 4.672e-05
926.226 4.609e-04 6.421e-05 2.799e-06 1.377e-04 4.590e-05
923.150 3.569e-04 4.971e-05 2.167e-06 1.355e-04 4.516e-05
920.963 2.843e-04 3.960e-05 1.726e-06 1.335e-04 4.448e-05
919.352 2.318e-04 3.229e-05 1.407e-06 1.316e-04 4.385e-05
918.129 1.923e-04 2.679e-05 1.168e-06 1.298e-04 4.326e-05
917.181 1.622e-04 2.259e-05 9.847e-07 1.281e-04 4.271e-05
916.429 1.385e-04 1.929e-05 8.410e-07 1.265e-04 4.218e-05
915.824 1.196e-04 1.666e-05 7.263e-07 1.250e-04 4.168e-05
915.329 1.043e-04 1.453e-05 6.334e-07 1.236e-04 4.120e-05
914.919 9.174e-05 1.278e-05 5.571e-07 1.222e-04 4.075e-05
914.576 8.128e-05 1.132e-05 4.936e-07 1.209e-04 4.031e-05
914.286 7.251e-05 1.010e-05 4.403e-07 1.197e-04 3.989e-05
914.039 6.505e-05 9.062e-06 3.950e-07 1.185e-04 3.949e-05
913.826 5.868e-05 8.174e-06 3.563e-07 1.173e-04 3.910e-05
913.641 5.319e-05 7.409e-06 3.230e-07 1.162e-04 3.872e-05
913.480 4.843e-05 6.746e-06 2.941e-07 1.151e-04 3.836e-05
913.339 4.427e-05 6.167e-06 2.689e-07 1.140e-04 3.800e-05
913.215 4.063e-05 5.660e-06 2.467e-07 1.130e-04 3.766e-05
913.104 3.738e-05 5.207e-06 2.270e-07 1.120e-04 3.732e-05
913.006 3.454e-05 4.811e-06 2.097e-07 1.110e-04 3.700e-05
912.918 3.199e-05 4.456e-06 1.943e-07 1.101e-04 3.668e-05
912.839 2.971e-05 4.139e-06 1.804e-07 1.091e-04 3.637e-05
912.768 2.766e-05 3.853e-06 1.680e-07 1.082e-04 3.607e-05
912.703 2.582e-05 3.596e-06 1.568e-07 1.073e-04 3.578e-05
912.645 2.415e-05 3.364e-06 1.466e-07 1.065e-04 3.549e-05
912.592 2.263e-05 3.153e-06 1.375e-07 1.056e-04 3.521e-05
912.543 2.126e-05 2.961e-06 1.291e-07 1.048e-04 3.493e-05
912.499 2.000e-05 2.785e-06 1.214e-07 1.040e-04 3.466e-05
912.458 1.885e-05 2.625e-06 1.145e-07 1.032e-04 3.440e-05
912.420 1.779e-05 2.479e-06 1.080e-07 1.024e-04 3.414e-05
912.385 1.682e-05 2.343e-06 1.022e-07 1.017e-04 3.389e-05
912.353 1.593e-05 2.219e-06 9.673e-08 1.009e-04 3.364e-05
912.324 1.510e-05 2.103e-06 9.169e-08 1.002e-04 3.339e-05
"""
