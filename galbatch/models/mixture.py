"""Point values and intervals of Gaussian mixtures, for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from galbatch.arrays import namespace

QUANTILES: tuple[float, ...] = (
    0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995,
)  # fmt: skip
"""Levels of the compact PDF."""

# Rows whose arrays of 15 levels stay in a core's cache.
_ROWS = 512
# And those of a grid of some hundred points.
_GRID_ROWS = 128
_NEWTON = 4
# Knots of each component, in its sigma: with the flanks' feet among them, four steps are enough.
_KNOTS = (-2.5, -1.0, 1.0, 2.5)
_ASCENT = 12
# A component's own mass beyond this many standard deviations is nothing in float32.
_REACH = 4.5
# atanh(2 F(x) - 1) / x as a polynomial of x^2 for the standard normal F, |x| < 5.5: minimax of the
# error of F, which is 3e-7 in float32. A tanh costs a fifth of an erf.
_NORMAL = (
    0.7978822538670194,
    0.036344514104618954,
    -4.472763304035254e-05,
    -5.04146997753809e-05,
    3.105325093550938e-06,
    -6.667106100549176e-08,
)
_FLAT = 5.5**2


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture for each of n rows, in any one unit.

    Parameters
    ----------
    weight : array, shape (n, k), float32
        Sums to 1 in each row.
    mean, sigma : array, shape (n, k), float32
        Of the components, same unit.
    """

    weight: Any
    mean: Any
    sigma: Any

    def __len__(self) -> int:
        return int(self.weight.shape[0])

    def rows(self, chosen: slice) -> Mixture:
        """Some of the rows."""
        return Mixture(self.weight[chosen], self.mean[chosen], self.sigma[chosen])


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


def cdf(mixture: Mixture, points: Any) -> Any:
    """Cumulative distribution of each row at its own points.

    Parameters
    ----------
    mixture : Mixture
        n rows.
    points : array, shape (n, m)
        Same unit.

    Returns
    -------
    array, shape (n, m), float32
        Accurate to 1e-6.
    """
    return _cdf(mixture, points)


def quantiles(mixture: Mixture, levels: Sequence[float] | Any) -> Any:
    """Where each row's cumulative distribution reaches given levels.

    Parameters
    ----------
    mixture : Mixture
        n rows.
    levels : sequence of float, or array of shape (n, m)
        Probabilities, inside (0, 1).

    Returns
    -------
    array, shape (n, m), float32
        Ascending where the levels are.

    Notes
    -----
    The components' flanks bracket every level; Newton's steps, replaced by the secant where they
    leave the bracket, close in on it.
    """
    xp = namespace(mixture.weight)
    wanted = xp.asarray(levels, xp.float32)
    n = len(mixture)
    result = xp.empty((n, wanted.shape[-1]), xp.float32)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        rows = mixture.rows(part)
        of_rows = (
            wanted[part] if wanted.ndim == 2 else xp.broadcast_to(wanted, (len(rows), wanted.size))
        )
        result[part] = _invert(rows, of_rows)
    return result


