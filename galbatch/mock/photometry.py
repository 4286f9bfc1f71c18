"""Synthetic photometry: what the library's spectra look like through a survey's bands.

A survey says of a band only where it is and how wide; here that is a box whose edges are smoothed
(`transmission`). Band fluxes are photon-counting AB means (Fukugita et al. 1996, AJ 111, 1748,
eq. 7; Bessell & Murphy 2012, PASP 124, 140, eq. A11)::

    f_nu = integral f_lambda T lambda dlambda / (c integral T dlambda / lambda)

The library's pixels are uniform in ln(wavelength), so redshift is a shift by whole pixels and the
integral for all spectra and bands at one redshift is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from galbatch.mock.attenuation import calzetti_curve, igm_transmission
from galbatch.mock.library import L_SUN, PARSEC, SPEED_OF_LIGHT, load_galaxies, load_stars
from galbatch.spec.survey import Band

EDGE = 0.08
"""Width (sigma) of the smoothed edges of a band, in units of the band's width."""

Z_MAX = 4.2
"""Highest redshift of the grid."""

PIXELS_PER_STEP = 3
"""Redshift step of the grid in pixels of the library: 0.003 in ln(1+z), a seventh of the 140 A of
a narrow band at 7000 A."""

REFERENCE_EBV = 0.2
"""Reddening at which a band's mean attenuation is computed; it depends on it only weakly."""

STARS_TO_GAS = 0.75
"""E(B-V) of the stars over that of the lines. Calzetti's 0.44 is that of local starbursts; at
redshifts of 1 to 2 it is 0.7 to 0.8 (Kashino et al. 2013, ApJ 777, L8)."""

MICROJANSKY = 1e-29
"""erg / s / cm2 / Hz."""

_LYMAN_ALPHA = 1215.67


def transmission(wavelength: NDArray[np.float64], bands: Sequence[Band]) -> NDArray[np.float64]:
    """Transmission of the survey's bands as boxes with smooth edges.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        Observed wavelength in Angstrom.
    bands : sequence of Band
        Centre and full width at half maximum in Angstrom.

    Returns
    -------
    array, shape (n_wave, n_band)
        In [0, 1].
    """
    centre = np.array([band.wavelength for band in bands])
    width = np.array([band.width for band in bands])
    offset = np.asarray(wavelength)[:, None] - centre
    scale = np.sqrt(2.0) * EDGE * width
    return np.asarray(0.5 * (erf((offset + width / 2) / scale) - erf((offset - width / 2) / scale)))


