"""What is published of galaxies: how many there are, and how their properties go with mass.

The mass functions are those of Davidzon et al. (2017, A&A 605, A70, tables 2 and 3), the main
sequence that of Speagle et al. (2014, ApJS 214, 15, eq. 28), the dust that of Garn & Best (2010,
MNRAS 409, 421, eq. 3), metallicities roughly those of Gallazzi et al. (2005, MNRAS 362, 41, table
2), sizes those of van der Wel et al. (2014, ApJ 788, 28, fig. 6). The lowest redshift bin of the
mass functions is held below z = 0.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.objects import Array
from galbatch.mock.photometry import STARS_TO_GAS

# Davidzon et al. (2017): lower edge of the redshift bin, log M*, alpha_1, 1e3 phi_1, alpha_2,
# 1e3 phi_2 (per Mpc3, H0 = 70).
_ACTIVE = np.array(
    [
        (0.2, 10.26, -1.29, 2.410, 1.01, 1.30),
        (0.5, 10.40, -1.32, 1.661, 0.84, 0.86),
        (0.8, 10.35, -1.29, 1.739, 0.81, 0.95),
        (1.1, 10.42, -1.21, 1.542, 1.11, 0.49),
        (1.5, 10.40, -1.24, 1.156, 0.90, 0.46),
        (2.0, 10.45, -1.50, 0.441, 0.59, 0.38),
        (2.5, 10.39, -1.52, 0.441, 1.05, 0.13),
        (3.0, 10.83, -1.78, 0.086, 0.00, 0.00),
        (3.5, 10.77, -1.84, 0.052, 0.00, 0.00),
        (4.0, 11.30, -2.12, 0.003, 0.00, 0.00),
    ]
)
_PASSIVE = np.array(
    [
        (0.2, 10.83, -1.30, 0.098, -0.39, 1.58),
        (0.5, 10.83, -1.46, 0.012, -0.21, 1.44),
        (0.8, 10.75, -0.07, 1.724, 0.00, 0.00),
        (1.1, 10.56, 0.53, 0.757, 0.00, 0.00),
        (1.5, 10.54, 0.93, 0.251, 0.00, 0.00),
        (2.0, 10.69, 0.17, 0.068, 0.00, 0.00),
        (2.5, 10.24, 1.15, 0.028, 0.00, 0.00),
        (3.0, 10.10, 1.15, 0.010, 0.00, 0.00),
        (3.5, 10.10, 1.15, 0.004, 0.00, 0.00),
        (4.0, 10.10, 1.15, 0.000, 0.00, 0.00),
    ]
)

SEQUENCE_OFFSET = -0.45
"""Shift of the main sequence, dex. The library's histories rise and fall once: at the published
rates they would all have to be young, and bluer than the galaxies of zCOSMOS in every colour and
redshift bin; with this shift colours, redshifts and masses agree (tests/mock/test_nature.py)."""


def schechter(log_mass: Array, parameters: Array) -> Array:
    """Double Schechter function.

    Parameters
    ----------
    log_mass : array, shape (n,)
        log10 of the stellar mass in solar masses.
    parameters : array, shape (5,)
        log M*, alpha_1, 1e3 phi_1, alpha_2, 1e3 phi_2.

    Returns
    -------
    array, shape (n,)
        Galaxies per Mpc3 and dex.
    """
    knee, alpha_1, phi_1, alpha_2, phi_2 = parameters
    x = 10.0 ** (log_mass - knee)
    components = phi_1 * x ** (alpha_1 + 1.0) + phi_2 * x ** (alpha_2 + 1.0)
    return np.asarray(1e-3 * np.log(10.0) * np.exp(-x) * components)


def mass_function(log_mass: Array, redshift: float, passive: bool) -> Array:
    """Galaxies per Mpc3 and dex at one redshift.

    Interpolated in its logarithm between the middles of the redshift bins.

    Parameters
    ----------
    log_mass : array, shape (n,)
    redshift : float
    passive : bool

    Returns
    -------
    array, shape (n,)
    """
    table = _PASSIVE if passive else _ACTIVE
    edges = np.append(table[:, 0], 5.0)
    middle = 0.5 * (edges[1:] + edges[:-1])
    position = float(np.interp(redshift, middle, np.arange(len(middle))))
    low = min(int(position), len(table) - 2)
    upper = position - low
    tiny = 1e-12
    lower_bin = np.log(schechter(log_mass, table[low, 1:]) + tiny)
    upper_bin = np.log(schechter(log_mass, table[low + 1, 1:]) + tiny)
    return np.asarray(np.exp((1.0 - upper) * lower_bin + upper * upper_bin) - 0.99 * tiny)


def main_sequence(log_mass: Array, age: float) -> Array:
    """log10 of the specific star-formation rate of star-forming galaxies, 1/yr.

    Speagle et al. (2014), eq. 28, lowered by `SEQUENCE_OFFSET`.

    Parameters
    ----------
    log_mass : array, shape (n,)
    age : float
        Age of the Universe in Gyr.

    Returns
    -------
    array, shape (n,)
    """
    return (0.84 - 0.026 * age) * log_mass - (6.51 - 0.11 * age) - log_mass + SEQUENCE_OFFSET


def reddening(log_mass: Array) -> Array:
    """Median E(B-V) of the stars of star-forming galaxies of a mass.

    Garn & Best (2010), eq. 3, for the gas, with k(H-alpha) = 3.33 and `STARS_TO_GAS`, raised by a
    tenth to the reddening that zCOSMOS asks for.
    """
    x = np.clip(log_mass, 8.5, 11.5) - 10.0
    h_alpha = 0.91 + 0.77 * x + 0.11 * x**2 - 0.09 * x**3
    return np.asarray(1.1 * STARS_TO_GAS * h_alpha / 3.33)


def log_metallicity(log_mass: Array) -> Array:
    """Median log10 of the stellar metallicity in solar units, after Gallazzi et al. (2005)."""
    return np.asarray(-0.25 + 0.45 * np.tanh((log_mass - 10.0) / 0.8))


def log_size(redshift: Array, log_mass: Array, passive: NDArray[np.bool_]) -> Array:
    """Typical half-light radius, after van der Wel et al. (2014).

    Parameters
    ----------
    redshift, log_mass : array, shape (n,)
    passive : array, shape (n,), bool

    Returns
    -------
    array, shape (n,)
        log10 of kpc along the major axis.
    """
    late = np.log10(8.9) - 0.75 * np.log10(1.0 + redshift) + 0.22 * (log_mass - 10.7)
    # Below 2e10 M_sun early types stop shrinking (van der Wel et al. 2014, section 3.2).
    steep = 0.75 * np.maximum(log_mass - 10.7, -0.4) + 0.1 * np.minimum(log_mass - 10.3, 0.0)
    early = np.log10(5.6) - 1.48 * np.log10(1.0 + redshift) + steep
    return np.asarray(np.where(passive, early, late))
