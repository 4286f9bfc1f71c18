"""Galaxies of the simulated sky.

Their numbers and how their properties go with mass are those that are published (`relations`):
passive and active galaxies each have their own numbers per comoving volume, redshift and stellar
mass; star-forming galaxies lie on the main sequence, shifted down and 0.25 dex wide, and have the
dust of their mass. A galaxy is a mixture of two neighbouring library spectra that are not older
than the Universe, with its own dust, line strength and a smooth deviation from both.

The numbers of (redshift, mass, spectrum, dust) cells are tabulated once, for the survey's range of
magnitudes in its reference band; objects are drawn from the cells, spread within them, and kept if
their exact magnitude is in the range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import NDArray
from scipy.special import ndtr

from galbatch.errors import SpecError
from galbatch.mock.attenuation import calzetti_curve
from galbatch.mock.library import (
    NUV_BAND,
    R_BAND,
    GalaxyLibrary,
    load_galaxies,
    spectral_type_of,
)
from galbatch.mock.objects import Array, Objects
from galbatch.mock.photometry import GalaxyGrid, galaxy_grid
from galbatch.mock.relations import (
    log_metallicity,
    log_size,
    main_sequence,
    mass_function,
    reddening,
)
from galbatch.spec.survey import Band

COSMOLOGY = FlatLambdaCDM(H0=70.0, Om0=0.3)

Z_RANGE = (0.005, 4.0)

LINE_SCATTER = 0.2
"""Scatter of all emission lines of a galaxy around the library's, dex."""

TILT, BEND = 0.05, 0.03
"""Scatter of a galaxy's continuum around the library's: magnitudes per unit of ln(wavelength),
and per its square."""

FROSTING = (-3.2, -1.6)
"""Range of the mass fraction of young stars in half of the passive galaxies, dex."""

PASSIVE_LOG_SSFR = -11.0
"""Library spectra below this are those of passive galaxies."""

MASS_EDGES = np.arange(6.0, 12.21, 0.1)
"""Of the cells that galaxies are drawn from, in log10 of the solar mass; then E(B-V), redshift."""
EBV_EDGES = np.array([0.0, 0.03, 0.07, 0.12, 0.18, 0.26, 0.36, 0.50, 0.75])
Z_EDGES = np.geomspace(Z_RANGE[0] + 0.05, Z_RANGE[1] + 0.05, 121) - 0.05
NEIGHBOURS = 6
"""Partners that a spectrum may be mixed with."""
# Rounds of drawing after which a range of magnitudes counts as empty: one or two are usual.
_PATIENCE = 50
_B_WAVELENGTH = 4400.0
# How far an object's magnitude can be from that of the middle of its cell.
_CELL_MARGIN = 0.5