def redshift_statistics(mixture: Mixture, odds_width: float, highest: float) -> RedshiftStatistics:
    """Redshifts from mixtures over zeta = ln(1 + z).

    Parameters
    ----------
    mixture : Mixture
        n rows over zeta. What lies below zero is cut off: a galaxy is not in front of us. So is
        what lies above the highest redshift.
    odds_width : float
        Half width of the interval that `odds` counts, in units of 1 + z.
    highest : float
        Highest redshift that the survey takes for one.

    Returns
    -------
    RedshiftStatistics
        `mode` is where the density *in redshift* is highest.
    """
    xp = namespace(mixture.weight)
    n = len(mixture)
    mode, mean, odds = (xp.empty(n, xp.float32) for _ in range(3))
    table = xp.empty((n, len(QUANTILES)), xp.float32)
    levels = xp.asarray(QUANTILES, xp.float32)
    top = xp.float32(np.log1p(highest))
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        rows = _bounded(mixture.rows(part), top)
        ends = xp.broadcast_to(xp.asarray([0.0, top], xp.float32), (len(rows), 2))
        below, reached = xp.split(cdf(rows, ends), 2, axis=1)
        # A row whose whole distribution lies outside keeps a sliver inside to divide by.
        below = xp.minimum(below, xp.float32(0.999))
        inside = xp.maximum(reached - below, xp.float32(0.001))
        zeta = xp.clip(_invert(rows, below + levels * inside), 0, top)
        table[part] = xp.expm1(zeta)
        peak = xp.minimum(_mode(rows, zeta), top)
        mode[part] = xp.expm1(peak)
        mean[part] = xp.clip(_mean(rows, inside[:, 0], top), 0, highest)
        step = xp.asarray([np.log1p(-odds_width), np.log1p(odds_width)], xp.float32)
        ends = cdf(rows, xp.clip(peak[:, None] + step, 0, top))
        odds[part] = xp.clip((ends[:, 1] - ends[:, 0]) / inside[:, 0], 0, 1)
    return RedshiftStatistics(mode, table[:, QUANTILES.index(0.5)], mean, table, odds)


def density(mixture: Mixture, grid: Any) -> Any:
    """Density in redshift on a grid, from mixtures over zeta = ln(1 + z).

    Parameters
    ----------
    mixture : Mixture
        n rows over zeta.
    grid : array, shape (m,)
        Redshifts, ascending, above -1.

    Returns
    -------
    array, shape (n, m), float32
        Its integral over the grid by the trapezoidal rule is 1.

    Notes
    -----
    With F the mixture's cumulative distribution and the cells' edges e_0 = z_1,
    e_j = (z_j + z_{j+1}) / 2, e_m = z_m, what is given for a point is the mean over its cell::

        p_j = [F(ln(1 + e_j)) - F(ln(1 + e_{j-1}))] / (e_j - e_{j-1}) / [F(e_m) - F(e_0)]

    The cells' widths are the weights of the trapezoidal rule, so nothing is lost where a peak is
    narrower than a step of the grid, which values of the density itself would miss. F is a sum of
    float32: p_j is accurate to 1e-6 / (e_j - e_{j-1}).

    A row with less than a thousandth of its probability on the grid has all of it in the first or
    the last cell, much as in `redshift_statistics`.
    """
    xp = namespace(mixture.weight)
    edges = _edges(xp, grid)
    zeta = xp.log1p(edges).astype(xp.float32)
    widths = xp.diff(edges).astype(xp.float32)
    result = xp.empty((len(mixture), len(widths)), xp.float32)
    for start in range(0, len(mixture), _GRID_ROWS):
        part = slice(start, start + _GRID_ROWS)
        rows = mixture.rows(part)
        reached = cdf(rows, xp.broadcast_to(zeta, (len(rows), len(zeta))))
        result[part] = _shares(xp, reached) / widths
    return result


