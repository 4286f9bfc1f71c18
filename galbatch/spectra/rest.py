"""Spectra of any redshift on one grid of pixels at rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from galbatch.spectra.grids import LogGrid
from galbatch.spectra.resample import overlaps

_LEAST = 0.5
"""Of a pixel: how much of it must have data."""

Array = NDArray[np.float64]


def rest_grid(low: float, high: float, pixels: int) -> LogGrid:
    """A grid whose outer edges are two wavelengths.

    Parameters
    ----------
    low, high : float
        Angstrom, at rest.
    pixels : int

    Returns
    -------
    LogGrid
    """
    step = float(np.log10(high / low)) / pixels
    return LogGrid(float(np.log10(low)) + step / 2, step, pixels)


@dataclass(frozen=True)
class ToRest:
    """Moves observed spectra to rest, and bins them.

    A redshift moves a spectrum by the nearest whole number of pixels: no pixel is interpolated, and
    what is rounded is half of one at most (35 km/s for pixels of SDSS).

    Parameters
    ----------
    grid : LogGrid
        Of the spectra.
    wanted : LogGrid
        At rest, of pixels that are wider.
    """

    grid: LogGrid
    wanted: LogGrid

    @cached_property
    def _moved(self) -> tuple[int, int]:
        """The first pixel at rest, counted from the grid's own, and how many there are."""
        ends = np.log10(self.wanted.edges[[0, -1]])
        first, last = np.floor((ends - self.grid.first) / self.grid.step + 0.5).astype(int)
        return int(first), int(last - first + 1)

    @cached_property
    def _shares(self) -> scipy.sparse.csr_array:
        first, points = self._moved
        at_rest = LogGrid(self.grid.first + first * self.grid.step, self.grid.step, points)
        return overlaps(at_rest.edges, self.wanted.edges)

    @cached_property
    def _squares(self) -> scipy.sparse.csr_array:
        return self._shares.power(2)

    def __call__(self, flux: Array, ivar: Array, redshift: Array) -> tuple[Array, Array]:
        """Flux densities and their inverse variances at rest.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)
            On the grid; an inverse variance of 0 where there is no data.
        redshift : ndarray, shape (n,)
            NaN for none: such a spectrum has no data at rest.

        Returns
        -------
        tuple of ndarray, shape (n, wanted.points)
            Means by inverse variance. Both are 0 where less than half of a pixel has data.
        """
        weights = self._taken(ivar, redshift)
        weighted = weights * self._taken(np.where(ivar > 0, flux, 0.0), redshift)
        known = self._summed(self._shares, (weights > 0).astype(np.float64)) >= _LEAST
        total = self._summed(self._shares, weights)
        squares = self._summed(self._squares, weights)
        full = known & (total > 0)
        safe = np.where(full, total, 1.0)
        mean = np.where(full, self._summed(self._shares, weighted) / safe, 0.0)
        inverse = np.where(full, total * total / np.where(full, squares, 1.0), 0.0)
        return mean, inverse

    def _taken(self, values: Array, redshift: Array) -> Array:
        """Pixels at rest out of those observed; 0 where there is none."""
        known = np.isfinite(redshift) & (redshift > -1)
        shifts = np.rint(np.log10(1.0 + np.where(known, redshift, 0.0)) / self.grid.step)
        first, points = self._moved
        at = first + shifts.astype(np.intp)[:, None] + np.arange(points)
        inside = (at >= 0) & (at < self.grid.points) & known[:, None]
        found = np.take_along_axis(values, np.clip(at, 0, self.grid.points - 1), axis=1)
        return np.where(inside, found, 0.0)

    @staticmethod
    def _summed(shares: Any, values: Array) -> Array:
        return np.asarray((shares @ values.T).T, np.float64)
