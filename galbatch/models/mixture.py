"""Cumulative distributions and quantiles of Gaussian mixtures, for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from galbatch.arrays import constant, namespace, parts

# Cells, levels times rows, whose handful of arrays stay in a core's second cache.
_CELLS = 32_768
# Knots of each component, in its sigma; of all components' together, at most so many are looked at,
# and two more for each level.
_KNOTS = (-2.5, -1.0, 1.0, 2.5)
_LOOKS = 6
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
    own = hasattr(levels, "shape")
    wanted = xp.asarray(levels, xp.float32) if own else constant(xp, levels, xp.float32)
    wanted = xp.broadcast_to(wanted.reshape(len(levels), -1), (len(levels), n))
    result = xp.empty((len(levels), n), xp.float32)
    for part in parts(xp, n, max(_CELLS // len(levels), 1)):
        block = _Block.of(mixture, part)
        result[:, part] = _invert(block, wanted[:, part])
    return result.T


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
