"""Simulated mixtures of stellar populations: drawn, and made into spectra a batch at a time.

A spectrum is a sum of populations by their shares of the light. Dust dims it after Calzetti et al.
(2000). Lines of gas are added by the equivalent width of H beta, with ratios that scatter around
those of young stars. Motions broaden and shift stars and gas alike, in Fourier space. The redshift
places the spectrum on the observed grid by whole pixels, and what is left of a pixel is part of the
shift in Fourier space: nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import ndtr

from galbatch.mock.attenuation import STARS_TO_GAS, calzetti_curve
from galbatch.mock.gas import BALMER, HIGH, NAMES, OXYGEN, RATIO, WAVELENGTHS
from galbatch.mock.kinematics import broadened
from galbatch.mock.profiles import LIGHT
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_parameters import OF_GALAXY, OF_STARS, MixtureParameters, Mixtures
from galbatch.spectra.populations import Populations, between

_METAL_STEP = 0.1
"""Between metallicities of the library that populations are taken from."""
_RESOLUTION = 2.5 / 2.3548
"""Angstrom: how wide lines of gas are before they move, as wide as those of MILES's stars."""
_BETA = NAMES.index("H_beta")
_NEAR_BETA = 60
"""Pixels on each side of H beta that its continuum is taken from."""
_SCATTER_HIGH, _SCATTER_LOW = 0.4, 0.2
"""dex, of lines of high and of low ionisation over H beta."""

Array = NDArray[np.float64]


def drawn_mixtures(
    parameters: MixtureParameters,
    rows: int,
    rng: np.random.Generator,
    redshift: Array | None = None,
) -> Mixtures:
    """Mixtures of one to all components, each number even within its limits.

    Parameters
    ----------
    parameters : MixtureParameters
    rows : int
    rng : numpy.random.Generator
    redshift : ndarray, shape (rows,), optional
        By default 0.

    Returns
    -------
    Mixtures
        Weights are even among those that sum to 1 with none below `parameters.least`.
    """
    count = parameters.components
    present = np.arange(count) < rng.integers(1, count + 1, (rows, 1))
    drawn = np.where(present, rng.exponential(size=(rows, count)), 0.0)
    drawn /= drawn.sum(axis=1, keepdims=True)
    spare = 1.0 - parameters.least * present.sum(axis=1, keepdims=True)
    weight = np.where(present, parameters.least + spare * drawn, 0.0)
    parts = {}
    for kind in (*OF_STARS, *OF_GALAXY):
        width = count if kind in OF_STARS or parameters.own else 1
        parts[kind] = rng.uniform(*parameters.limits[kind], (rows, width))
    made = parameters.tidied(weight, parts)
    given = np.zeros(rows) if redshift is None else np.asarray(redshift, np.float64)
    return Mixtures(**{**vars(made), "redshift": given})


