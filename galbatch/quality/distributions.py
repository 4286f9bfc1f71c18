"""Statistics of predicted uncertainties: intervals and quantiles against true values.

Rows in which an input is not finite are left out; a statistic that does not exist is NaN.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from galbatch.quality.metrics import (
    FEWEST_IN_BIN,
    binomial_error,
    bootstrap_errors,
    count,
    place_in_bins,
    sigma_68,
)
from galbatch.quality.results import BinnedDistributions, DistributionStatistics
from galbatch.quality.rows import Array, finite, numbers

PIT_BINS = 20


def coverage(true: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Fraction of true values within [low, high].

    Parameters
    ----------
    true, low, high : array, shape (n,)

    Returns
    -------
    float
    """
    truth, lower, upper = (np.asarray(item, np.float64) for item in (true, low, high))
    known = np.isfinite(truth) & np.isfinite(lower) & np.isfinite(upper)
    if not known.any():
        return float("nan")
    return float(np.mean((truth[known] >= lower[known]) & (truth[known] <= upper[known])))


def pulls(median: ArrayLike, true: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """Standardised residuals, (median - true) / ((high - low) / 2).

    Parameters
    ----------
    median : array, shape (n,)
        Of the predicted distribution: where else its peak may be, its interval lies around this.
    true : array, shape (n,)
    low, high : array, shape (n,)
        Ends of the 68 % interval.

    Returns
    -------
    array, shape (n,), float64
        NaN where the interval has no width.
    """
    half = (np.asarray(high, np.float64) - np.asarray(low, np.float64)) / 2.0
    half = np.where(half > 0, half, np.nan)
    pull: Array = (np.asarray(median, np.float64) - np.asarray(true, np.float64)) / half
    return pull


def pit(true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Array:
    """Probability integral transform F(true) (Dawid 1984) of a distribution known by quantiles.

    Parameters
    ----------
    true : array, shape (n,)
    quantiles : array, shape (n, k)
        Ascending along each row.
    levels : array, shape (k,)
        Their probabilities, ascending, within (0, 1).

    Returns
    -------
    array, shape (n,), float64
        In [0, 1]; NaN where an input is not finite.

    Notes
    -----
    F is linear between quantiles and exponential beyond the outermost, with continuous density.
    """
    truth, edges, probability = _checked(true, quantiles, levels)
    density = _densities(edges, probability)
    segment = np.clip(np.sum(truth[:, None] >= edges, axis=1) - 1, 0, probability.size - 2)
    rows = np.arange(truth.size)
    inside = probability[segment] + density[rows, segment] * (truth - edges[rows, segment])
    with np.errstate(over="ignore", invalid="ignore"):
        below = probability[0] * np.exp(
            np.minimum(0.0, (truth - edges[:, 0]) * density[:, 0] / probability[0])
        )
        rest = 1.0 - probability[-1]
        above = 1.0 - rest * np.exp(np.minimum(0.0, (edges[:, -1] - truth) * density[:, -1] / rest))
    value = np.where(truth < edges[:, 0], below, np.where(truth > edges[:, -1], above, inside))
    finite = np.isfinite(truth) & np.isfinite(edges).all(axis=1)
    transform: Array = np.where(finite, np.clip(value, 0.0, 1.0), np.nan)
    return transform


def crps(true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Array:
    """Continuous ranked probability score (Gneiting & Raftery 2007) from quantiles.

    CRPS = 2 int_0^1 (1[true < q(u)] - u) (q(u) - true) du, the pinball loss over all levels; each
    given level stands for the part of [0, 1] nearest to it.

    Parameters
    ----------
    true : array, shape (n,)
    quantiles : array, shape (n, k)
    levels : array, shape (k,)

    Returns
    -------
    array, shape (n,), float64
        In the unit of the target; smaller is better. NaN where an input is not finite.
    """
    truth, edges, probability = _checked(true, quantiles, levels)
    middle = np.concatenate(([0.0], (probability[1:] + probability[:-1]) / 2.0, [1.0]))
    beyond = edges - truth[:, None]
    score: Array = 2.0 * ((((beyond > 0) - probability) * beyond) @ np.diff(middle))
    return score


def cde_loss(true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Array:
    """Conditional density estimate loss (Izbicki & Lee 2017), int p^2 - 2 p(true), per row.

    Parameters
    ----------
    true : array, shape (n,)
    quantiles : array, shape (n, k)
        Ascending along each row.
    levels : array, shape (k,)

    Returns
    -------
    array, shape (n,), float64
        Its mean is the loss, up to a constant of the data; smaller is better.

    Notes
    -----
    The density is that of `pit`: constant between quantiles, exponential beyond the outermost.
    """
    truth, edges, probability = _checked(true, quantiles, levels)
    density = _densities(edges, probability)
    rest = 1.0 - probability[-1]
    squared = density @ np.diff(probability)
    squared = squared + (density[:, 0] * probability[0] + density[:, -1] * rest) / 2.0
    segment = np.clip(np.sum(truth[:, None] >= edges, axis=1) - 1, 0, probability.size - 2)
    inside = density[np.arange(truth.size), segment]
    with np.errstate(invalid="ignore"):
        below = np.minimum(0.0, (truth - edges[:, 0]) * density[:, 0] / probability[0])
        above = np.minimum(0.0, (edges[:, -1] - truth) * density[:, -1] / rest)
    # Within the quantiles both exponents are 0.
    loss: Array = squared - 2.0 * inside * np.exp(below + above)
    return loss


def distribution_statistics(
    median: ArrayLike,
    true: ArrayLike,
    *,
    interval68: tuple[ArrayLike, ArrayLike] | None = None,
    interval95: tuple[ArrayLike, ArrayLike] | None = None,
    quantiles: ArrayLike | None = None,
    levels: ArrayLike | None = None,
    seed: int = 0,
) -> DistributionStatistics:
    """All numbers of a predicted uncertainty.

    Parameters
    ----------
    median, true : array, shape (n,)
    interval68, interval95 : pair of array, shape (n,), optional
        Low and high ends (values of the target, not distances from the point estimate).
    quantiles : array, shape (n, k), optional
    levels : array, shape (k,), optional
        Probabilities of the quantiles.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DistributionStatistics
    """
    truth = np.asarray(true, np.float64)
    known = np.isfinite(truth)
    nan = float("nan")
    covered68 = covered95 = pull_median = pull_width = pull_width_error = nan
    if interval95 is not None:
        covered95 = coverage(truth, *interval95)
    if interval68 is not None:
        covered68 = coverage(truth, *interval68)
        known &= np.isfinite(np.asarray(interval68[1], np.float64))
        pull = finite(pulls(median, truth, *interval68))
        if pull.size:
            pull_median, pull_width = float(np.median(pull)), sigma_68(pull)
            pull_width_error = bootstrap_errors(pull, seed, "sigma_68")[1]
    score = score_error = loss = loss_error = distance = expected = chance = nan
    histogram = None
    if quantiles is not None and levels is not None:
        transform = finite(pit(truth, quantiles, levels))
        if transform.size:
            score, score_error = _mean(finite(crps(truth, quantiles, levels)))
            loss, loss_error = _mean(finite(cde_loss(truth, quantiles, levels)))
            from scipy.stats import kstest, kstwo

            test = kstest(transform, "uniform", method="asymp")
            distance, chance = float(test.statistic), float(test.pvalue)
            expected = float(kstwo.ppf(0.95, transform.size))
            histogram = count(transform, np.linspace(0.0, 1.0, PIT_BINS + 1))
    rows = int(known.sum())
    return DistributionStatistics(
        rows=rows,
        coverage68=covered68,
        coverage95=covered95,
        pull_median=pull_median,
        pull_width=pull_width,
        crps=score,
        cde_loss=loss,
        pit_ks=distance,
        pit_ks_5percent=expected,
        pit_ks_p=chance,
        pit=histogram,
        coverage68_error=binomial_error(covered68, rows),
        coverage95_error=binomial_error(covered95, rows),
        pull_width_error=pull_width_error,
        crps_error=score_error,
        cde_loss_error=loss_error,
    )


def binned_distributions(
    by: Literal["magnitude", "redshift", "odds"],
    values: ArrayLike,
    median: ArrayLike,
    true: ArrayLike,
    edges: ArrayLike | None = None,
    *,
    interval68: tuple[ArrayLike, ArrayLike] | None = None,
    interval95: tuple[ArrayLike, ArrayLike] | None = None,
    quantiles: ArrayLike | None = None,
    levels: ArrayLike | None = None,
    seed: int = 0,
) -> BinnedDistributions:
    """`distribution_statistics` in bins of a quantity.

    Parameters
    ----------
    by : {"magnitude", "redshift", "odds"}
        What `values` are.
    values : array, shape (n,)
        The quantity to bin by; rows without it are in no bin.
    median, true : array, shape (n,)
    edges : array, shape (m + 1,), optional
        As for `binned_statistics`.
    interval68, interval95, quantiles, levels, seed
        As for `distribution_statistics`.

    Returns
    -------
    BinnedDistributions
        Of 0 rows in bins of fewer than 10.
    """
    quantity, truth = np.asarray(values, np.float64), np.asarray(true, np.float64)
    place, limits = place_in_bins(np.where(np.isfinite(truth), quantity, np.nan), edges)
    middle = np.asarray(median, np.float64)
    ends = {"interval68": interval68, "interval95": interval95}
    table = None if quantiles is None else np.asarray(quantiles, np.float64)
    centres, found = [], []
    for number in range(limits.size - 1):
        inside = place == number
        centres.append(float(np.median(quantity[inside])) if inside.any() else float("nan"))
        if inside.sum() < FEWEST_IN_BIN:
            inside = np.zeros_like(inside)
        found.append(
            distribution_statistics(
                middle[inside],
                truth[inside],
                **{
                    name: (np.asarray(pair[0])[inside], np.asarray(pair[1])[inside])
                    for name, pair in ends.items()
                    if pair is not None
                },
                quantiles=None if table is None else table[inside],
                levels=levels,
                seed=seed + number,
            )
        )
    return BinnedDistributions(by, numbers(limits), tuple(centres), tuple(found))


def _mean(values: Array) -> tuple[float, float]:
    """Mean, and its bootstrap standard error: that of all resamples is known in closed form."""
    if values.size == 0:
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std() / np.sqrt(values.size))


def _checked(
    true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike
) -> tuple[Array, Array, Array]:
    truth, edges = np.asarray(true, np.float64), np.asarray(quantiles, np.float64)
    probability = np.asarray(levels, np.float64)
    if edges.shape != (truth.size, probability.size) or probability.size < 2:
        raise ValueError(
            f"quantiles of shape {edges.shape} for {truth.size} rows and {probability.size} levels"
        )
    if not (probability[0] > 0 and probability[-1] < 1 and (np.diff(probability) > 0).all()):
        raise ValueError("levels must ascend within (0, 1)")
    return truth, edges, probability


def _densities(edges: Array, probability: Array) -> Array:
    # Quantiles that coincide (float32) must not make an infinite density.
    least = 1e-6 * (1.0 + np.abs(edges[:, :-1]))
    density: Array = np.diff(probability) / np.maximum(np.diff(edges, axis=1), least)
    return density
