"""Redshift distributions as probabilities of cells of zeta = ln(1 + z), for many rows at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from galbatch.arrays import constant, namespace, parts
from galbatch.models.pdf import QUANTILES, cell_edges, cell_shares
from galbatch.quality.recalibration import Warp

AT_ONCE = 128
"""Rows whose arrays of some hundred cells, a few networks each, stay in a core's second cache."""

# Of each quantile in the mean: the trapezoidal rule over the levels, the outermost to 0 and 1.
_ENDS = np.array([0.0, *((a + b) / 2 for a, b in itertools.pairwise(QUANTILES)), 1.0])
_SHARES = np.diff(_ENDS).astype(np.float32)
# The mode is sought with windows of so many cells: a peak of a single one is the noise of a fit.
_PEAK = 5


@dataclass(frozen=True)
class Binned:
    """A distribution for each of n rows, even within the cells.

    Parameters
    ----------
    cumulative : array, shape (n, k + 1), float32
        Probability below each edge: from 0 to 1.
    edges : array, shape (k + 1,), float32
        Of the cells in zeta, ascending, the same for all rows.

    Notes
    -----
    A row's results depend on that row alone, to the last bit.
    """

    cumulative: Any
    edges: Any

    def __len__(self) -> int:
        return int(self.cumulative.shape[0])

    @classmethod
    def of(cls, shares: Any, edges: Any) -> Binned:
        """From the probabilities of the cells, shape (n, k), which sum to about 1."""
        xp = namespace(shares)
        cumulative = xp.zeros((len(shares), shares.shape[1] + 1), xp.float32)
        xp.cumsum(shares, axis=1, out=cumulative[:, 1:])
        cumulative /= cumulative[:, -1:].copy()
        return cls(cumulative, edges)


@dataclass(frozen=True)
class RedshiftStatistics:
    """What is said of each row's redshift distribution, float32 arrays.

    Parameters
    ----------
    mode, median, mean : array, shape (n,)
        Redshift.
    quantiles : array, shape (n, 15)
        Redshift at `QUANTILES`.
    odds : array, shape (n,)
        P(|z - mode| <= width (1 + mode)).
    """

    mode: Any
    median: Any
    mean: Any
    quantiles: Any
    odds: Any


def transform(rows: Binned, value: Any) -> Any:
    """Probability integral transform: each row's cumulative distribution at its own value.

    Parameters
    ----------
    rows : Binned
        n rows.
    value : array, shape (n,) or (m, n), float32
        Zeta.

    Returns
    -------
    array, same shape, float32
        In [0, 1].
    """
    xp = namespace(rows.cumulative)
    cell, share = _place(rows, value)
    row = xp.arange(len(rows))
    below, above = rows.cumulative[row, cell], rows.cumulative[row, cell + 1]
    return below + share * (above - below)


def quantiles(rows: Binned, levels: Any) -> Any:
    """Where each row's cumulative distribution reaches given levels.

    Parameters
    ----------
    rows : Binned
        n rows.
    levels : array, shape (m,) or (m, n), float32
        Probabilities inside (0, 1): the same for all rows, or each row's own.

    Returns
    -------
    array, shape (n, m), float32
        Zeta, ascending where the levels are.

    Notes
    -----
    A CPU and a GPU add up the cells in other orders: their F differ by up to 1e-6, and a quantile
    by that over the density, which in the far tails may be more than 1e-5.
    """
    xp = namespace(rows.cumulative)
    n, points = rows.cumulative.shape
    wanted = xp.broadcast_to(levels.reshape(len(levels), -1), (len(levels), n)).T
    # All rows' cumulatives end to end make one ascending table: the number of the row before the
    # point. Both have room in a float64, so nothing is rounded.
    row = xp.arange(n, dtype=xp.float64)[:, None]
    table, sought = (rows.cumulative + row).ravel(), (wanted + row).ravel()
    right = xp.searchsorted(table, sought).reshape(wanted.shape) - xp.arange(n)[:, None] * points
    right = xp.clip(right, 1, points - 1)
    below, above = (xp.take_along_axis(rows.cumulative, at, axis=1) for at in (right - 1, right))
    rise = above - below
    share = xp.where(rise > 0, (wanted - below) / xp.where(rise > 0, rise, 1), xp.float32(0.5))
    low, high = rows.edges[right - 1], rows.edges[right]
    return low + xp.clip(share, 0, 1) * (high - low)


