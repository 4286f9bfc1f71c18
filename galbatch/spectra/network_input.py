"""Spectra as a network is shown them: as observed, and at rest by the redshift of a scan.

Each in two ways, on pixels that are `BIN` of the grid's: signal to noise, and flux over the
spectrum's own level. The first says what noise lets be seen, the second the shape. Pixels without
data are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.lines import COUNT, line_numbers

BIN = 2
"""Pixels of the grid in one of the network's."""
REST = LogGrid(3.17, SDSS_STEP, 6720)
"""Where lines are looked for at rest: 1480 to 6950 Angstrom."""
_LIMIT = 12.0
"""Of flux over level."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NetworkInput:
    """Makes a network's inputs of spectra.

    Parameters
    ----------
    grid : LogGrid
        Of the spectra.
    """

    grid: LogGrid

    @cached_property
    def observed(self) -> int:
        """Pixels of a channel of the spectrum as observed."""
        return self.grid.points // BIN

    @cached_property
    def rest(self) -> int:
        """Pixels of a channel of the spectrum at rest."""
        return REST.points // BIN

    @property
    def size(self) -> int:
        """Numbers of a spectrum: two channels as observed, then two at rest, then the lines."""
        return 2 * (self.observed + self.rest) + COUNT

    @property
    def at_rest(self) -> slice:
        """Which of the numbers are the two channels at rest."""
        return slice(2 * self.observed, 2 * (self.observed + self.rest))

    def shifts(self, redshift: Array) -> NDArray[np.intp]:
        """Whole pixels by which spectra are moved to rest, of shape (n,)."""
        return np.rint(np.log10(1.0 + np.nan_to_num(redshift)) / self.grid.step).astype(np.intp)

    def off(self, redshift: Array, truth: Array) -> Array:
        """How many of the network's pixels a spectrum at rest is too far to the red, (n,)."""
        true = np.log10(1.0 + truth) / self.grid.step
        return np.asarray((true - self.shifts(redshift)) / BIN, np.float64)

    def redshifts(self, redshift: Array, off: Array) -> Array:
        """The inverse of `off`: the true redshifts."""
        return self.grid.redshifts(self.shifts(redshift) + BIN * off)

    def as_observed(self, flux: Array, ivar: Array) -> NDArray[np.float32]:
        """The first two channels alone, which need no redshift, of shape (n, 2 observed)."""
        sums, level = _sums(flux, ivar)
        return np.concatenate(_channels(sums, self.observed, level), axis=1)

    def __call__(self, flux: Array, ivar: Array, redshift: Array) -> NDArray[np.float32]:
        """Inputs of spectra.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)
            On the grid; an inverse variance of 0 where there is no data.
        redshift : ndarray, shape (n,)
            That which brings them to rest; NaN for none.

        Returns
        -------
        ndarray of float32, shape (n, size)
        """
        sums, level = _sums(flux, ivar)
        shifts = self.shifts(redshift)
        start = round((REST.first - self.grid.first) / self.grid.step)
        at = start + shifts[:, None] + np.arange(REST.points)
        inside = (at >= 0) & (at < self.grid.points)
        at = np.clip(at, 0, self.grid.points - 1)
        moved = np.stack([np.take_along_axis(one, at, axis=1) * inside for one in sums])
        made = [
            channel
            for both, count in ((sums, self.observed), (moved, self.rest))
            for channel in _channels(both, count, level)
        ]
        weight, weighted = moved
        at_rest = np.where(weight > 0, weighted / np.where(weight > 0, weight, 1.0), 0.0)
        return np.concatenate([*made, line_numbers(at_rest, weight, REST)], axis=1)


def _sums(flux: Array, ivar: Array) -> tuple[Array, Array]:
    """Weights and weighted flux, of shape (2, n, m), and the level of each spectrum."""
    weights = np.where(np.isfinite(ivar) & (ivar > 0), ivar, 0.0)
    sums = np.stack([weights, np.where(weights > 0, weights * flux, 0.0)])
    return sums, _level(flux, weights)


def _level(flux: Array, weights: Array) -> Array:
    """A spectrum's typical flux, of shape (n, 1): the mean of what is not far off, in size."""
    good = weights > 0
    count = np.maximum(good.sum(axis=1, keepdims=True), 1)
    mean = np.abs(np.where(good, flux, 0.0)).sum(axis=1, keepdims=True) / count
    near = good & (np.abs(flux) < 3.0 * mean)
    part = np.where(near, flux, 0.0).sum(axis=1, keepdims=True)
    typical = np.abs(part) / np.maximum(near.sum(axis=1, keepdims=True), 1)
    noise = np.sqrt(1.0 / np.maximum(weights.sum(axis=1, keepdims=True) / count, 1e-30))
    return np.asarray(np.maximum(typical, 0.05 * noise) + 1e-30)


def _channels(sums: Array, count: int, level: Array) -> list[NDArray[np.float32]]:
    """Signal to noise and shape of binned pixels."""
    binned = sums[:, :, : count * BIN].reshape(2, len(level), count, BIN).sum(axis=-1)
    weights, weighted = binned
    known = weights > 0
    safe = np.where(known, weights, 1.0)
    signal = np.arcsinh(weighted / np.sqrt(safe))
    shape = np.clip(weighted / safe / level, -_LIMIT, _LIMIT)
    return [np.where(known, one, 0.0).astype(np.float32) for one in (signal, shape)]
