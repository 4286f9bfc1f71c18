"""The density that galaxies of the simulated sky are drawn from.

`Galaxies.draw` turns random numbers into galaxies; here is how probable a given galaxy is. A galaxy
is two library spectra and seven numbers; its density is that of its cell (redshift, mass, spectrum,
dust), uniform in comoving volume, log mass and E(B-V) within the cell, times normal densities of
line strength, tilt and bend, and 0 outside the range of reference magnitudes.

The coordinates are chosen so that what photometry knows well is a coordinate of its own: the
reference magnitude stands for the mass (at all else fixed, d log M = -0.4 dm, a constant), and
ln(1+z) for the redshift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.mock.galaxies import (
    BEND,
    EBV_EDGES,
    LINE_SCATTER,
    MASS_EDGES,
    NEIGHBOURS,
    TILT,
    Z_EDGES,
    Z_RANGE,
    Galaxies,
    shapes,
)
from galbatch.mock.image import detection_image
from galbatch.mock.objects import Array, Objects
from galbatch.mock.relations import log_size

ZETA, MAGNITUDE, EBV, SHARE, LINES, TILT_AT, BEND_AT = range(7)
"""Rows of `Points.x`."""

_LN_FLUX = -0.4 * np.log(10.0)
_CONTINUOUS = 7
_BANK_MAGNITUDES = 0.5
_BANK_BLOCK = 65_536
_SIZE_DRAWS = 50_000
_LOG_RADIUS = np.arange(-2.5, 1.51, 0.05)
_LOG_FACTOR = np.concatenate([[-0.05], np.arange(0.005, 1.2, 0.01), np.arange(1.2, 2.05, 0.05)])


@dataclass(frozen=True)
class Points:
    """Galaxies as points of the space that the density is over.

    Parameters
    ----------
    sed : array, shape (...), int
        The first library spectrum.
    slot : array, shape (...), int
        Which of its `NEIGHBOURS` possible partners is the second.
    x : array, shape (7, ...), float64
        ln(1+z); AB magnitude in the reference band, before Galactic dust; E(B-V); the uniform
        number behind the mass share; line strength, tilt and bend in standard deviations.
    """

    sed: NDArray[np.intp]
    slot: NDArray[np.intp]
    x: Array

    def __getitem__(self, index: Any) -> Points:
        return Points(self.sed[index], self.slot[index], self.x[:, *_indices(index)])


@dataclass(frozen=True)
class Described:
    """What follows from points.

    Parameters
    ----------
    log_density : array, shape (...), float64
        Natural logarithm, up to one constant; -inf where there is no galaxy.
    flux : array, shape (..., b), float32
        Noise-free fluxes in microjansky, before Galactic dust.
    log_mass : array, shape (...), float64
    log_radius : array, shape (...), float64
        log10 of the typical half-light radius of such galaxies in arcsec.
    passive : array, shape (...), bool
    """

    log_density: Array
    flux: NDArray[np.float32]
    log_mass: Array
    log_radius: Array
    passive: NDArray[np.bool_]


@dataclass(frozen=True)
class Bank:
    """Galaxies drawn from the model, ascending in reference magnitude.

    Parameters
    ----------
    points : Points
    described : Described
        What follows from them.
    log_density : array, shape (n,), float64
        What they were drawn from, up to the constant of `Described.log_density`.
    """

    points: Points
    described: Described
    log_density: Array


class GalaxyPrior:
    """Density of the galaxies that `Galaxies` draws.

    Parameters
    ----------
    galaxies : Galaxies
    """

    def __init__(self, galaxies: Galaxies) -> None:
        self.galaxies = galaxies
        volume, dust = np.diff(galaxies.volume_edges), np.diff(EBV_EDGES)
        self.counts = np.diff(galaxies.cumulative, prepend=0.0)
        at_z, _, _, at_ebv = np.unravel_index(galaxies.cells, galaxies.cell_shape)
        table = np.full(int(np.prod(galaxies.cell_shape)), -np.inf, np.float32)
        table[galaxies.cells] = np.log(self.counts / (volume[at_z] * dust[at_ebv]))
        self._log_cells = table.reshape(galaxies.cell_shape)
        # Redshifts are drawn by linear interpolation in the table of distances: so is the volume.
        self._slope = np.diff(galaxies.distance_table) / np.diff(galaxies.z_table)
        self._limits = np.log1p(Z_RANGE)
        self._squared = np.square(galaxies.colour)

    def describe(self, points: Points) -> Described:
        """Density and photometry.

        Parameters
        ----------
        points : Points

        Returns
        -------
        Described
        """
        galaxies, shape = self.galaxies, points.sed.shape
        sed, slot = points.sed.ravel(), points.slot.ravel()
        x = points.x.reshape(_CONTINUOUS, -1)
        partner = galaxies.neighbour[sed, slot]
        # What is outside is evaluated at the edge, and has no density.
        z = np.expm1(np.clip(x[ZETA], *self._limits))
        ebv = np.clip(x[EBV], 0.0, EBV_EDGES[-1])
        uniform = np.clip(x[SHARE], 0.0, 1.0).astype("f4")
        flux = galaxies.grid.of(
            np.stack([sed, partner], axis=1),
            galaxies.share(sed, partner, uniform).astype("f4"),
            z,
            ebv.astype("f4"),
            np.exp(np.log(10.0) * LINE_SCATTER * x[LINES]).astype("f4"),
        )
        reference = flux[:, galaxies.reference].astype(np.float64)
        magnitude = x[MAGNITUDE]
        log_mass = 0.4 * (23.9 - magnitude + galaxies.distance_modulus(z)) - np.log10(reference)
        flux *= (np.exp(_LN_FLUX * (magnitude - 23.9)) / reference).astype("f4")[:, None]
        tilt, bend = (TILT * _LN_FLUX) * x[TILT_AT], (BEND * _LN_FLUX) * x[BEND_AT]
        flux *= np.exp(
            tilt.astype("f4")[:, None] * galaxies.colour
            + bend.astype("f4")[:, None] * self._squared
        )
        passive = galaxies.passive[sed]
        log_radius = log_size(z, log_mass, passive) - np.log10(galaxies.angular_scale(z))
        log_mass = log_mass.reshape(shape)
        return Described(
            self.log_density(points, log_mass),
            flux.reshape(*shape, flux.shape[1]),
            log_mass,
            log_radius.reshape(shape),
            passive.reshape(shape),
        )

    def log_density(self, points: Points, log_mass: Array) -> Array:
        """Density alone, where the stellar mass is known already.

        Parameters
        ----------
        points : Points
        log_mass : array, shape (...)
            That `describe` gives for these points.

        Returns
        -------
        array, shape (...), float64
            Natural logarithm, up to one constant; -inf where there is no galaxy.
        """
        galaxies, x = self.galaxies, points.x
        z = np.expm1(np.clip(x[ZETA], *self._limits))
        at_z = _cell(Z_EDGES, z)
        at_mass, at_ebv = _cell(MASS_EDGES, log_mass), _cell(EBV_EDGES, x[EBV])
        segment = np.clip(np.searchsorted(galaxies.z_table, z) - 1, 0, len(self._slope) - 1)
        distance = galaxies.distance_table[segment] + self._slope[segment] * (
            z - galaxies.z_table[segment]
        )
        volume = np.log(distance**2 * self._slope[segment]) + x[ZETA]
        normal = -0.5 * np.square(x[[LINES, TILT_AT, BEND_AT]]).sum(axis=0)
        bright, faint = galaxies.magnitudes
        inside = (
            (x[ZETA] > self._limits[0])
            & (x[ZETA] < self._limits[1])
            & (x[MAGNITUDE] >= bright)
            & (x[MAGNITUDE] <= faint)
            & (x[EBV] >= 0.0)
            & (x[EBV] < EBV_EDGES[-1])
            & (x[SHARE] >= 0.0)
            & (x[SHARE] < 1.0)
            & (log_mass >= MASS_EDGES[0])
            & (log_mass < MASS_EDGES[-1])
        )
        density = self._log_cells[at_z, at_mass, points.sed, at_ebv] + volume + normal
        return np.where(inside, density, -np.inf)

    def bank(self, rng: np.random.Generator, rows: int) -> Bank:
        """Draw galaxies that are spread evenly over the reference magnitudes.

        Parameters
        ----------
        rng : numpy.random.Generator
        rows : int

        Returns
        -------
        Bank
            Of `rows` galaxies.
        """
        log_boost = self._log_boost()
        cumulative = np.cumsum(self.counts * np.exp(log_boost))
        parts: list[Points] = []
        boosts: list[Array] = []
        missing = rows
        while missing > 0:
            uniform = rng.random(_BANK_BLOCK) * cumulative[-1]
            chosen = np.searchsorted(cumulative, uniform)
            points, kept = self._points(rng, self.galaxies.cells[chosen])
            parts.append(points)
            boosts.append(log_boost[chosen][kept])
            missing -= len(points.sed)
        x = np.concatenate([part.x for part in parts], axis=1)[:, :rows]
        order = np.argsort(x[MAGNITUDE])
        sed, slot = (
            np.concatenate(column)[:rows][order]
            for column in ([part.sed for part in parts], [part.slot for part in parts])
        )
        points = Points(sed, slot, x[:, order])
        blocks = [
            vars(self.describe(points[start : start + _BANK_BLOCK]))
            for start in range(0, rows, _BANK_BLOCK)
        ]
        described = Described(
            **{name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        )
        boost = np.concatenate(boosts)[:rows][order]
        return Bank(points, described, described.log_density + boost)

    def _log_boost(self) -> Array:
        """ln of what makes the cells of every half magnitude equally probable."""
        galaxies = self.galaxies
        middle = [0.5 * (edges[1:] + edges[:-1]) for edges in (Z_EDGES, MASS_EDGES, EBV_EDGES)]
        at_z, at_mass, sed, at_ebv = np.unravel_index(galaxies.cells, galaxies.cell_shape)
        of_mass = galaxies.reference_magnitude(middle[0], middle[2])
        magnitude = of_mass[sed, at_z, at_ebv] - 2.5 * middle[1][at_mass]
        bright, faint = galaxies.magnitudes
        bins = np.floor(np.clip(magnitude, bright, faint - 1e-6) / _BANK_MAGNITUDES).astype(int)
        bins -= bins.min()
        total = np.bincount(bins, self.counts)
        boost: Array = -np.log(total)[bins]
        return boost

    def _points(
        self, rng: np.random.Generator, cells: NDArray[np.int64]
    ) -> tuple[Points, NDArray[np.bool_]]:
        """A galaxy in each cell, and which of them are in the range of magnitudes."""
        galaxies = self.galaxies
        at_z, at_mass, sed, at_ebv = np.unravel_index(cells, galaxies.cell_shape)
        rows = len(cells)
        volume = galaxies.volume_edges[at_z]
        volume = volume + rng.random(rows) * np.diff(galaxies.volume_edges)[at_z]
        z = np.interp(np.cbrt(volume), galaxies.distance_table, galaxies.z_table)
        log_mass = MASS_EDGES[at_mass] + rng.random(rows) * np.diff(MASS_EDGES)[at_mass]
        x = np.empty((_CONTINUOUS, rows))
        x[ZETA] = np.log1p(z)
        x[EBV] = EBV_EDGES[at_ebv] + rng.random(rows) * np.diff(EBV_EDGES)[at_ebv]
        x[SHARE] = rng.random(rows)
        x[[LINES, TILT_AT, BEND_AT]] = rng.standard_normal((3, rows))
        slot = rng.integers(0, NEIGHBOURS, rows)
        pair = np.stack([sed, galaxies.neighbour[sed, slot]], axis=1)
        flux = galaxies.grid.of(
            pair,
            galaxies.share(sed, pair[:, 1], x[SHARE].astype("f4")).astype("f4"),
            z,
            x[EBV].astype("f4"),
            np.exp(np.log(10.0) * LINE_SCATTER * x[LINES]).astype("f4"),
            slice(galaxies.reference, galaxies.reference + 1),
        )[:, 0]
        x[MAGNITUDE] = 23.9 - 2.5 * (np.log10(flux) + log_mass) + galaxies.distance_modulus(z)
        bright, faint = galaxies.magnitudes
        kept = (x[MAGNITUDE] >= bright) & (x[MAGNITUDE] <= faint)
        return Points(sed[kept], slot[kept], x[:, kept]), kept


class SizeLaw:
    """How probable the noise of an object's aperture is, given the typical size of its kind.

    The noise in an object's aperture over that of a point source grows with its size
    (`detection_image`), and the stated errors tell it: they are a measurement of the size, and so
    of redshift and mass. The density is tabulated by drawing from the model, for early and late
    types.

    Parameters
    ----------
    rng : numpy.random.Generator
    seeing : float
        FWHM of a point source, arcsec.
    """

    def __init__(self, rng: np.random.Generator, seeing: float) -> None:
        weight = 1.0 - 0.3 * rng.random(_SIZE_DRAWS) ** 4
        width = np.diff(_LOG_FACTOR)
        table = np.empty((2, len(_LOG_RADIUS), len(width)))
        for passive in (False, True):
            relative, axis_ratio = self._relative(rng, passive)
            for index, log_radius in enumerate(_LOG_RADIUS):
                objects = self._objects(relative * 10.0**log_radius, axis_ratio)
                ratio = np.full(_SIZE_DRAWS, 100.0)
                factor = detection_image(rng, objects, ratio, weight, seeing).noise_factor
                counts, _ = np.histogram(np.log(factor), _LOG_FACTOR)
                # No bin is impossible: what was never drawn has a tenth of a draw.
                table[int(passive), index] = np.log(np.maximum(counts, 0.1) / width)
        self._table = table.astype(np.float32)

    @staticmethod
    def _relative(rng: np.random.Generator, passive: bool) -> tuple[Array, Array]:
        """Sizes over the typical one, and axis ratios."""
        zero, kind = np.zeros(_SIZE_DRAWS), np.full(_SIZE_DRAWS, passive)
        mass = np.full(_SIZE_DRAWS, 10.7)
        return shapes(rng, zero, mass, kind, 10.0 ** log_size(zero, mass, kind))

    @staticmethod
    def _objects(radius: Array, axis_ratio: Array) -> Objects:
        unknown, neither = np.full(len(radius), np.nan), np.zeros(len(radius), bool)
        return Objects(
            is_star=neither,
            is_qso=neither,
            redshift=unknown,
            log_mass=unknown,
            abs_mag_b=unknown,
            spectral_type=unknown,
            radius=radius,
            axis_ratio=axis_ratio,
            flux=np.empty((len(radius), 0), np.float32),
            pair=np.zeros((len(radius), 2), np.int32),
            share=np.zeros(len(radius), np.float32),
            ebv=np.zeros(len(radius), np.float32),
            lines=np.zeros((len(radius), 3), np.float32),
            tilt=np.zeros((len(radius), 2), np.float32),
        )

    def log_density(self, factor: Array, log_radius: Array, passive: NDArray[np.bool_]) -> Array:
        """ln p(noise factor | typical size, kind), up to a constant.

        Parameters
        ----------
        factor : array, broadcastable with the others
            Noise over that of a point source.
        log_radius : array, shape (...)
            log10 of arcsec.
        passive : array, shape (...), bool

        Returns
        -------
        array, shape (...)
        """
        last = self._table.shape[2] - 1
        bins = np.clip(np.searchsorted(_LOG_FACTOR, np.log(factor)) - 1, 0, last)
        step = _LOG_RADIUS[1] - _LOG_RADIUS[0]
        position = np.clip((log_radius - _LOG_RADIUS[0]) / step, 0.0, len(_LOG_RADIUS) - 1.001)
        low = position.astype(np.intp)
        upper = position - low
        kind = passive.astype(np.intp)
        below, above = (self._table[kind, low + shift, bins] for shift in (0, 1))
        density: Array = (1.0 - upper) * below + upper * above
        return density


def _cell(edges: Array, values: Array) -> NDArray[np.intp]:
    """Which cell holds each value; the nearest where none does."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def _indices(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)
