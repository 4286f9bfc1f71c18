"""Spectra brought from one grid of wavelengths onto another, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_WHOLE = 0.01
"""Of a pixel: grids that are apart by so much less than whole pixels are the same grid."""
_EVEN = 1e-3
"""Of a pixel: how far the wavelengths of an even grid may be from evenness."""


@dataclass(frozen=True)
class Resampling:
    """How spectra come from one grid onto another.

    Parameters
    ----------
    points : int
        Pixels of the grid that they come onto.
    shift : int or None
        Where both are the same grid: the place that the first pixel goes to, which may be outside.
    matrix : scipy.sparse.csr_array or None
        Otherwise: what each pixel takes of each of the others, shape (points, pixels); the sum is 1
        where a pixel is covered as a whole.
    falling : bool
        Whether the spectra come from the longest wavelength to the shortest: who uses this turns
        them round before.
    pixels : int
        Of the grid that they come from.
    """

    points: int
    shift: int | None
    matrix: sparse.csr_array | None
    falling: bool
    pixels: int

    @cached_property
    def covered(self) -> int:
        """How many pixels get something."""
        if self.matrix is not None:
            return int(self._whole.sum())
        to, _ = self._places
        return int(to.stop - to.start)

    def spectra(
        self, flux: NDArray[np.generic], ivar: NDArray[np.generic]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Flux densities and their inverse variances on the other grid.

        On the same grid each number stays what it is. On another the flux is conserved: a pixel has
        the mean over its width. Its variance is that of this mean; where a pixel that it takes from
        has none (or no finite flux), it has an inverse variance of 0.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, pixels)
            From the shortest wavelength to the longest.

        Returns
        -------
        tuple of ndarray, shape (n, points)
            NaN and 0 where there is no pixel.
        """
        if self.matrix is None:
            return self._placed(flux, np.nan), self._placed(ivar, 0.0)
        values, weights = np.asarray(flux, np.float64), np.asarray(ivar, np.float64)
        good = np.isfinite(values) & (weights > 0) & np.isfinite(weights)
        missing = (self.matrix != 0).astype(np.float64) @ (~good).T.astype(np.float64) > 0
        found = (self.matrix @ np.where(np.isfinite(values), values, 0.0).T).T
        variance = (
            self.matrix.power(2) @ np.divide(1.0, weights, where=good, out=np.zeros_like(weights)).T
        ).T
        bad = missing.T | ~self._whole | (variance <= 0)
        inverse = np.where(bad, 0.0, 1.0 / np.where(bad, 1.0, variance))
        return np.where(self._whole, found, np.nan), inverse

    def flags(self, mask: NDArray[np.generic]) -> NDArray[np.int64]:
        """Flags on the other grid: all those of the pixels that a pixel takes from."""
        if self.matrix is None:
            return self._placed(np.asarray(mask), 0).astype(np.int64)
        values = np.asarray(mask).astype(np.int64)
        found = np.zeros((len(values), self.points), np.int64)
        used = (self.matrix != 0).astype(np.float64)
        for bit in range(63):
            one = (values >> bit) & 1
            if one.any():
                found |= (((used @ one.T.astype(np.float64)).T > 0).astype(np.int64)) << bit
        return found

    @cached_property
    def _whole(self) -> NDArray[np.bool_]:
        """Pixels that are covered as a whole."""
        assert self.matrix is not None
        return np.asarray(self.matrix.sum(axis=1)).ravel() > 1 - 1e-6

    @cached_property
    def _places(self) -> tuple[slice, slice]:
        """The pixels of the grid that come from these of the other."""
        assert self.shift is not None
        first, last = max(self.shift, 0), min(self.shift + self.pixels, self.points)
        last = max(first, last)
        return slice(first, last), slice(first - self.shift, last - self.shift)

    def _placed(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        found = np.full((len(values), self.points), empty, np.asarray(values).dtype)
        to, of = self._places
        found[:, to] = values[:, of]
        return found


def resampling(wavelengths: NDArray[np.float64], onto: NDArray[np.float64]) -> Resampling:
    """How spectra come from some wavelengths onto others.

    Grids that are even in the same scale with the same step, and apart by whole pixels, are one
    grid: nothing is interpolated there.

    Parameters
    ----------
    wavelengths : ndarray, shape (pixels,)
        Rising or falling, of the centres of the pixels.
    onto : ndarray, shape (points,)
        Rising.

    Returns
    -------
    Resampling
    """
    falling = bool(wavelengths[0] > wavelengths[-1])
    rising = wavelengths[::-1] if falling else wavelengths
    shift = _whole_shift(rising, onto)
    matrix = None if shift is not None else overlap_matrix(edges_of(rising), edges_of(onto))
    return Resampling(len(onto), shift, matrix, falling, len(rising))


def edges_of(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where pixels begin and end: half way between their centres, shape (pixels + 1,)."""
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def overlap_matrix(edges: NDArray[np.float64], onto: NDArray[np.float64]) -> sparse.csr_array:
    """The share of each pixel (row) that each pixel of another grid (column) covers.

    Parameters
    ----------
    edges : ndarray, shape (pixels + 1,)
        Where the pixels begin and end that are given; rising.
    onto : ndarray, shape (points + 1,)
        Where those begin and end that are wanted; rising.

    Returns
    -------
    scipy.sparse.csr_array, shape (points, pixels)
    """
    pixels, points = len(edges) - 1, len(onto) - 1
    # Between two neighbours of all edges lies a piece of one pixel of either grid.
    both = np.unique(np.concatenate([edges, onto]))
    middle = (both[1:] + both[:-1]) / 2
    column = np.searchsorted(edges, middle) - 1
    row = np.searchsorted(onto, middle) - 1
    inside = (column >= 0) & (column < pixels) & (row >= 0) & (row < points)
    column, row = column[inside], row[inside]
    share = np.diff(both)[inside] / np.diff(onto)[row]
    return sparse.csr_array((share, (row, column)), shape=(points, pixels))


def _whole_shift(wavelengths: NDArray[np.float64], onto: NDArray[np.float64]) -> int | None:
    """By how many pixels one grid lies behind the start of another, if both are the same grid."""
    for scale in (np.log10, np.asarray):
        given, wanted = scale(wavelengths), scale(onto)
        step = (wanted[-1] - wanted[0]) / (len(wanted) - 1)
        places = (given - wanted[0]) / step
        shift = round(float(places[0]))
        off = np.abs(places - shift - np.arange(len(places)))
        even = np.abs(wanted - wanted[0] - step * np.arange(len(wanted))).max() < _EVEN * step
        if even and off.max() < _WHOLE:
            return shift
    return None