def redshift_statistics(
    rows: Binned, odds_width: float, warp: Warp | None = None, magnitude: Any = None
) -> RedshiftStatistics:
    """Redshifts from distributions over zeta.

    Parameters
    ----------
    rows : Binned
        n rows; fastest for about `AT_ONCE` of them.
    odds_width : float
        Half width of the interval that `odds` counts, in units of 1 + z.
    warp : Warp, optional
        Calibration of the cumulative distribution.
    magnitude : array, shape (n,), float32
        What the warp depends on.

    Returns
    -------
    RedshiftStatistics
        `mode` is that before the warp. `mean` with a warp is that of the quantiles, as if the
        density were even between them: a warp of every cell would cost more than all the rest.
    """
    xp = namespace(rows.cumulative)
    levels = (
        constant(xp, QUANTILES, xp.float32) if warp is None else warp.levels(QUANTILES, magnitude)
    )
    # Straightened cells may begin below zero: a galaxy is not in front of us.
    table = xp.expm1(xp.maximum(quantiles(rows, levels), 0))
    peak = xp.maximum(_mode(rows), 0)
    sides = constant(xp, [[np.log1p(-odds_width)], [np.log1p(odds_width)]], xp.float32)
    ends = transform(rows, peak + sides)
    if warp is not None:
        ends = warp.apply(ends, magnitude)
    return RedshiftStatistics(
        mode=xp.expm1(peak),
        median=table[:, QUANTILES.index(0.5)],
        mean=xp.maximum(_mean(rows), 0)
        if warp is None
        else (table * constant(xp, _SHARES, xp.float32)).sum(axis=1),
        quantiles=table,
        odds=xp.clip(ends[1] - ends[0], 0, 1),
    )


def density(rows: Binned, grid: ArrayLike, warp: Warp | None = None, magnitude: Any = None) -> Any:
    """Density in redshift on a grid.

    Parameters
    ----------
    rows : Binned
        n rows.
    grid : array-like, shape (m,)
        Of the host; redshifts, ascending, above -1.
    warp : Warp, optional
        Calibration of the cumulative distribution.
    magnitude : array, shape (n,), float32
        What the warp depends on.

    Returns
    -------
    array, shape (n, m), float32
        Its integral over the grid by the trapezoidal rule is 1.

    Notes
    -----
    With F the cumulative distribution and the grid's own cells' edges e_0 = z_1,
    e_j = (z_j + z_{j+1}) / 2, e_m = z_m, what is given for a point is the mean over its cell::

        p_j = [F(ln(1 + e_j)) - F(ln(1 + e_{j-1}))] / (e_j - e_{j-1}) / [F(e_m) - F(e_0)]

    The cells' widths are the weights of the trapezoidal rule, so nothing is lost where a peak is
    narrower than a step of the grid, which values of the density itself would miss. F is a sum of
    float32: p_j is accurate to 1e-6 / (e_j - e_{j-1}).

    A row with less than a thousandth of its probability on the grid is NaN throughout.
    """
    xp = namespace(rows.cumulative)
    edges = cell_edges(grid)
    zeta, widths = (constant(xp, of, xp.float32) for of in (np.log1p(edges), np.diff(edges)))
    cell, share = _place(rows, zeta)
    result = xp.empty((len(rows), len(widths)), xp.float32)
    for part in parts(xp, len(rows), AT_ONCE):
        cumulative = rows.cumulative[part]
        below = cumulative[:, cell]
        reached = below + share * (cumulative[:, cell + 1] - below)
        if warp is not None:
            reached = warp.apply(reached.T, magnitude[part]).T
        result[part] = cell_shares(xp, reached) / widths
    return result


def _place(rows: Binned, zeta: Any) -> tuple[Any, Any]:
    """The cell that each point lies in, and how much of it lies below the point."""
    xp = namespace(rows.cumulative)
    last = len(rows.edges) - 2
    cell = xp.clip(xp.searchsorted(rows.edges, zeta, side="right") - 1, 0, last)
    low, high = rows.edges[cell], rows.edges[cell + 1]
    return cell, xp.clip((zeta - low) / (high - low), 0, 1)


def _mean(rows: Binned) -> Any:
    """E[z]: exp(zeta) over a cell is known in closed form."""
    xp = namespace(rows.cumulative)
    half = xp.diff(rows.edges) / 2
    # exp(middle) sinh(half) / half, as a series: a quotient loses the digits of narrow cells.
    inside = xp.exp(rows.edges[:-1] + half) * (1 + half * half / 6) - 1
    return (xp.diff(rows.cumulative, axis=1) * inside).sum(axis=1)


def _mode(rows: Binned) -> Any:
    """Zeta of the highest peak: the top of a parabola through the best windows of cells."""
    xp = namespace(rows.cumulative)
    held = rows.cumulative[:, _PEAK:] - rows.cumulative[:, :-_PEAK]
    best = xp.clip(held.argmax(axis=1), 1, held.shape[1] - 2)[:, None]
    left, top, right = (xp.take_along_axis(held, best + side, axis=1)[:, 0] for side in (-1, 0, 1))
    bend = left - 2 * top + right
    away = xp.where(bend < 0, (left - right) / xp.where(bend < 0, 2 * bend, -1), 0)
    share = xp.clip(away, -0.5, 0.5).astype(xp.float32)
    # The middle of a window of an odd number of cells, between the middles of two cells.
    middle = (rows.edges[1:] + rows.edges[:-1]) / 2
    cell = best[:, 0] + _PEAK // 2
    towards = xp.where(share < 0, cell - 1, cell + 1)
    return middle[cell] + xp.abs(share) * (middle[towards] - middle[cell])
