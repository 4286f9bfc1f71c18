"""Spectra of any wavelengths brought onto one axis, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.resample import Resampler, edges_of, resampler

_WHOLE = 0.01
"""Of a pixel: grids that are apart by so much less than whole pixels are the same grid."""
_EVEN = 1e-3
"""Of a pixel: how far the wavelengths of an even grid may be from evenness."""


@dataclass(frozen=True)
class ToAxis:
    """How spectra come from their wavelengths onto an axis.

    Parameters
    ----------
    points, pixels : int
        Of the axis, and of the spectra.
    shift : int or None
        Where both are the same grid: the place that the first pixel goes to, which may be outside.
    resampler : Resampler or None
        Otherwise.
    falling : bool
        Whether the spectra come from the longest wavelength to the shortest: who uses this turns
        them round before.
    """

    points: int
    pixels: int
    shift: int | None
    resampler: Resampler | None
    falling: bool

    @property
    def covered(self) -> int:
        """How many pixels of the axis get something."""
        if self.resampler is not None:
            return int(self.resampler.covered.sum())
        to, _ = self._places
        return int(to.stop - to.start)

    def spectra(self, flux: NDArray[Any], ivar: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Flux densities and their inverse variances on the axis.

        On the same grid each number stays what it is. On another one the flux is conserved; a pixel
        that takes from one without data has an inverse variance of 0.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, pixels)
            From the shortest wavelength to the longest.

        Returns
        -------
        tuple of ndarray, shape (n, points)
            NaN and 0 where the spectra do not reach.
        """
        if self.resampler is None:
            return self._placed(flux, np.nan), self._placed(ivar, 0.0)
        moved, inverse = self.resampler.both(flux, ivar)
        return np.where(self.resampler.covered, moved, np.nan), inverse

    def flags(self, mask: NDArray[Any]) -> NDArray[np.int64]:
        """Flags on the axis: all those of the pixels that a pixel takes from."""
        values = np.asarray(mask).astype(np.int64)
        if self.resampler is None:
            return self._placed(values, 0)
        found = np.zeros((len(values), self.points), np.int64)
        for bit in range(63):
            one = (values >> bit) & 1
            if one.any():
                found |= (self.resampler.flux(one) > 0).astype(np.int64) << bit
        return found

    @cached_property
    def _places(self) -> tuple[slice, slice]:
        """The pixels of the axis that come from these of the spectra."""
        assert self.shift is not None
        first = max(self.shift, 0)
        last = max(first, min(self.shift + self.pixels, self.points))
        return slice(first, last), slice(first - self.shift, last - self.shift)

    def _placed(self, values: NDArray[Any], empty: float) -> NDArray[Any]:
        found = np.full((len(values), self.points), empty, values.dtype)
        to, of = self._places
        found[:, to] = values[:, of]
        return found


def to_axis(wavelengths: NDArray[np.float64], axis: NDArray[np.float64]) -> ToAxis:
    """How spectra come from some wavelengths onto others.

    Grids that are even in the same scale with the same step, and apart by whole pixels, are one
    grid: nothing is interpolated there.

    Parameters
    ----------
    wavelengths : ndarray, shape (pixels,)
        Rising or falling, of the centres of the pixels.
    axis : ndarray, shape (points,)
        Rising.

    Returns
    -------
    ToAxis
    """
    falling = bool(wavelengths[0] > wavelengths[-1])
    rising = wavelengths[::-1] if falling else wavelengths
    shift = _whole_shift(rising, axis)
    between = None if shift is not None else resampler(edges_of(rising), edges_of(axis))
    return ToAxis(len(axis), len(rising), shift, between, falling)


def _whole_shift(wavelengths: NDArray[np.float64], axis: NDArray[np.float64]) -> int | None:
    """By how many pixels one grid lies behind the start of another, if both are the same grid."""
    for scale in (np.log10, np.asarray):
        given, wanted = scale(wavelengths), scale(axis)
        step = (wanted[-1] - wanted[0]) / (len(wanted) - 1)
        places = (given - wanted[0]) / step
        shift = round(float(places[0]))
        off = np.abs(places - shift - np.arange(len(places)))
        even = np.abs(wanted - wanted[0] - step * np.arange(len(wanted))).max() < _EVEN * step
        if even and off.max() < _WHOLE:
            return shift
    return None