def density_of_quantiles(quantiles: Any, levels: Sequence[float] | Any, grid: Any) -> Any:
    """Density on a grid, from the quantiles that are stored of a distribution.

    Parameters
    ----------
    quantiles : array, shape (n, k)
        Ascending along each row; NaN where a row has none.
    levels : sequence of float, shape (k,)
        Their probabilities, ascending, within (0, 1): `QUANTILES` of the stored redshifts.
    grid : array, shape (m,)
        Ascending, same unit.

    Returns
    -------
    array, shape (n, m), float32
        Its integral over the grid by the trapezoidal rule is 1; NaN where the quantiles are.

    Notes
    -----
    As `density`, with the F that `quality.distributions` judges quantiles by: linear between
    them, and beyond the outermost exponential with a continuous density,
    F = u_1 exp[(z - q_1) d_1 / u_1] below q_1, d_1 = (u_2 - u_1) / (q_2 - q_1), and its mirror
    image above q_k. Peaks between two quantiles are lost: where the mixture is at hand, use
    `density`.
    """
    xp = namespace(quantiles)
    edges = _edges(xp, grid)
    widths = xp.diff(edges)
    level = xp.asarray(levels, xp.float64)
    result = xp.empty((len(quantiles), len(widths)), xp.float32)
    for start in range(0, len(quantiles), _GRID_ROWS):
        part = slice(start, start + _GRID_ROWS)
        at = xp.asarray(quantiles[part], xp.float64)
        # Quantiles that coincide (float32) must not make an infinite density.
        gap = xp.maximum(xp.diff(at, axis=1), 1e-6 * (1.0 + xp.abs(at[:, :-1])))
        steep = xp.diff(level) / gap
        low, high, rest = at[:, :1], at[:, -1:], 1.0 - level[-1]
        reached = level[0] * xp.exp(xp.minimum(0.0, (edges - low) * steep[:, :1] / level[0]))
        reached -= rest * xp.exp(xp.minimum(0.0, (high - edges) * steep[:, -1:] / rest))
        reached += rest
        for k in range(gap.shape[1]):
            reached += steep[:, k, None] * xp.clip(edges - at[:, k, None], 0, gap[:, k, None])
        result[part] = _shares(xp, reached) / widths
    return result


def _edges(xp: Any, grid: Any) -> Any:
    """Edges of the cells around a grid's points, shape (m + 1,), float64."""
    points = xp.asarray(grid, xp.float64)
    if points.ndim != 1 or len(points) < 2 or not bool((xp.diff(points) > 0).all()):
        raise ValueError("a grid takes two points or more, ascending")
    return xp.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])


def _shares(xp: Any, reached: Any) -> Any:
    """Each cell's share of what lies between the outermost edges, from the cumulative at edges."""
    share = xp.maximum(xp.diff(reached, axis=1), 0)
    inside = share.sum(axis=1, keepdims=True)
    # NaN is not below anything, and stays.
    outside = inside < 0.001
    ends = xp.zeros_like(share)
    before = reached[:, :1] > 0.5
    ends[:, :1], ends[:, -1:] = before, ~before
    return xp.where(outside, ends, share / xp.where(outside, 1, inside))


def _bounded(rows: Mixture, top: Any) -> Mixture:
    """Components no wider and no farther off than all there is: exp() of them stays a number."""
    xp = namespace(rows.weight)
    return Mixture(rows.weight, xp.clip(rows.mean, -top, 2 * top), xp.minimum(rows.sigma, top))


def _mean(rows: Mixture, inside: Any, top: Any) -> Any:
    """E[z | 0 < zeta < top]: a Gaussian's E[exp] over an interval is known in closed form."""
    xp = namespace(rows.weight)
    variance = rows.sigma * rows.sigma
    # The share of the exp-weighted component in the interval is that of a moved component.
    moved = rows.mean + variance
    share = _normal(xp, moved / rows.sigma) - _normal(xp, (moved - top) / rows.sigma)
    total = (rows.weight * xp.exp(rows.mean + variance / 2) * share).sum(axis=1)
    return total / inside - 1


def _mode(rows: Mixture, quantile: Any) -> Any:
    """Zeta where the density in redshift, p(zeta) exp(-zeta), is highest.

    exp(-zeta) times a Gaussian is a Gaussian again, its mean moved by -sigma^2. Hill climbing by
    mean shift, from the best of the components' means and the quantiles.
    """
    xp = namespace(rows.weight)
    variance = rows.sigma * rows.sigma
    mean = rows.mean - variance
    narrow = 1 / rows.sigma
    height = rows.weight * xp.exp(variance / 2 - rows.mean) * narrow
    start = xp.concatenate([xp.maximum(mean, 0), quantile], axis=1)
    density, x = xp.zeros_like(start), xp.empty_like(start)
    for k in range(mean.shape[1]):
        xp.subtract(start, mean[:, k, None], out=x)
        x *= narrow[:, k, None]
        x *= x
        x *= xp.float32(-0.5)
        xp.exp(x, out=x)
        x *= height[:, k, None]
        density += x
    best = xp.take_along_axis(start, density.argmax(axis=1)[:, None], axis=1)
    pull = height * narrow * narrow
    for _ in range(_ASCENT):
        away = (best - mean) * narrow
        force = pull * xp.exp(away * away * xp.float32(-0.5))
        total = force.sum(axis=1, keepdims=True)
        moved = (force * mean).sum(axis=1, keepdims=True) / xp.where(total > 0, total, 1)
        best = xp.where(total > 0, moved, best)
    return xp.maximum(best[:, 0], 0)


