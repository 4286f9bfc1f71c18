"""Emission lines of spectra that are at rest, measured all at once.

What subclasses are told by: the areas of H beta, [O III], H alpha and [N II] with their errors, and
how sure broad lines are. Lines are Gaussians on a parabola, of the width, among a few, that leaves
the least chi-square. They are a network's inputs and no catalogue's: stars' absorption is left in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.grids import LogGrid

Array = NDArray[np.float64]

_NARROW = ((4780.0, 5080.0, (4862.7, 4960.3, 5008.2)), (6450.0, 6700.0, (6549.9, 6564.6, 6585.3)))
_NARROW_WIDTHS = (1.6, 2.3, 3.3)
_BROAD = (1549.5, 1908.7, 2799.9, 4341.7, 4862.7, 6564.6)
_BROAD_WIDTHS = (7.0, 14.0, 25.0, 42.0)
"""Gaussian, in pixels of 69 km/s."""
_BROAD_HALF = 150
_FEWEST = 0.7
"""Of the pixels of a window, with data: fewer measure nothing."""
COUNT = 2 * 6 + 4 + 2 * len(_BROAD)
"""Numbers of a spectrum."""


def line_numbers(flux: Array, weights: Array, grid: LogGrid) -> NDArray[np.float32]:
    """What lines are there.

    Parameters
    ----------
    flux, weights : ndarray, shape (n, m)
        At rest, on the grid; a weight is an inverse variance, 0 where there is no data.
    grid : LogGrid
        From 1480 to 6950 Angstrom.

    Returns
    -------
    ndarray of float32, shape (n, COUNT)
        Of each narrow line the area over its error, and over the continuum; how far above the
        limit of AGN the four lie, both ratios, and the least sure of the four; of each broad line
        the area over its error, and by how much it lowers chi-square. 0 where nothing is seen.
    """
    narrow = [_narrow(flux, weights, grid, *window) for window in _NARROW]
    made = [part for fit in narrow for part in (fit.sure, fit.width)]
    (beta, _, oxygen), (_, alpha, nitrogen) = (
        (fit.positive[:, 0], fit.positive[:, 1], fit.positive[:, 2]) for fit in narrow
    )
    seen = (narrow[0].seen & narrow[1].seen)[:, None]
    height, across = np.log10(oxygen / beta), np.log10(nitrogen / alpha)
    sure = [narrow[0].sure[:, 0], narrow[0].sure[:, 2], *narrow[1].sure[:, 1:].T]
    told = [height + 1.2 * across - 0.22, height, across, np.min(sure, axis=0)]
    made.append(np.where(seen, np.stack(told, axis=1), 0.0))
    made += [_broad(flux, weights, grid, centre) for centre in _BROAD]
    return np.concatenate(made, axis=1).astype(np.float32)


@dataclass(frozen=True)
class _Fit:
    """Of three narrow lines, (n, 3): areas over errors and over the continuum, both as inverse
    hyperbolic sines; areas that are above 0; and rows (n,) with data."""

    sure: Array
    width: Array
    positive: Array
    seen: NDArray[np.bool_]


def _narrow(
    flux: Array, weights: Array, grid: LogGrid, low: float, high: float, centres: tuple[float, ...]
) -> _Fit:
    part = slice(*np.searchsorted(grid.wavelengths, [low, high]))
    places = [(np.log10(centre) - grid.first) / grid.step - part.start for centre in centres]
    tried = [_fitted(flux[:, part], weights[:, part], places, width) for width in _NARROW_WIDTHS]
    _, area, error, level = _best(tried)
    seen = (weights[:, part] > 0).mean(axis=1) > _FEWEST
    here = seen[:, None]
    area, error = np.where(here, area, 0.0), np.where(here, error, 1.0)
    return _Fit(
        np.arcsinh(area / error),
        np.where(here, np.arcsinh(area / np.maximum(np.abs(level), 0.1 * error)), 0.0),
        np.maximum(area, 0.5 * error),
        seen,
    )


def _broad(flux: Array, weights: Array, grid: LogGrid, centre: float) -> Array:
    middle = round(float((np.log10(centre) - grid.first) / grid.step))
    part = slice(max(middle - _BROAD_HALF, 0), middle + _BROAD_HALF)
    place = [middle - float(part.start)]
    tried = [_fitted(flux[:, part], weights[:, part], place, width) for width in _BROAD_WIDTHS]
    gain, area, error, _ = _best(tried)
    seen = (weights[:, part] > 0).mean(axis=1) > _FEWEST
    made = np.stack([area[:, 0] / error[:, 0], np.sqrt(np.maximum(gain, 0.0))], axis=1)
    return np.asarray(np.where(seen[:, None], np.arcsinh(made), 0.0))


_Tried = tuple[Array, Array, Array, Array]


def _best(tried: list[_Tried]) -> _Tried:
    """Of each row that which lowers chi-square most."""
    chosen = np.argmax([one[0] for one in tried], axis=0)
    rows = np.arange(len(chosen))
    gain, area, error, level = (
        np.stack([one[part] for one in tried])[chosen, rows] for part in range(4)
    )
    return gain, area, error, level


def _fitted(flux: Array, weights: Array, places: list[float], width: float) -> _Tried:
    """By how much a fit lowers chi-square, and of the lines (n, k) area, error, and the parabola
    beneath."""
    pixel = np.arange(flux.shape[1])
    x = np.linspace(-1.0, 1.0, len(pixel))
    lines = [np.exp(-0.5 * ((pixel - place) / width) ** 2) for place in places]
    base = np.stack([np.ones(len(x)), x, x**2])
    design = np.concatenate([base, np.stack(lines) / (width * np.sqrt(2.0 * np.pi))])
    size = len(design)
    pairs = (design[:, None] * design[None]).reshape(size * size, -1)
    # Row by row: the last bits of one must not depend on how many come with it.
    matrices = (pairs @ weights[:, :, None]).reshape(-1, size, size)
    trace = np.trace(matrices, axis1=1, axis2=2)[:, None, None]
    matrices = matrices + (1e-9 * trace + 1e-30) * np.eye(size)
    right = (design @ (weights * flux)[:, :, None])[..., 0]
    inverse = np.linalg.inv(matrices)
    found = (inverse @ right[..., None])[..., 0]
    error = np.sqrt(np.maximum(np.diagonal(inverse, axis1=1, axis2=2), 1e-300))[:, 3:]
    beneath = base[:, np.clip(np.rint(places).astype(int), 0, len(pixel) - 1)]
    level = (beneath.T @ found[:, :3, None])[..., 0]
    return (right * found).sum(axis=1), found[:, 3:], error, level
