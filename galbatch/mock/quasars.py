"""Quasars of the simulated sky.

Numbers per comoving volume, redshift and luminosity are those of SDSS and BOSS (Ross et al. 2013,
ApJ 773, 14, table 8): pure luminosity evolution below redshift 2.2, luminosity and density
evolution above, extrapolated from 3.5 to 5. A spectrum is the composite of Vanden Berk et al.
(2001, AJ 122, 549) written out: its two power laws and the lines of its table 2 with their
equivalent widths and widths, and the Balmer continuum and the ultraviolet iron of the 3000 A bump.
Below the Lyman limit the continuum goes on as in Lusso et al. (2015, MNRAS 449, 4204).

Quasars scatter in slope, in the strength of three groups of lines, of which the high-ionisation
ones fade with luminosity (Baldwin 1977, ApJ 214, 679), and in reddening by dust like that of the
Small Magellanic Cloud. The intergalactic medium is that of the galaxies. The host galaxy is left
out but for what the composite has of it: fainter nuclei than `FAINTEST` are not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc
from threadpoolctl import threadpool_limits

from galbatch.errors import SpecError
from galbatch.mock.attenuation import igm_transmission
from galbatch.mock.galaxies import COSMOLOGY
from galbatch.mock.objects import Array, Objects
from galbatch.mock.photometry import PIXELS_PER_STEP, transmission
from galbatch.spec.survey import Band

Z_RANGE = (0.3, 5.0)
"""The luminosity function was measured from 0.3 to 3.5."""

FAINTEST = -21.0
"""Faintest absolute magnitude, i band at z = 2: below it the host outshines the nucleus."""

TO_1450 = 1.486
"""M(1450 A) - M_i(z = 2) (Richards et al. 2006, AJ 131, 2766, eq. 3)."""

SLOPE_SCATTER = 0.3
"""Scatter of the continuum's index in frequency (Richards et al. 2001, AJ 121, 2308: 0.65 at
95 %)."""

LINE_SCATTER = 0.2
"""Scatter of each group of lines, dex."""

BALDWIN = -0.14
"""Power of the luminosity that the equivalent widths of high-ionisation lines go with (Dietrich et
al. 2002, ApJ 581, 912, for C IV), and `BALDWIN_M`, where they are those of the composite."""
BALDWIN_M = -26.0

REDDENING = 0.025
"""Mean E(B-V) of an exponential distribution: 2 % above 0.1 (Krawczyk et al. 2015, AJ 149, 203)."""

_PIXEL = 0.001
_WAVELENGTHS = (600.0, 30_000.0)
_LYMAN_ALPHA, _LYMAN_LIMIT = 1215.67, 911.8
_NORMAL = 1450.0

# Index in frequency below the Lyman limit (Lusso et al. 2015), and on both sides of the break
# (Vanden Berk et al. 2001, section 4.1).
_INDEX_EXTREME, _INDEX_BLUE, _INDEX_RED = -1.70, -0.44, -2.45
_BREAK = 5000.0

# Vanden Berk et al. (2001), table 2: observed wavelength in the rest frame, equivalent width and
# Gaussian width, Angstrom. The strongest of each group.
_HIGH_IONISATION = (
    (1033.03, 9.77, 7.76),  # O VI and Lyman beta
    (1216.25, 92.91, 19.46),  # Lyman alpha
    (1239.85, 1.11, 2.71),  # N V
    (1305.42, 1.66, 5.42),  # O I
    (1336.60, 0.69, 3.86),  # C II
    (1396.76, 8.13, 14.26),  # Si IV and O IV]
    (1546.15, 23.78, 14.33),  # C IV
    (1637.84, 0.51, 3.94),  # He II
    (1664.74, 0.43, 5.30),  # O III]
    (1856.76, 0.31, 4.95),  # Al III
    (1905.97, 21.19, 23.58),  # C III]
)
_LOW_IONISATION = (
    (2800.26, 32.28, 34.95),  # Mg II
    (4102.73, 5.05, 18.62),  # H delta
    (4346.42, 12.62, 20.32),  # H gamma
    (4564.71, 18.2, 61.7),  # Fe II
    (4853.13, 46.21, 40.44),  # H beta
    (5305.97, 20.3, 54.8),  # Fe II
    (5877.41, 4.94, 23.45),  # He I
    (6564.93, 194.52, 47.39),  # H alpha
)
_NARROW = (
    (3426.84, 1.22, 5.6),  # [Ne V]
    (3729.66, 1.56, 3.32),  # [O II]
    (3869.77, 1.38, 5.31),  # [Ne III]
    (4960.36, 3.50, 3.85),  # [O III]
    (5008.22, 13.23, 6.04),  # [O III]
)
# Blends of Fe II between 2200 and 3100 A, four times Mg II in all (Dietrich et al. 2003, ApJ 596,
# 817, for z > 4 and below alike).
_IRON = ((2480.0, 80.0, 150.0), (2950.0, 35.0, 120.0))
# Optically thick Balmer continuum (Grandi 1982, ApJ 255, 25), its height over the power law at the
# edge; the lines that run together there carry it on.
_BALMER_EDGE, _BALMER_HEIGHT, _BALMER_KELVIN = 3646.0, 0.1, 15_000.0

# Ross et al. (2013), table 8: alpha, beta, M_i* (z = 2), and the evolution with it.
_LOW_Z = {"alpha": -1.16, "beta": -3.37, "magnitude": -22.85, "log_density": -5.96}
_LOW_Z_K = (1.241, -0.249)
_HIGH_Z = {"alpha": -1.29, "beta": -3.51, "magnitude": -26.57, "log_density": -5.93}
_HIGH_Z_C = (-0.689, -0.809)
_PIVOT = 2.2

_Z_EDGES = np.geomspace(1.0 + Z_RANGE[0], 1.0 + Z_RANGE[1], 161) - 1.0
_MAGNITUDE_EDGES = np.arange(-31.0, FAINTEST + 0.05, 0.1)
# Rounds of drawing after which a range of magnitudes counts as empty: one or two are usual.
_PATIENCE = 50
# How far an object's magnitude can be from that of the middle of its cell.
_CELL_MARGIN = 0.5
# Line strengths beyond are cut: 3 sigma.
_STRONGEST = 10.0 ** (3 * LINE_SCATTER)


def quasar_density(magnitude: ArrayLike, redshift: ArrayLike) -> Array:
    """Quasars per comoving Mpc3 and magnitude.

    Ross et al. (2013), table 8; H0 = 70 km/s/Mpc.

    Parameters
    ----------
    magnitude : array
        Absolute magnitude M_i(z = 2): i band, K-corrected to redshift 2.
    redshift : array
        Broadcast with `magnitude`.

    Returns
    -------
    array
    """
    z, absolute = np.asarray(redshift, np.float64), np.asarray(magnitude, np.float64)
    brighter = 2.5 * (_LOW_Z_K[0] * z + _LOW_Z_K[1] * z**2)
    low = _double_power_law(absolute + brighter, **_LOW_Z)
    later = z - _PIVOT
    high = _double_power_law(absolute - _HIGH_Z_C[1] * later, **_HIGH_Z)
    return np.where(z < _PIVOT, low, high * 10.0 ** (_HIGH_Z_C[0] * later))


def _double_power_law(
    absolute: Array, alpha: float, beta: float, magnitude: float, log_density: float
) -> Array:
    above = 0.4 * (absolute - magnitude)
    slopes = 10.0 ** ((alpha + 1.0) * above) + 10.0 ** ((beta + 1.0) * above)
    return np.asarray(10.0**log_density / slopes)


def smc_curve(wavelength: ArrayLike) -> Array:
    """Extinction k = A(lambda) / E(B-V) of dust like the Small Magellanic Cloud's.

    Prevot et al. (1984, A&A 132, 389) as a power law (Richards et al. 2003, AJ 126, 1131), held
    below the Lyman limit.

    Parameters
    ----------
    wavelength : array
        Rest frame, Angstrom.

    Returns
    -------
    array, same shape
        In magnitudes per magnitude.
    """
    micron = np.maximum(np.asarray(wavelength, np.float64), _LYMAN_LIMIT) * 1e-4
    return np.asarray(1.39 * micron**-1.2)


def quasar_spectrum(wavelength: NDArray[np.float64]) -> Array:
    """The composite in parts, before dust and intergalactic gas.

    Parameters
    ----------
    wavelength : array, shape (n_wave,)
        Rest frame, Angstrom.

    Returns
    -------
    array, shape (4, n_wave)
        f_lambda over that of the continuum at 1450 A: continuum, lines of high ionisation, lines
        of low ionisation with iron and Balmer continuum, narrow lines.
    """
    continuum = power_law(wavelength)
    bump = _lines(wavelength, (*_LOW_IONISATION, *_IRON)) + balmer_continuum(wavelength)
    return np.stack(
        [continuum, _lines(wavelength, _HIGH_IONISATION), bump, _lines(wavelength, _NARROW)]
    )


def power_law(wavelength: NDArray[np.float64]) -> Array:
    """Power laws in f_lambda, 1 at 1450 A; wavelengths in Angstrom, rest frame."""
    ends = np.clip(wavelength, _LYMAN_LIMIT, _BREAK)
    return np.asarray(
        (ends / _NORMAL) ** (-2.0 - _INDEX_BLUE)
        * (np.minimum(wavelength, _LYMAN_LIMIT) / _LYMAN_LIMIT) ** (-2.0 - _INDEX_EXTREME)
        * (np.maximum(wavelength, _BREAK) / _BREAK) ** (-2.0 - _INDEX_RED)
    )


def _lines(wavelength: NDArray[np.float64], table: tuple[tuple[float, float, float], ...]) -> Array:
    centre, equivalent, width = np.array(table).T[:, :, None]
    height = equivalent / (np.sqrt(2.0 * np.pi) * width) * power_law(centre)
    return np.asarray((height * np.exp(-0.5 * ((wavelength - centre) / width) ** 2)).sum(axis=0))


def balmer_continuum(wavelength: NDArray[np.float64]) -> Array:
    """Balmer continuum of the composite, in units of its power law at 1450 A."""

    def thick(at: Any) -> Any:
        planck = at**-5.0 / np.expm1(1.43877688e8 / (at * _BALMER_KELVIN))
        return planck * -np.expm1(-((at / _BALMER_EDGE) ** 3))

    edge = 0.5 * erfc((wavelength - 3750.0) / (np.sqrt(2.0) * 80.0))
    height = _BALMER_HEIGHT * power_law(np.array([_BALMER_EDGE]))
    return np.asarray(height * edge * thick(wavelength) / thick(_BALMER_EDGE))


@dataclass(frozen=True)
class QuasarGrid:
    """Band fluxes of the parts of the composite against redshift.

    Parameters
    ----------
    step : float
        Step of the redshift grid in ln(1+z); it starts at z = 0.
    flux : array, shape (n_z, 4, n_band), float64
        Of a quasar with M(1450 A) = 0 at 10 pc, microjansky; only the distance is missing.
    """

    step: float
    flux: Array

    def of(self, redshift: Array, lines: Array, bands: slice = slice(None)) -> Array:
        """Band fluxes, linear in ln(1+z) between the nodes.

        Parameters
        ----------
        redshift : array, shape (n,)
        lines : array, shape (n, 3)
            Strength of the groups of lines over the composite's.
        bands : slice
            Bands wanted.

        Returns
        -------
        array, shape (n, n_band)
        """
        position = np.log1p(redshift) / self.step
        node = position.astype(np.intp)
        upper = (position - node)[:, None]
        found = np.zeros((len(redshift), self.flux[0, 0, bands].size))
        for part in range(4):
            table = self.flux[:, part, bands]
            between = (1.0 - upper) * table[node] + upper * table[node + 1]
            found += between if part == 0 else lines[:, part - 1, None] * between
        return found


@lru_cache(maxsize=6)
def quasar_grid(bands: tuple[Band, ...]) -> QuasarGrid:
    """The composite through these bands; computed once per process.

    Parameters
    ----------
    bands : tuple of Band

    Returns
    -------
    QuasarGrid
    """
    count = int(np.log(_WAVELENGTHS[1] / _WAVELENGTHS[0]) / _PIXEL)
    wave = _WAVELENGTHS[0] * np.exp(_PIXEL * np.arange(count))
    step = PIXELS_PER_STEP * _PIXEL
    n_z = int(np.log1p(Z_RANGE[1]) / step) + 2
    observed = wave[0] * np.exp(_PIXEL * np.arange(count + PIXELS_PER_STEP * n_z))
    response = transmission(observed, bands)
    weight = response / response.sum(axis=0) * observed[:, None] ** 2
    # 3631 Jy is magnitude 0; f_lambda = f_nu c / lambda^2 at 1450 A, and back in the band.
    spectrum = quasar_spectrum(wave) * (3631e6 / _NORMAL**2)
    blue = int(np.searchsorted(wave, _LYMAN_ALPHA))
    flux = np.empty((n_z, len(spectrum), len(bands)))
    # One thread: so small a product is no faster with more, and its last bits would be others.
    with threadpool_limits(limits=1, user_api="blas"):
        for index in range(n_z):
            inside = slice(index * PIXELS_PER_STEP, index * PIXELS_PER_STEP + count)
            z1 = np.exp(index * step)
            seen = spectrum.copy()
            seen[:, :blue] *= igm_transmission(observed[inside][:blue], z1 - 1.0)
            flux[index] = seen @ weight[inside] / z1
    flux.setflags(write=False)
    return QuasarGrid(step, flux)


class Quasars:
    """The quasars that a survey in these bands finds between two magnitudes.

    Parameters
    ----------
    bands : tuple of Band
    reference : int
        Position of the reference band.
    magnitudes : (float, float)
        Range of the true AB magnitude in the reference band.
    """

    def __init__(
        self, bands: tuple[Band, ...], reference: int, magnitudes: tuple[float, float]
    ) -> None:
        self.grid = quasar_grid(bands)
        self.reference = reference
        self.magnitudes = magnitudes
        self.wavelength = np.array([band.wavelength for band in bands])
        self.z_table = np.linspace(0.99 * Z_RANGE[0], 1.01 * Z_RANGE[1], 4000)
        self.distance_table = COSMOLOGY.comoving_distance(self.z_table).value
        self.volume_edges = np.interp(_Z_EDGES, self.z_table, self.distance_table) ** 3
        self.cumulative = np.cumsum(self._numbers())

    def _numbers(self) -> Array:
        """Quasars in the cells of redshift and absolute magnitude, whole sky."""
        z_mid = 0.5 * (_Z_EDGES[1:] + _Z_EDGES[:-1])
        m_mid = 0.5 * (_MAGNITUDE_EDGES[1:] + _MAGNITUDE_EDGES[:-1])
        volume = 4.0 / 3.0 * np.pi * np.diff(self.volume_edges)
        number = quasar_density(m_mid, z_mid[:, None]) * volume[:, None] * np.diff(_MAGNITUDE_EDGES)
        z, absolute = (part.ravel() for part in np.meshgrid(z_mid, m_mid, indexing="ij"))
        apparent = self._apparent(z, absolute, np.ones((z.size, 3))).reshape(number.shape)
        bright, faint = self.magnitudes
        outside = (apparent < bright - _CELL_MARGIN) | (apparent > faint + _CELL_MARGIN)
        return np.where(outside, 0.0, number)

    def _apparent(self, redshift: Array, absolute: Array, lines: Array) -> Array:
        """Magnitude in the reference band."""
        band = slice(self.reference, self.reference + 1)
        flux = self.grid.of(redshift, lines, band)[:, 0]
        modulus = self._distance_modulus(redshift)
        with np.errstate(divide="ignore"):
            return np.asarray(23.9 - 2.5 * np.log10(flux) + absolute + TO_1450 + modulus)

    def _distance_modulus(self, z: Array) -> Array:
        distance = np.interp(z, self.z_table, self.distance_table) * (1.0 + z)
        return np.asarray(5.0 * np.log10(distance) + 25.0)

    def draw(self, rng: np.random.Generator, rows: int) -> Objects:
        """Draw quasars.

        Parameters
        ----------
        rng : numpy.random.Generator
        rows : int

        Returns
        -------
        Objects

        Raises
        ------
        SpecError
            If there are next to no quasars of such magnitudes.
        """
        parts = [self._candidates(rng, int(1.3 * rows))]
        missing = rows - len(parts[0][0])
        while missing > 0:
            if len(parts) > _PATIENCE or not self.cumulative[-1] > 0:
                raise self._empty()
            parts.append(self._candidates(rng, int(1.3 * missing) + 16))
            missing -= len(parts[-1][0])
        redshift, absolute, lines = (
            np.concatenate(column)[:rows] for column in zip(*parts, strict=True)
        )
        return self._realise(rng, redshift, absolute, lines)

    def _empty(self) -> SpecError:
        bright, faint = self.magnitudes
        return SpecError(
            "mock: magnitudes",
            f"hardly a quasar is between {bright} and {faint}",
            "go fainter, or set qso_fraction to 0",
        )

    def _candidates(self, rng: np.random.Generator, rows: int) -> tuple[Array, Array, Array]:
        """Draw from the cells, and keep what is in the range of magnitudes."""
        chosen = np.searchsorted(self.cumulative, rng.random(rows) * self.cumulative[-1])
        at_z, at_magnitude = np.divmod(chosen, len(_MAGNITUDE_EDGES) - 1)
        volume = self.volume_edges[at_z] + rng.random(rows) * np.diff(self.volume_edges)[at_z]
        redshift = np.interp(np.cbrt(volume), self.distance_table, self.z_table)
        width = np.diff(_MAGNITUDE_EDGES)[at_magnitude]
        absolute = _MAGNITUDE_EDGES[at_magnitude] + rng.random(rows) * width
        scatter = 10.0 ** (LINE_SCATTER * rng.standard_normal((rows, 3)))
        lines = np.clip(scatter, 1.0 / _STRONGEST, _STRONGEST)
        lines[:, 0] *= 10.0 ** (-0.4 * BALDWIN * (absolute - BALDWIN_M))
        apparent = self._apparent(redshift, absolute, lines)
        kept = (apparent >= self.magnitudes[0]) & (apparent <= self.magnitudes[1])
        return redshift[kept], absolute[kept], lines[kept]

    def _realise(
        self, rng: np.random.Generator, redshift: Array, absolute: Array, lines: Array
    ) -> Objects:
        rows = len(redshift)
        flux = self.grid.of(redshift, lines)
        # The luminosity function counts quasars as they look: slope and dust change colours and
        # leave the reference band alone.
        index = SLOPE_SCATTER * rng.standard_normal(rows)[:, None]
        ebv = REDDENING * rng.standard_exponential(rows)[:, None]
        rest = self.wavelength / (1.0 + redshift[:, None])
        at = slice(self.reference, self.reference + 1)
        curve = smc_curve(rest)
        flux *= (rest / rest[:, at]) ** -index * 10.0 ** (-0.4 * ebv * (curve - curve[:, at]))
        modulus = self._distance_modulus(redshift)
        flux *= 10.0 ** (-0.4 * (absolute + TO_1450 + modulus))[:, None]
        unknown = np.full(rows, np.nan)
        return Objects(
            is_star=np.zeros(rows, bool),
            is_qso=np.ones(rows, bool),
            redshift=redshift,
            log_mass=unknown,
            abs_mag_b=unknown,
            spectral_type=unknown,
            radius=np.zeros(rows),
            axis_ratio=np.ones(rows),
            flux=flux.astype(np.float32),
            pair=np.zeros((rows, 2), np.int32),
            share=np.zeros(rows, np.float32),
            ebv=ebv[:, 0].astype(np.float32),
            lines=lines.astype(np.float32),
            tilt=np.concatenate([2.5 / np.log(10.0) * index, 0.0 * index], 1).astype(np.float32),
        )
