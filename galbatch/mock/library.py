"""Rest-frame spectra of galaxies and stars that the simulated sky is drawn from.

The numbers are in ``library.npz`` beside this file, made once by ``tools/build_library.py`` of the
repository, whose docstring says where every spectrum comes from.

Galaxies are stellar population models without dust and at redshift 0: attenuation and absorption
by the intergalactic medium are analytic and belong to `galbatch.mock.attenuation`. Nebular
emission lines are kept apart from the continuum, so that they can be given the larger attenuation
of the gas; `add_lines` puts them back. Line wavelengths, and the optical spectra,
are in air.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

L_SUN = 3.828e33
"""Nominal solar luminosity in erg/s (IAU 2015 resolution B3)."""

PARSEC = 3.0856775814913673e18
"""Parsec in cm."""

ABS_MAG_B_SUN = 5.31
"""Absolute AB magnitude of the Sun in Johnson B (Willmer 2018, ApJS 236, 47, table 3)."""

SPEED_OF_LIGHT = 2.99792458e18
"""Speed of light in Angstrom/s."""

# Bessell (1990), PASP 102, 1181, table 2. Tabulated for integrals of energy over wavelength: it is
# the photon response times wavelength.
_JOHNSON_B_WAVELENGTH = np.arange(3600.0, 5601.0, 100.0)
_JOHNSON_B_RESPONSE = np.array(
    [
        *(0.000, 0.030, 0.134, 0.567, 0.920, 0.978, 1.000, 0.978, 0.935, 0.853, 0.740),
        *(0.640, 0.536, 0.424, 0.325, 0.235, 0.150, 0.095, 0.043, 0.009, 0.000),
    ]
)


@dataclass(frozen=True)
class GalaxyLibrary:
    """Galaxy spectra per solar mass of living stars and remnants.

    The pixels are uniform in the logarithm of wavelength, `wavelength` holds their centres, and a
    spectrum's value is the mean over its pixel, so sums over pixels conserve energy. The arrays
    are shared by all callers and read-only.

    Parameters
    ----------
    wavelength : array, shape (n_wave,), float64
        Pixel centres in Angstrom, rest frame, from the Lyman limit to 3 micrometres.
    continuum : array, shape (n_sed, n_wave), float32
        Stars and nebular continuum, in L_sun / Angstrom / M_sun.
    line_wavelength : array, shape (n_line,), float64
        Emission lines in Angstrom, rest frame.
    line_luminosity : array, shape (n_sed, n_line), float32
        Emission-line luminosities in L_sun / M_sun; 0 where nothing younger than 10 Myr ionises.
    abs_mag_b : array, shape (n_sed,), float32
        Rest-frame absolute AB magnitude in Johnson B of 1 M_sun, lines included, dust-free. A
        galaxy of stellar mass M has ``abs_mag_b - 2.5 log10(M)``.
    mass_to_light_b : array, shape (n_sed,), float32
        M_sun / L_sun,B of living stars and remnants, lines included, dust-free.
    formed_to_living : array, shape (n_sed,), float32
        Mass ever formed per mass of living stars and remnants, at least 1.
    log_ssfr : array, shape (n_sed,), float32
        log10 of the star-formation rate, averaged over 100 Myr, per stellar mass, in 1/yr; floored
        at -14, which stands for none.
    age : array, shape (n_sed,), float32
        Mass-weighted age of the stars formed, in Gyr.
    oldest : array, shape (n_sed,), float32
        Lookback time to the first star in Gyr: the galaxy cannot be seen where the Universe is
        younger.
    metallicity : array, shape (n_sed,), float32
        Stellar and gas metallicity in units of the solar one (Z_sun = 0.02).
    log_u : array, shape (n_sed,), float32
        log10 of the ionisation parameter; NaN where `log_ssfr` is at its floor.
    spectral_type : array, shape (n_sed,), float32
        Continuous type in [1, 11]: 1 the reddest elliptical, 11 the bluest starburst. Linear in
        the dust-free rest-frame NUV-r colour, 1 at `TYPE_NUV_R` [0] and 11 at [1], clipped: a
        bluer spectrum never has a smaller type.
    nuv_r : array, shape (n_sed,), float32
        Dust-free rest-frame NUV-r AB colour, in the top hats of `NUV_BAND` and `R_BAND`.
    """

    wavelength: NDArray[np.float64]
    continuum: NDArray[np.float32]
    line_wavelength: NDArray[np.float64]
    line_luminosity: NDArray[np.float32]
    abs_mag_b: NDArray[np.float32]
    mass_to_light_b: NDArray[np.float32]
    formed_to_living: NDArray[np.float32]
    log_ssfr: NDArray[np.float32]
    age: NDArray[np.float32]
    oldest: NDArray[np.float32]
    metallicity: NDArray[np.float32]
    log_u: NDArray[np.float32]
    spectral_type: NDArray[np.float32]
    nuv_r: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.continuum.shape[0])

    @property
    def luminosity(self) -> NDArray[np.float32]:
        """Continuum and lines, in L_sun / Angstrom / M_sun, shape (n_sed, n_wave)."""
        return add_lines(
            self.wavelength, self.continuum, self.line_wavelength, self.line_luminosity
        )


@dataclass(frozen=True)
class StarLibrary:
    """Spectra of stars, as shapes without a distance. The arrays are shared and read-only.

    Parameters
    ----------
    wavelength : array, shape (n_wave,), float64
        Pixel centres in Angstrom, 3000 to 24960, uniform in the logarithm.
    flux : array, shape (n_star, n_wave), float32
        Flux per unit wavelength, mean over the pixel, scaled to a mean of 1 over 7000-9000 A.
    name : array, shape (n_star,), str
        MK type with ``w`` (metal-weak) or ``r`` (metal-rich) before it, or ``DA 12000 K``.
    teff : array, shape (n_star,), float32
        Effective temperature in K, from the spectral type.
    luminosity_class : array, shape (n_star,), str
        ``V``, ``IV``, ``III``, ``II``, ``I``, or ``WD`` for white dwarfs.
    metallicity : array, shape (n_star,), float32
        [Fe/H]: 0 for solar types; the class mean for metal-weak and metal-rich ones.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float32]
    name: NDArray[np.str_]
    teff: NDArray[np.float32]
    luminosity_class: NDArray[np.str_]
    metallicity: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.flux.shape[0])