@dataclass(frozen=True, eq=False)
class Mixer:
    """Makes spectra of mixtures.

    Parameters
    ----------
    library : Populations
    """

    library: Populations

    @property
    def grid(self) -> LogGrid:
        """That of the library, at rest."""
        return self.library.grid

    def at_rest(self, mixtures: Mixtures, rng: np.random.Generator) -> NDArray[np.float32]:
        """Spectra at rest but for their velocities, without noise.

        Parameters
        ----------
        mixtures : Mixtures
        rng : numpy.random.Generator
            Of the ratios of lines.

        Returns
        -------
        ndarray of float32, shape (n, grid.points)
            Per Angstrom, about 1 before dust.
        """
        return self._moved(mixtures, rng, np.zeros(len(mixtures)))

    def observed(
        self, mixtures: Mixtures, axis: LogGrid, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Spectra on an observed grid, without noise.

        Parameters
        ----------
        mixtures : Mixtures
        axis : LogGrid
            Of the library's step.
        rng : numpy.random.Generator

        Returns
        -------
        flux : ndarray of float32, shape (n, axis.points)
            0 where the library does not reach.
        seen : ndarray of bool, shape (n, axis.points)
        """
        redder = np.log10(1.0 + mixtures.redshift)
        places = (axis.first - self.grid.first - redder) / self.grid.step
        whole = np.rint(places).astype(np.intp)
        moved = self._moved(mixtures, rng, whole - places)
        at = whole[:, None] + np.arange(axis.points)
        seen = (at >= 0) & (at < self.grid.points)
        flux = np.take_along_axis(moved, np.clip(at, 0, self.grid.points - 1), axis=1)
        flux /= (1.0 + mixtures.redshift[:, None]).astype(np.float32)
        return np.where(seen, flux, np.float32(0)), seen

    def _moved(
        self, mixtures: Mixtures, rng: np.random.Generator, shifts: Array
    ) -> NDArray[np.float32]:
        """Spectra with velocities, and moved by some pixels besides."""
        rows, own = mixtures.velocity.shape
        light = self._light(mixtures, apart=own > 1)
        dusty = light * self._dimmed(mixtures.extinction.ravel())
        dusty += self._gas(dusty, mixtures, rng)
        pixel = LIGHT * np.log(10.0) * self.grid.step
        speeds = np.log10(1.0 + mixtures.velocity / LIGHT) / self.grid.step
        moves = (speeds + shifts[:, None]).ravel()
        moved = broadened(dusty, mixtures.dispersion.ravel() / pixel, moves)
        return np.asarray(moved.reshape(rows, own, -1).sum(axis=1), np.float32)

    def _light(self, mixtures: Mixtures, apart: bool) -> NDArray[np.float32]:
        """Sums of populations, (n, points); each component's own (n c, points) if apart."""
        fine, spectra = self._nodes
        rows, count = mixtures.weight.shape
        old, share_old = between(fine.ages, np.nan_to_num(mixtures.log_age).ravel())
        rich, share_rich = between(fine.metallicities, np.nan_to_num(mixtures.metallicity).ravel())
        row = np.arange(rows * count) if apart else np.repeat(np.arange(rows), count)
        weights, nodes = [], []
        for more, up in ((0, 1 - share_rich), (1, share_rich)):
            for later, on in ((0, 1 - share_old), (1, share_old)):
                weights.append(mixtures.weight.ravel() * up * on)
                nodes.append((rich + more) * len(fine.ages) + old + later)
        cells = np.tile(row, 4), np.concatenate(nodes)
        shape = (rows * count if apart else rows, len(spectra))
        values = np.concatenate(weights).astype(np.float32)
        return np.asarray(scipy.sparse.csr_array((values, cells), shape=shape) @ spectra)

    @cached_property
    def _nodes(self) -> tuple[Populations, NDArray[np.float32]]:
        """The library with finer metallicities, and its spectra of mean 1, (nodes, points)."""
        fine = self.library.refined(_METAL_STEP)
        spectra = np.exp(fine.logarithms).reshape(-1, fine.grid.points)
        return fine, (spectra / spectra.mean(axis=1, keepdims=True)).astype(np.float32)

    def _dimmed(self, extinction: Array) -> NDArray[np.float32]:
        """What dust lets through, (n, points)."""
        depth = (-0.4 * np.log(10.0) * calzetti_curve(self.grid.wavelengths)).astype(np.float32)
        return np.asarray(np.exp(extinction.astype(np.float32)[:, None] * depth), np.float32)

    def _gas(
        self, continuum: NDArray[np.float32], mixtures: Mixtures, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Lines of gas behind more dust than the stars have, (m, points)."""
        ratios = self._ratios(len(mixtures), rng)
        near = slice(max(self._at_beta - _NEAR_BETA, 0), self._at_beta + _NEAR_BETA + 1)
        level = continuum[:, near].mean(axis=1)
        curve = calzetti_curve(WAVELENGTHS)
        gas = mixtures.extinction.ravel() / STARS_TO_GAS
        dimmed = 10.0 ** (-0.4 * gas[:, None] * (curve - curve[_BETA]))
        flux = (level * 10.0 ** mixtures.log_gas.ravel())[:, None] * dimmed
        flux = flux * np.repeat(ratios, mixtures.velocity.shape[1], axis=0)
        return np.asarray(flux.astype(np.float32) @ self.line_profiles)

    def _ratios(self, rows: int, rng: np.random.Generator) -> Array:
        """Fluxes of lines over that of H beta, (n, lines)."""
        high, low = rng.standard_normal((2, rows, 1))
        forbidden = np.array([name.startswith("[") for name in NAMES])
        highly = np.isin(np.arange(len(NAMES)), [*HIGH, *OXYGEN])
        scatter = np.where(highly, _SCATTER_HIGH * high, _SCATTER_LOW * low)
        return np.asarray(RATIO[0] * 10.0 ** np.where(forbidden & ~BALMER, scatter, 0.0))

    @cached_property
    def _at_beta(self) -> int:
        at = (np.log10(WAVELENGTHS[_BETA]) - self.grid.first) / self.grid.step
        return int(np.clip(np.rint(at), _NEAR_BETA, self.grid.points - 1 - _NEAR_BETA))

    @cached_property
    def line_profiles(self) -> NDArray[np.float32]:
        """Lines of flux 1, (lines, points)."""
        cells = (self.grid.edges - WAVELENGTHS[:, None]) / _RESOLUTION
        return np.asarray(np.diff(ndtr(cells), axis=1) / np.diff(self.grid.edges), np.float32)