class Galaxies:
    """The galaxies that a survey in these bands finds between two magnitudes.

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
        self.library: GalaxyLibrary = load_galaxies()
        self.grid: GalaxyGrid = galaxy_grid(bands)
        self.reference = reference
        self.magnitudes = magnitudes
        wavelength = np.array([band.wavelength for band in bands])
        # Deviations from the library leave the reference band alone, so that the selection need
        # not know about them.
        self.colour = np.log(wavelength / wavelength[reference]).astype(np.float32)
        self.reference_wavelength = float(wavelength[reference])
        curve = calzetti_curve([_B_WAVELENGTH, sum(NUV_BAND) / 2.0, sum(R_BAND) / 2.0])
        self.curve_b, self.curve_nuv_r = float(curve[0]), float(curve[1] - curve[2])
        self.luminosity_b = 10.0 ** (-0.4 * self.library.abs_mag_b.astype(np.float64))
        inside = (self.library.wavelength > R_BAND[0]) & (self.library.wavelength < R_BAND[1])
        self.luminosity_r = self.library.luminosity[:, inside].sum(axis=1, dtype=np.float64)
        self.luminosity_nuv = self.luminosity_r * 10.0 ** (-0.4 * self.library.nuv_r)
        self.passive = self.library.log_ssfr < PASSIVE_LOG_SSFR
        self.neighbour = self._neighbours()
        z = np.concatenate([np.linspace(0.0, 0.2, 400), np.geomspace(0.2005, 4.3, 1600)])
        self.z_table = z
        # comoving_distance(0) is 0: distances are only asked for above Z_RANGE[0].
        self.distance_table = COSMOLOGY.comoving_distance(z).value
        self._tabulate()

    def _neighbours(self) -> NDArray[np.intp]:
        """The spectra that may be mixed with each: alike, of its kind, and not older."""
        library = self.library
        where = np.stack(
            [
                library.nuv_r / 0.5,
                np.maximum(library.log_ssfr, -12.0) / 0.5,
                np.log10(library.metallicity) / 0.4,
                np.log10(library.age) / 0.3,
            ],
            axis=1,
        )
        distance = np.square(where[:, None] - where[None, :]).sum(axis=2)
        distance[self.passive[:, None] != self.passive[None, :]] = np.inf
        older = library.oldest[None, :] > library.oldest[:, None]
        distance[older] = np.inf
        order = np.argsort(distance, axis=1)[:, :NEIGHBOURS]
        usable = np.take_along_axis(distance, order, axis=1) < np.inf
        neighbour = np.where(usable, order, np.arange(len(library))[:, None])
        # Half of the partners of a passive spectrum are young: what little forms in such galaxies
        # outshines them in the ultraviolet (Kaviraj et al. 2007, ApJS 173, 619).
        young = ~self.passive & (library.log_ssfr < -9.0) & (library.log_ssfr > -10.0)
        for sed in np.flatnonzero(self.passive):
            frosting = np.flatnonzero(young & ~older[sed])
            if len(frosting):
                picked = np.linspace(0, len(frosting) - 1, NEIGHBOURS // 2).astype(np.intp)
                neighbour[sed, : NEIGHBOURS // 2] = frosting[picked]
        return neighbour

    def _tabulate(self) -> None:
        library = self.library
        z_mid = 0.5 * (Z_EDGES[1:] + Z_EDGES[:-1])
        mass_mid = 0.5 * (MASS_EDGES[1:] + MASS_EDGES[:-1])
        ebv_mid = 0.5 * (EBV_EDGES[1:] + EBV_EDGES[:-1])
        self.volume_edges = np.interp(Z_EDGES, self.z_table, self.distance_table) ** 3
        age = COSMOLOGY.age(z_mid).value
        magnitude = self.reference_magnitude(z_mid, ebv_mid)
        dust_passive, dust_active = self._dust_shares(mass_mid)
        bright, faint = self.magnitudes
        cells: list[NDArray[np.int64]] = []
        counts: list[NDArray[np.float64]] = []
        shape = (len(mass_mid), len(library), len(ebv_mid))
        for index, z in enumerate(z_mid):
            passive, active = self._spectrum_shares(mass_mid, float(age[index]))
            number = (
                (passive * mass_function(mass_mid, z, True)[:, None])[:, :, None]
                * dust_passive[:, None, :]
                + (active * mass_function(mass_mid, z, False)[:, None])[:, :, None]
                * dust_active[:, None, :]
            ) * (self.volume_edges[index + 1] - self.volume_edges[index])
            apparent = magnitude[None, :, index, :] - 2.5 * mass_mid[:, None, None]
            # A cell at low redshift is a large part of its own distance.
            margin = _CELL_MARGIN + 2.5 * np.log10(Z_EDGES[index + 1] / Z_EDGES[index])
            number[(apparent < bright - margin) | (apparent > faint + margin)] = 0.0
            flat = np.flatnonzero(number > 1e-7 * number.max())
            cells.append(flat + index * int(np.prod(shape)))
            counts.append(number.ravel()[flat])
        self.cell_shape = (len(z_mid), *shape)
        self.cells = np.concatenate(cells)
        self.cumulative = np.cumsum(np.concatenate(counts))

    def reference_magnitude(self, z: Array, ebv: Array) -> Array:
        """Apparent magnitude of 1 M_sun, shape (n_sed, n_z, n_ebv)."""
        n_sed = len(self.library)
        sed, at, dust = (a.ravel() for a in np.meshgrid(range(n_sed), z, ebv, indexing="ij"))
        flux = self.grid.of(
            np.stack([sed, sed], axis=1),
            np.zeros(len(sed), np.float32),
            at,
            dust.astype(np.float32),
            np.ones(len(sed), np.float32),
            slice(self.reference, self.reference + 1),
        )[:, 0]
        modulus = self.distance_modulus(z)
        apparent = 23.9 - 2.5 * np.log10(np.maximum(flux, 1e-30)).reshape(n_sed, len(z), len(ebv))
        return np.asarray(apparent + modulus[:, None])

    def distance_modulus(self, z: Array) -> Array:
        """Apparent minus absolute magnitude at redshifts of the model's range."""
        distance = np.interp(z, self.z_table, self.distance_table) * (1.0 + z)
        return np.asarray(5.0 * np.log10(distance) + 25.0)

    def _spectrum_shares(self, log_mass: Array, age: float) -> tuple[Array, Array]:
        """Shares of the spectra among passive and among active galaxies, (n_mass, n_sed)."""
        library = self.library
        metallicity = np.log10(library.metallicity)[None, :] - log_metallicity(log_mass)[:, None]
        allowed = (library.oldest < age)[None, :]
        by_metallicity = np.exp(-0.5 * (metallicity / 0.25) ** 2)

        passive = self.passive
        # Massive passive galaxies formed their stars some 2.5 Gyr after the beginning; less
        # massive ones later (Thomas et al. 2010, MNRAS 404, 1775).
        typical = np.maximum(age - 2.5 + 1.5 * (log_mass - 11.0), 0.45 * age)[:, None]
        by_age = np.exp(-0.5 * (np.log(library.age[None, :] / typical) / 0.35) ** 2)
        quiet = np.where(allowed & passive, by_metallicity * by_age, 0.0)

        # The library has few histories that started at the beginning: give those more weight.
        start = np.log(library.oldest / (0.85 * age))[None, :]
        base = by_metallicity * np.exp(-0.5 * (start / 0.4) ** 2)
        base = np.where(allowed & ~passive, base, 0.0)
        offset = library.log_ssfr[None, :] - main_sequence(log_mass, age)[:, None]
        # Dividing by the library's own density in specific star-formation rate leaves the
        # Gaussian that is wanted, however the library was sampled.
        near = np.exp(-0.5 * ((library.log_ssfr[:, None] - library.log_ssfr[None, :]) / 0.15) ** 2)
        busy = base / (base @ near + 1e-9) * np.exp(-0.5 * (offset / 0.25) ** 2)
        return (
            quiet / np.maximum(quiet.sum(axis=1, keepdims=True), 1e-300),
            busy / np.maximum(busy.sum(axis=1, keepdims=True), 1e-300),
        )

    def _dust_shares(self, log_mass: Array) -> tuple[Array, Array]:
        """Shares of the dust cells among passive and among active galaxies, (n_mass, n_ebv)."""
        exponential = np.diff(-np.exp(-EBV_EDGES / 0.03))
        passive = np.broadcast_to(exponential, (len(log_mass), len(exponential)))
        median = reddening(log_mass)[:, None]
        # A normal distribution in E(B-V), cut at 0: width from that of the H-alpha attenuation
        # and from inclination.
        active = np.diff(ndtr((EBV_EDGES[None, :] - median) / (0.03 + 0.35 * median)), axis=1)
        return (
            passive / passive.sum(axis=1, keepdims=True),
            active / active.sum(axis=1, keepdims=True),
        )

    def draw(self, rng: np.random.Generator, rows: int) -> Objects:
        """Draw galaxies.

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
            If there are next to no galaxies of such magnitudes.
        """
        if not len(self.cells):
            raise self._empty()
        parts = [self._candidates(rng, int(1.6 * rows))]
        missing = rows - len(parts[0]["redshift"])
        while missing > 0:
            parts.append(self._candidates(rng, int(1.6 * missing) + 64))
            missing -= len(parts[-1]["redshift"])
            if len(parts) > _PATIENCE:
                raise self._empty()
        drawn = {key: np.concatenate([part[key] for part in parts])[:rows] for key in parts[0]}
        return self._realise(rng, **drawn)

    def _empty(self) -> SpecError:
        bright, faint = self.magnitudes
        return SpecError(
            "mock: magnitudes", f"hardly a galaxy is between {bright} and {faint}", "go fainter"
        )

    def _candidates(self, rng: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        """Draw from the cells, and keep what is in the range of magnitudes."""
        chosen = np.searchsorted(self.cumulative, rng.random(rows) * self.cumulative[-1])
        at_z, at_mass, sed, at_ebv = np.unravel_index(self.cells[chosen], self.cell_shape)
        volume = self.volume_edges[at_z] + rng.random(rows) * np.diff(self.volume_edges)[at_z]
        redshift = np.interp(np.cbrt(volume), self.distance_table, self.z_table)
        log_mass = MASS_EDGES[at_mass] + rng.random(rows) * np.diff(MASS_EDGES)[at_mass]
        ebv = (EBV_EDGES[at_ebv] + rng.random(rows) * np.diff(EBV_EDGES)[at_ebv]).astype("f4")
        partner = self.neighbour[sed, rng.integers(0, NEIGHBOURS, rows)]
        share = self.share(sed, partner, rng.random(rows, np.float32))
        lines = 10.0 ** (LINE_SCATTER * rng.standard_normal(rows, np.float32))
        pair = np.stack([sed, partner], axis=1)
        band = slice(self.reference, self.reference + 1)
        flux = self.grid.of(pair, share, redshift, ebv, lines, band)[:, 0]
        magnitude = 23.9 - 2.5 * (np.log10(flux) + log_mass) + self.distance_modulus(redshift)
        bright, faint = self.magnitudes
        kept = (magnitude >= bright) & (magnitude <= faint)
        return {
            "pair": pair[kept],
            "share": share[kept],
            "redshift": redshift[kept],
            "log_mass": log_mass[kept],
            "ebv": ebv[kept],
            "lines": lines[kept],
        }

    def share(
        self, sed: NDArray[np.intp], partner: NDArray[np.intp], uniform: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Mass fraction of the second spectrum, from a uniform random number.

        Parameters
        ----------
        sed, partner : array, any shape, int
            Library spectra that are mixed.
        uniform : array, same shape
            In [0, 1).

        Returns
        -------
        array, same shape
            Up to a half; for young stars in a passive galaxy within `FROSTING`.
        """
        frosted = self.passive[sed] & ~self.passive[partner]
        frosting = 10.0 ** (FROSTING[0] + uniform * np.ptp(FROSTING))
        return np.asarray(np.where(frosted, frosting, 0.5 * uniform))

    def _realise(
        self,
        rng: np.random.Generator,
        pair: NDArray[np.intp],
        share: NDArray[np.float32],
        redshift: Array,
        log_mass: Array,
        ebv: NDArray[np.float32],
        lines: NDArray[np.float32],
    ) -> Objects:
        rows = len(redshift)
        tilt = np.float32(TILT) * rng.standard_normal(rows, np.float32)
        bend = np.float32(BEND) * rng.standard_normal(rows, np.float32)
        flux = self.grid.of(pair, share, redshift, ebv, lines)
        flux *= np.exp(
            np.float32(-0.4 * np.log(10.0))
            * (tilt[:, None] * self.colour + bend[:, None] * np.square(self.colour))
        )
        luminosity = 10.0 ** (log_mass - 0.4 * self.distance_modulus(redshift))
        flux *= luminosity.astype(np.float32)[:, None]

        first, second = pair[:, 0], pair[:, 1]
        mixed = 1.0 - share, share
        light_b = mixed[0] * self.luminosity_b[first] + mixed[1] * self.luminosity_b[second]
        light_r = mixed[0] * self.luminosity_r[first] + mixed[1] * self.luminosity_r[second]
        light_nuv = mixed[0] * self.luminosity_nuv[first] + mixed[1] * self.luminosity_nuv[second]
        at_b = np.log(_B_WAVELENGTH * (1.0 + redshift) / self.reference_wavelength)
        deviation = tilt * at_b + bend * at_b**2
        abs_mag_b = -2.5 * (np.log10(light_b) + log_mass) + self.curve_b * ebv + deviation
        nuv_r = -2.5 * np.log10(light_nuv / light_r) + self.curve_nuv_r * ebv
        passive = self.passive[first]
        scale = self.angular_scale(redshift)
        radius, axis_ratio = shapes(rng, redshift, log_mass, passive, scale)
        return Objects(
            is_star=np.zeros(rows, bool),
            is_qso=np.zeros(rows, bool),
            redshift=redshift,
            log_mass=log_mass,
            abs_mag_b=abs_mag_b,
            spectral_type=spectral_type_of(nuv_r),
            radius=radius,
            axis_ratio=axis_ratio,
            flux=flux,
            pair=pair.astype(np.int32),
            share=share,
            ebv=ebv,
            lines=np.repeat(lines[:, None], 3, axis=1),
            tilt=np.stack([tilt, bend], axis=1),
        )

    def angular_scale(self, redshift: Array) -> Array:
        """kpc per arcsec."""
        distance = np.interp(redshift, self.z_table, self.distance_table) / (1.0 + redshift)
        return np.asarray(distance * 1e3 * np.pi / 180.0 / 3600.0)


def shapes(
    rng: np.random.Generator,
    redshift: Array,
    log_mass: Array,
    passive: NDArray[np.bool_],
    scale: Array,
) -> tuple[Array, Array]:
    """Draw sizes and shapes.

    Parameters
    ----------
    rng : numpy.random.Generator
    redshift, log_mass : array, shape (n,)
    passive : array, shape (n,), bool
    scale : array, shape (n,)
        kpc per arcsec.

    Returns
    -------
    radius, axis_ratio : array, shape (n,)
        Half-light radius along the major axis in arcsec, and b/a.
    """
    rows = len(redshift)
    scatter = np.where(passive, 0.12, 0.17) * rng.standard_normal(rows)
    radius = 10.0 ** (log_size(redshift, log_mass, passive) + scatter) / scale
    # Thin discs seen from all sides have a flat distribution of axis ratios; spheroids are round.
    flat = 0.2 + 0.8 * rng.random(rows)
    round_ = rng.beta(6.0, 2.5, rows)
    return radius, np.clip(np.where(passive, round_, flat), 0.1, 1.0)
