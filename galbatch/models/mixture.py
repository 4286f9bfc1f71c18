"""Point values and intervals of Gaussian mixtures, for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from galbatch.arrays import namespace
from galbatch.quality.recalibration import Warp

QUANTILES: tuple[float, ...] = (
    0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995,
)  # fmt: skip
"""Levels of the compact PDF."""

# Cells, levels times rows, whose handful of arrays stay in a core's second cache.
_CELLS = 32_768
# Knots of each component, in its sigma; of all components' together, at most so many are looked at,
# and two more for each level.
# Rows whose arrays of a grid of some hundred points stay in a core's cache.
_GRID_ROWS = 128
_KNOTS = (-2.5, -1.0, 1.0, 2.5)
_LOOKS = 6
_ASCENT = 12
# A component's own mass beyond this many standard deviations is nothing in float32.
_REACH = 4.5
# A last step of Newton's that is this short, in sigma of the narrowest component that matters (by
# weight), leaves an error of its square; a cumulative so near its level is at it, in float32.
_SHORT = 0.02
_MATTERS = 2e-3
_THERE = 3e-7
_PATIENCE = 40
# atanh(2 F(x) - 1) / x as polynomials of x^2 for the standard normal F: minimax of the error of F,
# rising for ever, so that tanh ends at 1. A tanh costs less than two multiplications.
_EXACT = (
    0.7978849414597511,
    0.036333084574470896,
    -3.259497660444075e-05,
    -5.530619294616927e-05,
    3.9647442211687905e-06,
    -1.3226331929270747e-07,
    1.7561700324120734e-09,
)  # to 3e-8, in float32 to 1e-7
_NEAR = (
    0.7977116166484879,
    0.03681275870094797,
    -0.00032236732835729827,
    6.800390270970444e-07,
)  # to 2e-5
_ROUGH = (0.798812140692023, 0.03527257054332986)  # to 1.5e-4


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture for each of n rows, in any one unit.

    Parameters
    ----------
    weight : array, shape (n, k), float32
        Sums to 1 in each row.
    mean, sigma : array, shape (n, k), float32
        Of the components, same unit.

    Notes
    -----
    Fastest where the rows lie next to each other in memory (transposed arrays of shape (k, n)).
    """

    weight: Any
    mean: Any
    sigma: Any

    def __len__(self) -> int:
        return int(self.weight.shape[0])

    @classmethod
    def joined(cls, parts: Sequence[Mixture]) -> Mixture:
        """The rows of one after those of the other; all of them have k components."""
        xp = namespace(parts[0].weight)
        arrays = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*(xp.concatenate([array.T for array in of], axis=1).T for of in arrays))


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
    return _cdf(_Block.of(mixture, slice(None)), points.T)[0].T