def _invert(rows: Mixture, levels: Any) -> Any:
    xp = namespace(rows.weight)
    ends = rows.sigma * xp.float32(_REACH)
    # Between neighbouring knots no component goes through more than a part of its rise.
    knots = xp.sort(
        xp.concatenate(
            [
                (rows.mean - ends).min(axis=1, keepdims=True),
                *(rows.mean + rows.sigma * xp.float32(at) for at in _KNOTS),
                (rows.mean + ends).max(axis=1, keepdims=True),
            ],
            axis=1,
        ),
        axis=1,
    )
    reached = _cdf(rows, knots)
    last = knots.shape[1] - 1
    above = xp.clip((reached[:, :, None] < levels[:, None, :]).sum(axis=1), 1, last)
    left, right = (xp.take_along_axis(knots, index, axis=1) for index in (above - 1, above))
    low, high = (xp.take_along_axis(reached, index, axis=1) for index in (above - 1, above))
    point = _between(xp, left, right, low, high, levels)
    density = xp.empty_like(point)
    for _ in range(_NEWTON):
        value = _cdf(rows, point, density)
        short = value < levels
        left, right = xp.where(short, point, left), xp.where(short, right, point)
        low, high = xp.where(short, value, low), xp.where(short, high, value)
        tried = point + (levels - value) / xp.maximum(density, xp.float32(1e-20))
        line = _between(xp, left, right, low, high, levels)
        point = xp.where((tried > left) & (tried < right), tried, line)
    return point


def _between(xp: Any, left: Any, right: Any, low: Any, high: Any, levels: Any) -> Any:
    """Where the straight line from (left, low) to (right, high) reaches the levels."""
    share = (levels - low) / xp.maximum(high - low, xp.float32(1e-12))
    return left + xp.clip(share, 0, 1) * (right - left)


def _cdf(rows: Mixture, points: Any, density: Any = None) -> Any:
    """Cumulative at points (n, m), and the density into an array of that shape.

    Component by component in a few arrays that are used again: three times as fast as one
    expression over (n, k, m), which does not fit a cache.
    """
    xp = namespace(rows.weight)
    narrow = 1 / rows.sigma
    half, height = rows.weight / 2, rows.weight * narrow * xp.float32(1 / np.sqrt(2 * np.pi))
    total = xp.full(points.shape, 0.5, xp.float32)
    x, square, rise = (xp.empty_like(total) for _ in range(3))
    if density is not None:
        density[...] = 0
    for k in range(narrow.shape[1]):
        xp.subtract(points, rows.mean[:, k, None], out=x)
        x *= narrow[:, k, None]
        xp.multiply(x, x, out=square)
        xp.minimum(square, xp.float32(_FLAT), out=square)
        xp.multiply(square, xp.float32(_NORMAL[-1]), out=rise)
        for coefficient in _NORMAL[-2:0:-1]:
            rise += xp.float32(coefficient)
            rise *= square
        rise += xp.float32(_NORMAL[0])
        rise *= x
        xp.tanh(rise, out=rise)
        rise *= half[:, k, None]
        total += rise
        if density is not None:
            square *= xp.float32(-0.5)
            xp.exp(square, out=square)
            square *= height[:, k, None]
            density += square
    return total


def _normal(xp: Any, x: Any) -> Any:
    """Standard normal cumulative distribution."""
    one = Mixture(*(xp.full((len(x), 1), value, xp.float32) for value in (1.0, 0.0, 1.0)))
    return _cdf(one, x)
