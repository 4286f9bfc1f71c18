"""Distributions as they are stored: a few quantiles, or the density on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.arrays import constant, namespace, parts

QUANTILES: tuple[float, ...] = (
    0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995,
)  # fmt: skip
"""Levels of the compact PDF."""

# Rows whose arrays of a grid of some hundred points stay in a core's cache.
_GRID_ROWS = 128


def density_of_quantiles(quantiles: Any, levels: Sequence[float], grid: ArrayLike) -> Any:
    """Density on a grid, from the quantiles that are stored of a distribution.

    Parameters
    ----------
    quantiles : array, shape (n, k)
        Ascending along each row; NaN where a row has none.
    levels : sequence of float, shape (k,)
        Their probabilities, ascending, within (0, 1): `QUANTILES` of the stored redshifts.
    grid : array-like, shape (m,)
        Of the host; ascending, same unit.

    Returns
    -------
    array, shape (n, m), float32
        Its integral over the grid by the trapezoidal rule is 1; NaN where the quantiles are.

    Notes
    -----
    As `binned.density`, with the F that `quality.distributions` judges quantiles by: linear between
    them, and beyond the outermost exponential with a continuous density,
    F = u_1 exp[(z - q_1) d_1 / u_1] below q_1, d_1 = (u_2 - u_1) / (q_2 - q_1), and its mirror
    image above q_k. Peaks between two quantiles are lost: where the whole distribution is at
    hand, use `binned.density`.
    """
    xp = namespace(quantiles)
    ends, level = cell_edges(grid), np.asarray(levels, np.float64)
    edges, widths, rises = (
        constant(xp, of, xp.float64) for of in (ends, np.diff(ends), np.diff(level))
    )
    result = xp.empty((len(quantiles), len(widths)), xp.float32)
    for part in parts(xp, len(quantiles), _GRID_ROWS):
        at = xp.asarray(quantiles[part], xp.float64)
        # Quantiles that coincide (float32) must not make an infinite density.
        gap = xp.maximum(xp.diff(at, axis=1), 1e-6 * (1.0 + xp.abs(at[:, :-1])))
        steep = rises / gap
        low, high, rest = at[:, :1], at[:, -1:], 1.0 - level[-1]
        reached = level[0] * xp.exp(xp.minimum(0.0, (edges - low) * steep[:, :1] / level[0]))
        reached -= rest * xp.exp(xp.minimum(0.0, (high - edges) * steep[:, -1:] / rest))
        reached += rest
        for k in range(gap.shape[1]):
            reached += steep[:, k, None] * xp.clip(edges - at[:, k, None], 0, gap[:, k, None])
        result[part] = cell_shares(xp, reached) / widths
    return result


def cell_edges(grid: ArrayLike) -> NDArray[np.float64]:
    """Edges of the cells around a grid's points.

    Parameters
    ----------
    grid : array-like, shape (m,)

    Returns
    -------
    ndarray, shape (m + 1,), float64
        The first and the last point, and between them the middles.

    Raises
    ------
    ValueError
        If the points do not ascend, or are fewer than two.
    """
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or len(points) < 2 or not bool((np.diff(points) > 0).all()):
        raise ValueError("a grid takes two points or more, ascending")
    return np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])


def cell_shares(xp: Any, reached: Any) -> Any:
    """Each cell's share of what lies between the outermost edges.

    Parameters
    ----------
    xp : module
        NumPy or cupy.
    reached : array, shape (n, m + 1)
        Cumulative distributions at the edges.

    Returns
    -------
    array, shape (n, m)
        NaN where less than a thousandth of a row lies between the edges: of that, no more can be
        said than where it is not.
    """
    share = xp.maximum(xp.diff(reached, axis=1), 0)
    inside = share.sum(axis=1, keepdims=True)
    return share / xp.where(inside < 0.001, xp.nan, inside)
