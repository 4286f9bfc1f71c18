"""Spectra from one grid to another, with their flux.

A pixel's flux density is the mean over the pixel. A pixel of the new grid has the mean of the old
ones by how much of it they cover, which is a product with one sparse matrix for each pair of grids.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.interpolate
import scipy.sparse
from numpy.typing import NDArray

from galbatch.errors import SpecError

_FULL = 1e-9
"""Of a pixel: what may be missing from one that is covered."""

Array = NDArray[np.float64]


def edges_of(centres: NDArray[np.floating]) -> Array:
    """Edges of pixels between the centres, the outer ones as far out as the inner ones are in.

    Parameters
    ----------
    centres : ndarray, shape (m,)
        Wavelengths that increase, at least two.

    Returns
    -------
    ndarray, shape (m + 1,)

    Raises
    ------
    SpecError
        When the wavelengths do not increase.
    """
    centres = np.array(centres, dtype=np.float64)
    if len(centres) < 2 or not np.all(np.diff(centres) > 0):
        raise SpecError(
            "wavelengths",
            f"expected at least two that increase, got {_first_fall(centres)}",
            "sort the pixels by wavelength",
        )
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _first_fall(centres: NDArray[np.floating]) -> str:
    if len(centres) < 2:
        return f"{len(centres)}"
    place = int(np.flatnonzero(~(np.diff(centres) > 0))[0])
    return f"{centres[place + 1]:g} after {centres[place]:g} at pixel {place + 1}"


def overlaps(old: NDArray[np.floating], new: NDArray[np.floating]) -> scipy.sparse.csr_array:
    """Which share of each new pixel each old one covers.

    Parameters
    ----------
    old, new : ndarray, shape (m + 1,), (p + 1,)
        Edges of pixels in the same unit, which increase.

    Returns
    -------
    csr_array, shape (p, m)
        Rows sum to 1 where the old grid covers the new pixel in full, to less elsewhere.
    """
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    cuts = np.union1d(old, new)
    cuts = cuts[(cuts >= max(old[0], new[0])) & (cuts <= min(old[-1], new[-1]))]
    low, high = cuts[:-1], cuts[1:]
    rows = np.searchsorted(new, low, side="right") - 1
    columns = np.searchsorted(old, low, side="right") - 1
    shares = (high - low) / np.diff(new)[rows]
    shape = (len(new) - 1, len(old) - 1)
    return scipy.sparse.coo_array((shares, (rows, columns)), shape=shape).tocsr()


class Resampler:
    """From one grid to another, for any number of spectra.

    Parameters
    ----------
    old, new : ndarray, shape (m + 1,), (p + 1,)
        Edges of pixels in the same unit, which increase.
    """

    def __init__(self, old: NDArray[np.floating], new: NDArray[np.floating]) -> None:
        self._shares = overlaps(old, new)
        self._squares = self._shares.power(2)
        widths = scipy.sparse.diags_array(np.diff(new)), scipy.sparse.diags_array(1 / np.diff(old))
        self._parts = (widths[0] @ self._shares @ widths[1]).tocsr()
        covered = np.asarray(self._shares.sum(axis=1)).ravel()
        self.covered: NDArray[np.bool_] = covered >= 1 - _FULL
        """Of shape (p,): new pixels that the old grid covers in full."""

    def flux(self, flux: NDArray[np.generic]) -> Array:
        """Flux densities on the new grid.

        Parameters
        ----------
        flux : ndarray, shape (n, m)
            Per unit of wavelength; NaN spreads to each pixel that it has a part in.

        Returns
        -------
        ndarray, shape (n, p)
            0 where the old grid does not cover the pixel in full.
        """
        found: Array = (self._shares @ np.asarray(flux, np.float64).T).T
        return np.where(self.covered, found, 0.0)

    def both(self, flux: NDArray[np.floating], ivar: NDArray[np.floating]) -> tuple[Array, Array]:
        """Flux densities and their inverse variances on the new grid.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)
            Pixels whose inverse variance is not a number above 0 are without data.

        Returns
        -------
        flux, ivar : ndarray, shape (n, p)
            Both 0 where a pixel is not covered in full by pixels with data. What neighbours
            share of an old pixel makes their errors depend on each other, which an inverse
            variance cannot tell: see `independent`.
        """
        flux, ivar = np.asarray(flux, np.float64), np.asarray(ivar, np.float64)
        good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
        variance = (self._squares @ np.divide(1.0, ivar, where=good, out=np.zeros_like(ivar)).T).T
        missing = (self._shares @ (~good).astype(np.float64).T).T
        full = self.covered & (missing <= _FULL) & (variance > 0)
        moved = (self._shares @ np.where(good, flux, 0.0).T).T
        inverse = np.divide(1.0, variance, where=full, out=np.zeros_like(variance))
        return np.where(full, moved, 0.0), inverse

    def independent(
        self, flux: NDArray[np.floating], ivar: NDArray[np.floating]
    ) -> tuple[Array, Array]:
        """As `both`, with inverse variances that may be added up as if pixels were independent.

        Each old pixel gives its inverse variance to the new ones by how much of it they cover, so
        that none counts twice: the sum over a range of wavelengths is what it was. Where the new
        grid is finer than the old, or lies between its pixels, a single pixel scatters by less
        than its inverse variance says.
        """
        moved, inverse = self.both(flux, ivar)
        given = (self._parts @ np.where(np.isfinite(ivar) & (ivar > 0), ivar, 0.0).T).T
        return moved, np.minimum(inverse, given)


@lru_cache(maxsize=16)
def _kept(old: bytes, new: bytes) -> Resampler:
    return Resampler(np.frombuffer(old, np.float64), np.frombuffer(new, np.float64))


def resampler(old: NDArray[np.floating], new: NDArray[np.floating]) -> Resampler:
    """The resampler of a pair of grids, made once; see `Resampler`."""
    return _kept(np.asarray(old, np.float64).tobytes(), np.asarray(new, np.float64).tobytes())


def resample_smooth(
    values: NDArray[np.floating], old: NDArray[np.floating], new: NDArray[np.floating]
) -> Array:
    """Templates without noise on another grid: their flux is conserved, their lines not widened.

    The integral from the blue end is interpolated by cubic splines; `Resampler` takes each pixel
    as flat, which makes lines wider by the move of a part of a pixel.

    Parameters
    ----------
    values : ndarray, shape (k, m)
    old, new : ndarray, shape (m + 1,), (p + 1,)
        Edges of pixels in the same unit, which increase; the new within the old.

    Returns
    -------
    ndarray, shape (k, p)
    """
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    widths = np.diff(old)
    sums = np.cumsum(np.asarray(values, np.float64) * widths, axis=-1)
    total = np.concatenate([np.zeros((len(sums), 1)), sums], axis=-1)
    moved = scipy.interpolate.CubicSpline(old, total, axis=-1)(new)
    return np.asarray(np.diff(moved, axis=-1) / np.diff(new))