NUV_BAND = (1771.0, 2831.0)
"""Top hat for NUV in Angstrom: the GALEX NUV channel (Morrissey et al. 2007, ApJS 173, 682)."""

R_BAND = (5500.0, 7000.0)
"""Top hat for r in Angstrom: the SDSS r band's half-maximum range."""

TYPE_NUV_R = (6.0, 0.0)
"""Dust-free NUV-r colour of spectral types 1 and 11."""


def add_lines(
    wavelength: NDArray[np.float64],
    continuum: NDArray[np.float32],
    line_wavelength: NDArray[np.float64],
    line_luminosity: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Add unresolved lines to spectra, each to the pixel that holds it.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        Pixel centres in Angstrom, uniform in the logarithm.
    continuum : array, shape (n, n_wave)
        Per Angstrom; not changed.
    line_wavelength : array, shape (n_line,)
        In Angstrom, inside the range of `wavelength`.
    line_luminosity : array, shape (n, n_line)
        Integrated over the line.

    Returns
    -------
    array, shape (n, n_wave)
        Per Angstrom.
    """
    step = np.log(wavelength[-1] / wavelength[0]) / (len(wavelength) - 1)
    pixel = np.rint(np.log(line_wavelength / wavelength[0]) / step).astype(np.intp)
    width = (wavelength[pixel] * 2.0 * np.sinh(step / 2.0)).astype(np.float32)
    total = continuum.copy()
    # Line by line, because two lines may share a pixel.
    for line in range(len(pixel)):
        total[:, pixel[line]] += line_luminosity[:, line] / width[line]
    return total


def spectral_type_of(nuv_r: ArrayLike) -> NDArray[np.float64]:
    """Continuous spectral type of a dust-free NUV-r colour.

    Parameters
    ----------
    nuv_r : array_like
        Rest-frame dust-free NUV-r AB colour.

    Returns
    -------
    array
        In [1, 11].
    """
    red, blue = TYPE_NUV_R
    return np.clip(1.0 + 10.0 * (red - np.asarray(nuv_r, np.float64)) / (red - blue), 1.0, 11.0)


def abs_mag_b(wavelength: NDArray[np.float64], luminosity: ArrayLike) -> NDArray[np.float64]:
    """Absolute AB magnitude in Johnson B (Bessell 1990) of a rest-frame spectrum.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        In Angstrom, rest frame, fine enough for a plain trapezoid over 3600-5600 A.
    luminosity : array_like, shape (..., n_wave)
        In L_sun / Angstrom.

    Returns
    -------
    array, shape (...)
        AB magnitude at 10 pc.
    """
    inside = (wavelength >= _JOHNSON_B_WAVELENGTH[0]) & (wavelength <= _JOHNSON_B_WAVELENGTH[-1])
    wave = wavelength[inside]
    response = np.interp(wave, _JOHNSON_B_WAVELENGTH, _JOHNSON_B_RESPONSE)
    f_lambda = np.asarray(luminosity)[..., inside] * (L_SUN / (4.0 * np.pi * (10.0 * PARSEC) ** 2))
    f_nu = np.trapezoid(f_lambda * response, wave) / np.trapezoid(
        response * SPEED_OF_LIGHT / wave**2, wave
    )
    return np.asarray(-2.5 * np.log10(f_nu) - 48.6)


@cache
def load_galaxies() -> GalaxyLibrary:
    """Load the galaxy library, once per process.

    Returns
    -------
    GalaxyLibrary
        With read-only arrays.
    """
    columns = _load("galaxy")
    columns["continuum"] = _unscaled(columns["continuum"], columns.pop("continuum_scale"))
    return GalaxyLibrary(**columns)


@cache
def load_stars() -> StarLibrary:
    """Load the star library, once per process.

    Returns
    -------
    StarLibrary
        With read-only arrays.
    """
    columns = _load("star")
    columns["flux"] = _unscaled(columns["flux"], columns.pop("flux_scale"))
    return StarLibrary(**columns)


def _load(kind: str) -> dict[str, NDArray[Any]]:
    prefix = f"{kind}_"
    path = files("galbatch.mock") / "library.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        columns = {key[len(prefix) :]: archive[key] for key in archive if key.startswith(prefix)}
    for column in columns.values():
        column.setflags(write=False)
    return columns


def _unscaled(half: NDArray[np.float16], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    spectra = half.astype(np.float32) * scale[:, None]
    spectra.setflags(write=False)
    return spectra