def band_flux(
    wavelength: NDArray[np.float64], f_lambda: NDArray[np.floating], response: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Photon-counting AB mean flux density of spectra through bands.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        In Angstrom, uniform in its logarithm and fine enough for a plain sum.
    f_lambda : array, shape (n, n_wave)
        In erg / s / cm2 / Angstrom.
    response : array, shape (n_wave, n_band)
        Photon response of the bands, in any unit.

    Returns
    -------
    array, shape (n, n_band)
        In microjansky.
    """
    weight = response * wavelength[:, None] ** 2 / (SPEED_OF_LIGHT * MICROJANSKY)
    return np.asarray(f_lambda @ (weight / response.sum(axis=0)))


@dataclass(frozen=True)
class GalaxyGrid:
    """Band fluxes of the galaxy library against redshift, without dust, at 10 pc.

    Parameters
    ----------
    step : float
        Step of the redshift grid in ln(1+z); it starts at z = 0.
    flux : array, shape (n_sed, n_z, 2, n_band), float32
        Continuum and emission lines of 1 M_sun in microjansky; only the distance is missing.
    curve : array, shape (n_z, n_band), float32
        A / E(B-V) of the galaxy's own dust in the band.
    """

    step: float
    flux: NDArray[np.float32]
    curve: NDArray[np.float32]

    def of(
        self,
        sed: NDArray[np.intp],
        share: NDArray[np.float32],
        redshift: NDArray[np.float64],
        ebv: NDArray[np.float32],
        lines: NDArray[np.float32],
        bands: slice = slice(None),
    ) -> NDArray[np.float32]:
        """Band fluxes of mixed, reddened galaxies of 1 M_sun at 10 pc.

        Linear in ln(1+z) between the nodes of the grid.

        Parameters
        ----------
        sed : array, shape (n, 2), int
            The two spectra that are mixed.
        share : array, shape (n,), float32
            Mass fraction of the second.
        redshift : array, shape (n,)
        ebv : array, shape (n,), float32
            E(B-V) of the stars, magnitudes; the lines have more (`STARS_TO_GAS`).
        lines : array, shape (n,), float32
            Factor on all emission lines.
        bands : slice
            Bands wanted.

        Returns
        -------
        array, shape (n, n_band), float32
            In microjansky.
        """
        position = np.log1p(redshift) / self.step
        node = position.astype(np.intp)
        upper = (position - node).astype(np.float32)
        mixed: NDArray[np.float32] | None = None
        # Views: only the bands wanted are gathered.
        flux, curve = self.flux[..., bands], self.curve[:, bands]
        k = curve[node] * (1.0 - upper)[:, None] + curve[node + 1] * upper[:, None]
        for column, weight in ((0, 1.0 - share), (1, share)):
            for shift, part in ((0, 1.0 - upper), (1, upper)):
                corner = flux[sed[:, column], node + shift]
                corner = corner * (weight * part)[:, None, None]
                mixed = corner if mixed is None else mixed + corner
        assert mixed is not None
        dust = np.exp(np.float32(-0.4 * np.log(10.0)) * ebv[:, None] * k)
        gas = dust ** np.float32(1.0 / STARS_TO_GAS)
        return np.asarray(mixed[:, 0] * dust + mixed[:, 1] * gas * lines[:, None])


@lru_cache(maxsize=6)
def galaxy_grid(bands: tuple[Band, ...]) -> GalaxyGrid:
    """The galaxy library through these bands; computed once per process.

    Parameters
    ----------
    bands : tuple of Band

    Returns
    -------
    GalaxyGrid
    """
    library = load_galaxies()
    wave = library.wavelength
    pixel = np.log(wave[-1] / wave[0]) / (len(wave) - 1)
    step = PIXELS_PER_STEP * pixel
    n_z = int(np.log1p(Z_MAX) / step) + 2
    z1 = np.exp(step * np.arange(n_z))

    observed = wave[0] * np.exp(pixel * np.arange(len(wave) + PIXELS_PER_STEP * n_z))
    response = transmission(observed, bands)
    mean = response / response.sum(axis=0)
    weight = mean * (L_SUN / (4.0 * np.pi * (10.0 * PARSEC) ** 2)) / (SPEED_OF_LIGHT * MICROJANSKY)
    weight = (weight * observed[:, None] ** 2).astype(np.float32)

    # Only what is blueward of Lyman alpha at the source meets the intergalactic medium.
    blue = int(np.searchsorted(wave, _LYMAN_ALPHA))
    line_wave = library.line_wavelength
    line_norm = (
        L_SUN
        / (4.0 * np.pi * (10.0 * PARSEC) ** 2)
        / (SPEED_OF_LIGHT * MICROJANSKY * pixel * response.sum(axis=0))
    )
    attenuation = 10.0 ** (-0.4 * REFERENCE_EBV * calzetti_curve(wave))

    flux = np.empty((len(library), n_z, 2, len(bands)), np.float32)
    curve = np.empty((n_z, len(bands)), np.float32)
    for index in range(n_z):
        inside = slice(index * PIXELS_PER_STEP, index * PIXELS_PER_STEP + len(wave))
        matrix = weight[inside] / np.float32(z1[index])
        igm = igm_transmission(observed[inside][:blue], z1[index] - 1.0)
        matrix[:blue] *= igm[:, None].astype(np.float32)
        flux[:, index, 0] = library.continuum @ matrix

        seen = line_wave * z1[index]
        lines = transmission(seen, bands) * seen[:, None] * line_norm
        # A line is a flux, not a flux density: it is not stretched by 1+z.
        lines *= igm_transmission(seen, z1[index] - 1.0)[:, None]
        flux[:, index, 1] = library.line_luminosity @ lines.astype(np.float32)

        # The band's mean over a flat spectrum; the ends of the spectra stand for what lies outside.
        through = mean[inside] * attenuation[:, None]
        missing = 1.0 - mean[inside].sum(axis=0)
        before = mean[: inside.start].sum(axis=0)
        total = through.sum(axis=0) + before * attenuation[0] + (missing - before) * attenuation[-1]
        curve[index] = -2.5 * np.log10(total) / REFERENCE_EBV
    flux.setflags(write=False)
    curve.setflags(write=False)
    return GalaxyGrid(float(step), flux, curve)


@lru_cache(maxsize=6)
def star_fluxes(bands: tuple[Band, ...]) -> NDArray[np.float32]:
    """The star library through these bands; computed once per process.

    The library starts at 3000 A and ends at 2.5 micrometres. Beyond, a star goes on as a Planck
    function, in the ultraviolet with the line blanketing of cool atmospheres put in as a steeper
    slope: good to a magnitude there, and no better.

    Parameters
    ----------
    bands : tuple of Band

    Returns
    -------
    array, shape (n_star, n_band), float32
        Flux densities relative to each other, of arbitrary common scale.
    """
    library = load_stars()
    pixel = np.log(library.wavelength[-1] / library.wavelength[0]) / (len(library.wavelength) - 1)
    lowest = min(band.wavelength - band.width for band in bands)
    highest = max(band.wavelength + band.width for band in bands)
    below = max(int(np.log(library.wavelength[0] / lowest) / pixel) + 1, 0)
    above = max(int(np.log(highest / library.wavelength[-1]) / pixel) + 1, 0)
    first, last = library.wavelength[0], library.wavelength[-1]
    blue = first * np.exp(pixel * np.arange(-below, 0))
    red = last * np.exp(pixel * np.arange(1, above + 1))
    teff = library.teff.astype(np.float64)[:, None]
    ends = np.stack([library.flux[:, :20].mean(axis=1), library.flux[:, -20:].mean(axis=1)])
    blanketing = np.where(teff < 9000.0, (blue / first) ** 4.0, 1.0)
    spectra = np.concatenate(
        [
            ends[0][:, None] * _planck(blue, teff) / _planck(first, teff) * blanketing,
            library.flux,
            ends[1][:, None] * _planck(red, teff) / _planck(last, teff),
        ],
        axis=1,
    )
    wave = np.concatenate([blue, library.wavelength, red])
    fluxes = band_flux(wave, spectra, transmission(wave, bands))
    # A band in which a brown dwarf gives no light at all is not worth an infinity.
    floor = 1e-6 * fluxes.max(axis=1, keepdims=True)
    result: NDArray[np.float32] = np.maximum(fluxes, floor).astype(np.float32)
    result.setflags(write=False)
    return result


def _planck(
    wavelength: NDArray[np.float64] | float, teff: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(wavelength**-5.0 / np.expm1(1.43877688e8 / (wavelength * teff)))