def quantiles(mixture: Mixture, levels: Sequence[float] | Any) -> Any:
    """Where each row's cumulative distribution reaches given levels.

    Parameters
    ----------
    mixture : Mixture
        n rows.
    levels : sequence of float, or array of shape (m, n)
        m probabilities, inside (0, 1): the same for all rows, or each row's own.

    Returns
    -------
    array, shape (n, m), float32
        Ascending where the levels are.

    Notes
    -----
    A row's result depends on that row alone, to the last bit.
    """
    xp = namespace(mixture.weight)
    n = len(mixture)
    wanted = xp.asarray(levels, xp.float32)
    wanted = xp.broadcast_to(wanted.reshape(len(levels), -1), (len(levels), n))
    result = xp.empty((len(levels), n), xp.float32)
    step = max(_CELLS // len(levels), 1)
    for start in range(0, n, step):
        part = slice(start, start + step)
        block = _Block.of(mixture, part)
        result[:, part] = _invert(block, wanted[:, part])
    return result.T


def redshift_statistics(
    mixture: Mixture,
    odds_width: float,
    highest: float,
    warp: Warp | None = None,
    magnitude: Any = None,
) -> RedshiftStatistics:
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
    warp : Warp, optional
        Calibration of the cumulative distribution between zero and the highest redshift.
    magnitude : array, shape (n,), float32
        What the warp depends on.

    Returns
    -------
    RedshiftStatistics
        `mode` is where the density *in redshift* is highest, before the warp, as `mean` is.
    """
    xp = namespace(mixture.weight)
    n = len(mixture)
    mode, mean, odds = (xp.empty(n, xp.float32) for _ in range(3))
    table = xp.empty((len(QUANTILES), n), xp.float32)
    levels = xp.asarray(QUANTILES, xp.float32)[:, None]
    top = xp.float32(np.log1p(highest))
    step = _CELLS // len(QUANTILES)
    for start in range(0, n, step):
        part = slice(start, start + step)
        block = _Block.of(_bounded(mixture, part, top), slice(None))
        below, reached = _reached(block, xp.float32(0)), _reached(block, top)
        # A row whose whole distribution lies outside keeps a sliver inside to divide by.
        below = xp.minimum(below, xp.float32(0.999))
        inside = xp.maximum(reached - below, xp.float32(0.001))
        wanted = levels if warp is None else warp.levels(QUANTILES, magnitude[part])
        zeta = xp.clip(_invert(block, below + wanted * inside), 0, top)
        table[:, part] = xp.expm1(zeta)
        peak = xp.minimum(_mode(block, zeta), top)
        mode[part] = xp.expm1(peak)
        mean[part] = xp.clip(_mean(block, inside, top), 0, highest)
        low, high = (
            _reached(block, xp.clip(peak + xp.float32(np.log1p(side)), 0, top))
            for side in (-odds_width, odds_width)
        )
        low, high = (xp.clip((end - below) / inside, 0, 1) for end in (low, high))
        if warp is not None:
            low, high = warp.apply(xp.stack([low, high]), magnitude[part])
        odds[part] = xp.maximum(high - low, 0)
    return RedshiftStatistics(mode, table[QUANTILES.index(0.5)], mean, table.T, odds)


def transform(mixture: Mixture, value: Any, highest: float) -> Any:
    """Probability integral transform of redshifts, as `redshift_statistics` cuts the mixtures.

    Parameters
    ----------
    mixture : Mixture
        n rows over zeta = ln(1 + z).
    value : array, shape (n,), float32
        Zeta.
    highest : float
        Highest redshift that the survey takes for one.

    Returns
    -------
    array, shape (n,), float32
        In [0, 1].
    """
    xp = namespace(mixture.weight)
    top = xp.float32(np.log1p(highest))
    block = _Block.of(_bounded(mixture, slice(None), top), slice(None))
    below = xp.minimum(_reached(block, xp.float32(0)), xp.float32(0.999))
    inside = xp.maximum(_reached(block, top) - below, xp.float32(0.001))
    return xp.clip((_reached(block, value) - below) / inside, 0, 1)


def density(mixture: Mixture, grid: Any, warp: Warp | None = None, magnitude: Any = None) -> Any:
    """Density in redshift on a grid, from mixtures over zeta = ln(1 + z).

    Parameters
    ----------
    mixture : Mixture
        n rows over zeta.
    grid : array, shape (m,)
        Redshifts, ascending, above -1.
    warp : Warp, optional
        Calibration of the cumulative distribution above redshift zero.
    magnitude : array, shape (n,), float32
        What the warp depends on.

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
        rows = Mixture(mixture.weight[part], mixture.mean[part], mixture.sigma[part])
        reached = cdf(rows, xp.broadcast_to(zeta, (len(rows), len(zeta))))
        if warp is not None:
            below = xp.minimum(cdf(rows, xp.zeros((len(rows), 1), xp.float32)), xp.float32(0.999))
            reached = xp.clip((reached - below) / (1 - below), 0, 1)
            reached = warp.apply(reached.T, magnitude[part]).T
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


@dataclass(frozen=True)
class _Block:
    """Some rows of a mixture, one component after the other: arrays of shape (k, n).

    Loops inside NumPy are then over rows, hundreds at a time, instead of over a few components.
    """

    weight: Any
    mean: Any
    sigma: Any
    narrow: Any
    height: Any

    @classmethod
    def of(cls, mixture: Mixture, part: slice) -> _Block:
        """What is needed of each component: also 1 / sigma, and its density at its mean."""
        xp = namespace(mixture.weight)
        weight, mean, sigma = (
            xp.ascontiguousarray(array[part].T)
            for array in (mixture.weight, mixture.mean, mixture.sigma)
        )
        narrow = 1 / sigma
        return cls(
            weight, mean, sigma, narrow, weight * narrow * xp.float32(1 / np.sqrt(2 * np.pi))
        )

    def __len__(self) -> int:
        return int(self.weight.shape[1])

    def take(self, rows: Any) -> _Block:
        """These rows, laid out as all others (which array[:, rows] would not be)."""
        xp = namespace(self.weight)
        return _Block(*(xp.take(array, rows, axis=1) for array in vars(self).values()))


def _bounded(mixture: Mixture, part: slice, top: Any) -> Mixture:
    """Components no wider and no farther off than all there is: exp() of them stays a number."""
    xp = namespace(mixture.weight)
    mean, sigma = mixture.mean[part], mixture.sigma[part]
    return Mixture(mixture.weight[part], xp.clip(mean, -top, 2 * top), xp.minimum(sigma, top))


def _mean(block: _Block, inside: Any, top: Any) -> Any:
    """E[z | 0 < zeta < top]: a Gaussian's E[exp] over an interval is known in closed form."""
    xp = namespace(block.weight)
    variance = block.sigma * block.sigma
    # The share of the exp-weighted component in the interval is that of a moved component.
    moved = block.mean + variance
    share = _normal(moved * block.narrow) - _normal((moved - top) * block.narrow)
    total = _sum(block.weight * xp.exp(block.mean + variance / 2) * share)
    return total / inside - 1


def _mode(block: _Block, quantile: Any) -> Any:
    """Zeta where the density in redshift, p(zeta) exp(-zeta), is highest.

    exp(-zeta) times a Gaussian is a Gaussian again, its mean moved by -sigma^2. Hill climbing by
    mean shift, from the best of the components' means and the quantiles.
    """
    xp = namespace(block.weight)
    variance = block.sigma * block.sigma
    mean = block.mean - variance
    squeeze = block.narrow * block.narrow * xp.float32(-0.5)
    height = block.weight * xp.exp(variance / 2 - block.mean) * block.narrow
    start = xp.concatenate([xp.maximum(mean, 0), quantile])
    density, x = xp.zeros_like(start), xp.empty_like(start)
    for k in range(len(mean)):
        xp.subtract(start, mean[k], out=x)
        x *= x
        x *= squeeze[k]
        xp.exp(x, out=x)
        x *= height[k]
        density += x
    best = xp.take_along_axis(start, density.argmax(axis=0)[None], axis=0)[0]
    pull = height * squeeze
    for _ in range(_ASCENT):
        force = best - mean
        force *= force
        force *= squeeze
        xp.exp(force, out=force)
        force *= pull
        total = _sum(force)
        force *= mean
        moved = _sum(force) / xp.where(total < 0, total, 1)
        best = xp.where(total < 0, moved, best)
    return xp.maximum(best, 0)


def _invert(block: _Block, levels: Any) -> Any:
    """Where the rows' cumulative distributions reach levels (m, n).

    A first guess between two of the components' knots, from a rough cumulative; a step of Halley's
    from a better one; a step of Newton's from the exact one. Few have farther to go.
    """
    xp = namespace(block.weight)
    n = len(block)
    knots = _knots(block, _LOOKS + 2 * len(levels))
    bent = _logit(_cdf(block, knots, _ROUGH)[0])
    goals = _logit(levels)
    below = xp.zeros(levels.shape, xp.uint8)
    for knot in bent[1:-1]:
        below += knot < goals
    left = below.astype(xp.intp)
    left *= n
    left += xp.arange(n)
    right = left + n
    low, high = knots.ravel()[left], knots.ravel()[right]
    # A Gaussian's tails are straight lines in the logit.
    start, end = bent.ravel()[left], bent.ravel()[right]
    share = (goals - start) / xp.maximum(end - start, xp.float32(1e-6))
    point = low + xp.clip(share, 0, 1) * (high - low)
    point = xp.clip(point + _halley(levels, *_cdf(block, point, _NEAR, order=2)), low, high)
    step = _halley(levels, *_cdf(block, point, order=2))
    narrowest = xp.where(block.weight > xp.float32(_MATTERS), block.sigma, xp.inf).min(axis=0)
    short = xp.float32(_SHORT) * narrowest
    far = xp.flatnonzero(xp.abs(step) > short)
    point += step
    if far.size:
        rows = far % n
        ends = knots[0, rows], knots[-1, rows]
        start = xp.clip(point.ravel()[far], *ends)
        point.ravel()[far] = _search(
            block.take(rows), levels[far // n, rows], start, ends, short[rows]
        )
    return point


def _halley(levels: Any, value: Any, density: Any, slope: Any) -> Any:
    """How far it is from where a cumulative has this value, density and slope, to its levels."""
    xp = namespace(value)
    density += xp.float32(1e-20)
    step = levels - value
    step /= density
    slope *= step
    slope /= density
    slope *= xp.float32(0.5)
    slope += 1
    step /= xp.clip(slope, xp.float32(0.5), 2)
    return step


def _search(block: _Block, level: Any, point: Any, ends: tuple[Any, Any], short: Any) -> Any:
    """The same for one level of each row, by Newton's steps inside a bracket, or by halves."""
    xp = namespace(point)
    found = point.copy()
    left, right = (end.copy() for end in ends)
    waiting = xp.arange(len(point))
    for turn in range(_PATIENCE):
        # All components at once: these are few rows.
        x = (point - block.mean) * block.narrow
        value = _sum(block.weight * _normal(x))
        density = _sum(block.height * xp.exp(x * x * xp.float32(-0.5)))
        rest = level - value
        left, right = xp.where(rest > 0, point, left), xp.where(rest > 0, right, point)
        step = rest / (density + xp.float32(1e-20))
        tried = point + step
        close = xp.abs(step) <= short
        done = close | (xp.abs(rest) <= xp.float32(_THERE))
        inside = (tried > left) & (tried < right)
        # Every third step halves the bracket: Newton's may go to and fro.
        newton = inside & (turn % 3 < 2)
        point = xp.where(
            done, xp.where(close, tried, point), xp.where(newton, tried, (left + right) / 2)
        )
        found[waiting] = point
        more = xp.flatnonzero(~done)
        if not more.size:
            break
        waiting, block = waiting[more], block.take(more)
        level, point, left, right, short = (
            array[more] for array in (level, point, left, right, short)
        )
    return found


def _knots(block: _Block, looks: int) -> Any:
    """Points (j, n), ascending, about `looks`, between which no row's cumulative rises by much."""
    xp = namespace(block.weight)
    k, n = block.mean.shape
    every = xp.empty((n, k * len(_KNOTS)), xp.float32)
    for index, at in enumerate(_KNOTS):
        every[:, index * k : index * k + k] = (block.mean + block.sigma * xp.float32(at)).T
    every.sort(axis=1)
    step = -(-every.shape[1] // looks)
    chosen = every[:, (every.shape[1] - 1) % step // 2 :: step]
    ends = block.sigma * xp.float32(_REACH)
    knots = xp.empty((chosen.shape[1] + 2, n), xp.float32)
    knots[0], knots[-1] = (block.mean - ends).min(axis=0), (block.mean + ends).max(axis=0)
    knots[1:-1] = chosen.T
    return knots


def _logit(share: Any) -> Any:
    xp = namespace(share)
    share = xp.clip(share, xp.float32(1e-6), xp.float32(1 - 1e-6))
    return xp.log(share / (1 - share))


def _reached(block: _Block, point: Any) -> Any:
    """Cumulative at one point of each row."""
    return _sum(block.weight * _normal((point - block.mean) * block.narrow))


def _sum(components: Any) -> Any:
    """Over the components (k, n), one after the other."""
    if components.shape[1] == 1:
        # NumPy adds up a single column in another order than many: other last bits.
        return _sum(namespace(components).repeat(components, 2, axis=1))[:1]
    return components.sum(axis=0)


def _cdf(
    block: _Block, points: Any, bend: Sequence[float] = _EXACT, order: int = 0
) -> tuple[Any, Any, Any]:
    """Cumulative at points (m, n), as exact as `bend` is.

    From order 1 on also the density, from order 2 on also its slope. Component by component in a
    few arrays that are used again: one expression over (k, m, n) would not fit a cache.
    """
    xp = namespace(points)
    half = block.weight / 2
    total = xp.full(points.shape, 0.5, xp.float32)
    x, square, rise = (xp.empty_like(total) for _ in range(3))
    density = xp.zeros_like(total) if order > 0 else None
    slope = xp.zeros_like(total) if order > 1 else None
    with np.errstate(over="ignore"):
        for k in range(len(half)):
            xp.subtract(points, block.mean[k], out=x)
            x *= block.narrow[k]
            xp.multiply(x, x, out=square)
            _bent(xp, x, square, bend, rise)
            rise *= half[k]
            total += rise
            if density is not None:
                square *= xp.float32(-0.5)
                xp.exp(square, out=square)
                square *= block.height[k]
                density += square
            if slope is not None:
                square *= x
                square *= block.narrow[k]
                slope -= square
    return total, density, slope


def _normal(x: Any) -> Any:
    """Standard normal cumulative distribution."""
    xp = namespace(x)
    with np.errstate(over="ignore"):
        rise = _bent(xp, x, x * x, _EXACT, xp.empty_like(x))
    rise *= xp.float32(0.5)
    rise += xp.float32(0.5)
    return rise


def _bent(xp: Any, x: Any, square: Any, bend: Sequence[float], out: Any) -> Any:
    """2 F(x) - 1 for the standard normal F."""
    xp.multiply(square, xp.float32(bend[-1]), out=out)
    for coefficient in bend[-2:0:-1]:
        out += xp.float32(coefficient)
        out *= square
    out += xp.float32(bend[0])
    out *= x
    return xp.tanh(out, out=out)
