"""Bases laid out for one grid of spectra: their lines of pixels, and the transforms of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.solve import pairs
from galbatch.spectra.templates import Basis

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """Bases of as many vectors each, tried at the same shifts of one grid.

    Parameters
    ----------
    members : tuple of int
        Their places among all bases.
    bases : tuple of Basis
        On pixels in step with the grid.
    grid : LogGrid
        Of spectra, m pixels.
    first, shifts : int
        The lowest shift in pixels, and how many are tried.
    """

    members: tuple[int, ...]
    bases: tuple[Basis, ...]
    grid: LogGrid
    first: int
    shifts: int

    @property
    def size(self) -> int:
        """Vectors of a basis."""
        return len(self.bases[0].vectors)

    @cached_property
    def scales(self) -> Array:
        """What each vector was divided by, of shape (b, k): its root mean square."""
        return np.stack([np.sqrt((base.vectors**2).mean(axis=1)) for base in self.bases])

    @cached_property
    def lines(self) -> Array:
        """Vectors along all pixels that they may meet, of shape (b, k, shifts - 1 + m).

        At the shift `first + s` pixel i of a spectrum meets place ``shifts - 1 - s + i``. 0 where
        a basis has no pixels.
        """
        length = self.shifts - 1 + self.grid.points
        made = np.zeros((len(self.bases), self.size, length))
        for place, base in enumerate(self.bases):
            offset = round((self.grid.first - base.grid.first) / self.grid.step)
            start = offset - (self.first + self.shifts - 1)
            low, high = max(start, 0), min(start + length, base.grid.points)
            if low < high:
                scaled = base.vectors[:, low:high] / self.scales[place][:, None]
                made[place, :, low - start : high - start] = scaled
        return made

    @cached_property
    def products(self) -> Array:
        """Products of two vectors along the same pixels, packed, of shape (b, k (k + 1) / 2, .)."""
        return self.products_of(self.lines)

    def products_of(self, lines: Array) -> Array:
        """Products of two of some lines, as `products`."""
        return np.stack([lines[:, row] * lines[:, at] for row, at in pairs(self.size)], axis=1)

    @property
    def fully_covered(self) -> bool:
        """Whether every basis has all pixels at all shifts."""
        ends = self.first, self.first + self.shifts - 1
        return all(
            self.covered(place, shift).all() for place in range(len(self.bases)) for shift in ends
        )

    def window(self, lines: Array, basis: int, shift: int) -> Array:
        """What a spectrum meets, of shape (., m): of `lines` or `products`, at a shift."""
        start = self.shifts - 1 - (shift - self.first)
        return lines[basis, :, start : start + self.grid.points]

    def covered(self, basis: int, shift: int) -> NDArray[np.bool_]:
        """Pixels of a spectrum that a basis has at a shift, of shape (m,)."""
        base = self.bases[basis]
        start = round((self.grid.first - base.grid.first) / self.grid.step) - shift
        places = start + np.arange(self.grid.points)
        return np.asarray((places >= 0) & (places < base.grid.points))


def stacked(bases: Sequence[Basis], grid: LogGrid) -> list[Stack]:
    """Lay out bases for spectra of a grid.

    Parameters
    ----------
    bases : sequence of Basis
    grid : LogGrid

    Returns
    -------
    list of Stack

    Raises
    ------
    SpecError
        When there are no bases, or one meets no pixel of the grid at any of its redshifts.
    """
    if not bases:
        raise SpecError("bases", "expected at least one to fit spectra with, got none")
    groups: dict[tuple[int, int, int], list[int]] = {}
    moved = [base.at_phase(grid) for base in bases]
    for place, base in enumerate(moved):
        first, last = _shifts(base, grid)
        groups.setdefault((len(base.vectors), first, last), []).append(place)
    return [
        Stack(tuple(places), tuple(moved[place] for place in places), grid, first, last - first + 1)
        for (_, first, last), places in groups.items()
    ]


def _shifts(base: Basis, grid: LogGrid) -> tuple[int, int]:
    """The whole shifts within the redshifts of a basis at which it meets a pixel of the grid."""
    low, high = (grid.pixels(redshift) for redshift in base.redshifts)
    offset = round((grid.first - base.grid.first) / grid.step)
    first = max(int(np.ceil(low - 1e-6)), offset - base.grid.points + 1)
    last = min(int(np.floor(high + 1e-6)), offset + grid.points - 1)
    if first > last:
        raise SpecError(
            f"basis '{base.name}'",
            f"no redshift from {base.redshifts[0]} to {base.redshifts[1]} brings it to "
            f"{grid.wavelengths[0]:.0f} to {grid.wavelengths[-1]:.0f} Angstrom",
            "are the spectra in Angstrom?",
        )
    return first, last


def transform_length(pixels: int, shifts: int) -> int:
    """Points of a transform that keeps so many shifts of so many pixels apart."""
    return int(scipy.fft.next_fast_len(pixels + shifts - 1, real=True))


def wrapped(lines: Array, shifts: int, length: int) -> Array:
    """Lines of a `Stack` as a transform wants them: place 0 is what pixel 0 meets first.

    Parameters
    ----------
    lines : ndarray, shape (..., shifts - 1 + m)
    shifts, length : int

    Returns
    -------
    ndarray, shape (..., length)
        What comes before place 0 is at the end.
    """
    made = np.zeros((*lines.shape[:-1], length))
    made[..., : lines.shape[-1] - shifts + 1] = lines[..., shifts - 1 :]
    if shifts > 1:
        made[..., -(shifts - 1) :] = lines[..., : shifts - 1]
    return made
