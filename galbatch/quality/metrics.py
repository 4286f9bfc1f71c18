"""Statistics of point estimates against true values.

Rows in which an input is not finite are left out; a statistic that does not exist is NaN.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.quality.results import BinnedStatistics, Histogram, PointStatistics
from galbatch.quality.rows import Array, both, finite, numbers

MAD_TO_SIGMA = 1.4826
REDSHIFT_OUTLIER = 0.15
FEWEST_IN_BIN = 10
RESAMPLES = 200
# More rows than this only cost time: errors shrink as 1 / sqrt(rows), which is put back.
RESAMPLED_ROWS = 20_000


def redshift_residual(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Normalised redshift residual, (z_phot - z_true) / (1 + z_true).

    Parameters
    ----------
    predicted, true : array, shape (n,)
        Redshifts.

    Returns
    -------
    array, shape (n,), float64
    """
    truth = np.asarray(true, np.float64)
    residual: Array = (np.asarray(predicted, np.float64) - truth) / (1.0 + truth)
    return residual


def sigma_nmad(residual: ArrayLike) -> float:
    """Normalised median absolute deviation, 1.4826 median|r - median r|.

    Equal to the standard deviation for a Gaussian (Hoaglin, Mosteller & Tukey 1983); with the
    median taken off as in Brammer, van Dokkum & Coppi (2008).

    Parameters
    ----------
    residual : array, shape (n,)

    Returns
    -------
    float
        In the unit of the residual.
    """
    values = finite(residual)
    if values.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def sigma_68(residual: ArrayLike) -> float:
    """Half the range that holds the central 68 %.

    Equal to the standard deviation for a Gaussian.

    Parameters
    ----------
    residual : array, shape (n,)

    Returns
    -------
    float
        In the unit of the residual.
    """
    values = finite(residual)
    return float(_half_ranges(values[None])[0]) if values.size else float("nan")


def outlier_fraction(residual: ArrayLike, threshold: float = REDSHIFT_OUTLIER) -> float:
    """Fraction with |residual| > threshold (0.15: Hildebrandt et al. 2010).

    Parameters
    ----------
    residual : array, shape (n,)
    threshold : float

    Returns
    -------
    float
    """
    values = finite(residual)
    return float(np.mean(np.abs(values) > threshold)) if values.size else float("nan")


def slope(predicted: ArrayLike, true: ArrayLike) -> float:
    """Least-squares slope of predicted against true values, cov(t, p) / var(t).

    Parameters
    ----------
    predicted, true : array, shape (n,)

    Returns
    -------
    float
    """
    given, truth = both(predicted, true)
    if truth.size < 2:
        return float("nan")
    centred = truth - truth.mean()
    spread = float(centred @ centred)
    return float(centred @ (given - given.mean()) / spread) if spread > 0 else float("nan")


def r2(predicted: ArrayLike, true: ArrayLike) -> float:
    """Coefficient of determination, 1 - sum (p - t)^2 / sum (t - mean t)^2.

    Parameters
    ----------
    predicted, true : array, shape (n,)

    Returns
    -------
    float
        1 at best, 0 for a model that always says the mean, negative for a worse one.
    """
    given, truth = both(predicted, true)
    if truth.size < 2:
        return float("nan")
    spread = float(np.sum((truth - truth.mean()) ** 2))
    return float(1.0 - np.sum((given - truth) ** 2) / spread) if spread > 0 else float("nan")


def rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean square of predicted - true.

    Parameters
    ----------
    predicted, true : array, shape (n,)

    Returns
    -------
    float
        In the unit of the target.
    """
    given, truth = both(predicted, true)
    return float(np.sqrt(np.mean((given - truth) ** 2))) if truth.size else float("nan")


def point_statistics(
    predicted: ArrayLike, true: ArrayLike, *, redshift: bool = False, seed: int = 0
) -> PointStatistics:
    """All numbers of a point estimate.

    Parameters
    ----------
    predicted, true : array, shape (n,)
    redshift : bool, default False
        Residuals are divided by 1 + true, and |residual| > 0.15 is an outlier.
    seed : int
        Of the bootstrap.

    Returns
    -------
    PointStatistics
    """
    given, truth = both(predicted, true)
    residual = redshift_residual(given, truth) if redshift else given - truth
    if residual.size == 0:
        nothing = float("nan")
        return PointStatistics(0, *[nothing] * 13)
    threshold = REDSHIFT_OUTLIER if redshift else float("nan")
    outliers = outlier_fraction(residual, threshold) if redshift else float("nan")
    bias, width = float(np.median(residual)), sigma_nmad(residual)
    bias_error, width_error = bootstrap_errors(residual, seed)
    return PointStatistics(
        rows=residual.size,
        bias=bias,
        bias_error=bias_error,
        mean=float(np.mean(residual)),
        sigma_nmad=width,
        sigma_nmad_error=width_error,
        outliers=outliers,
        outliers_error=binomial_error(outliers, residual.size),
        threshold=threshold,
        outliers_5sigma=outlier_fraction(residual - bias, 5.0 * width),
        rms=float(np.sqrt(np.mean(residual**2))),
        rmse=rmse(given, truth),
        slope=slope(given, truth),
        r2=r2(given, truth),
    )


def _half_ranges(samples: Array) -> Array:
    """Half the central 68 % of each row."""
    low, high = np.percentile(samples, [16.0, 84.0], axis=1)
    return np.asarray((high - low) / 2)


def bootstrap_errors(
    residual: ArrayLike, seed: int = 0, of: Literal["sigma_nmad", "sigma_68"] = "sigma_nmad"
) -> tuple[float, float]:
    """Bootstrap standard errors (Efron 1979) of the median and of a width.

    Parameters
    ----------
    residual : array, shape (n,)
    seed : int
    of : {"sigma_nmad", "sigma_68"}
        The width.

    Returns
    -------
    tuple of float
        Errors of the median and of the width.

    Notes
    -----
    200 resamples; of m = 20,000 rows where there are more, the errors then scaled by sqrt(m / n).
    """
    values = finite(residual)
    if values.size < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    drawn = min(values.size, RESAMPLED_ROWS)
    block = max(1, 2_000_000 // drawn)
    medians, widths = np.empty(RESAMPLES), np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, block):
        part = slice(start, min(start + block, RESAMPLES))
        sample = values[random.integers(0, values.size, (part.stop - part.start, drawn))]
        medians[part] = np.median(sample, axis=1)
        if of == "sigma_68":
            widths[part] = _half_ranges(sample)
        else:
            sample = np.abs(sample - medians[part, None])
            widths[part] = MAD_TO_SIGMA * np.median(sample, axis=1)
    shrink = np.sqrt(drawn / values.size)
    return float(medians.std(ddof=1) * shrink), float(widths.std(ddof=1) * shrink)


def binned_statistics(
    by: Literal["magnitude", "redshift", "odds"],
    values: ArrayLike,
    residual: ArrayLike,
    edges: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> BinnedStatistics:
    """Bias, scatter and outliers of normalised redshift residuals in bins.

    Parameters
    ----------
    by : {"magnitude", "redshift", "odds"}
        What `values` are.
    values : array, shape (n,)
        The quantity to bin by.
    residual : array, shape (n,)
        (z_phot - z_true) / (1 + z_true).
    edges : array, shape (m + 1,), optional
        Ascending; the last bin includes its upper edge. By default up to eight bins with equally
        many rows, at least 50 in each.
    seed : int
        Of the bootstrap.

    Returns
    -------
    BinnedStatistics
        NaN in bins of fewer than 10 rows.
    """
    quantity, rest = both(values, residual)
    place, limits = place_in_bins(quantity, edges)
    total = limits.size - 1
    table = np.full((7, total), np.nan)
    for number in range(total):
        part, where = rest[place == number], quantity[place == number]
        if part.size:
            table[0, number] = np.median(where)
        if part.size < FEWEST_IN_BIN:
            continue
        outliers = outlier_fraction(part)
        bias_error, width_error = bootstrap_errors(part, seed + number)
        table[1:, number] = (
            np.median(part),
            bias_error,
            sigma_nmad(part),
            width_error,
            outliers,
            binomial_error(outliers, part.size),
        )
    inside = place[(place >= 0) & (place < total)]
    return BinnedStatistics(
        by,
        numbers(limits),
        tuple(int(rows) for rows in np.bincount(inside, minlength=total)),
        *(numbers(line) for line in table),
    )


def place_in_bins(
    values: ArrayLike, edges: ArrayLike | None = None
) -> tuple[NDArray[np.intp], Array]:
    """Which bin each value is in.

    Parameters
    ----------
    values : array, shape (n,)
    edges : array, shape (m + 1,), optional
        Ascending; the last bin includes its upper edge. By default up to eight bins with equally
        many values, at least 50 in each.

    Returns
    -------
    array, shape (n,), int
        -1 or m where a value is in no bin.
    array, shape (m + 1,)
        The edges.
    """
    quantity = np.asarray(values, np.float64)
    known = finite(quantity)
    if edges is not None:
        limits = np.asarray(edges, np.float64)
    elif known.size:
        bins = int(np.clip(known.size // 50, 1, 8))
        limits = np.unique(np.quantile(known, np.linspace(0.0, 1.0, bins + 1)))
        if limits.size == 1:
            limits = np.array([limits[0], limits[0]])
    else:
        limits = np.array([0.0, 1.0])
    place = np.searchsorted(limits, quantity, side="right") - 1
    place[quantity == limits[-1]] = limits.size - 2
    place[~np.isfinite(quantity)] = -1
    return place, limits


def count(values: ArrayLike, edges: ArrayLike) -> Histogram:
    """Histogram of the finite values; those outside the edges are not counted.

    Parameters
    ----------
    values : array, any shape
    edges : array, shape (n + 1,)
        Ascending.

    Returns
    -------
    Histogram
    """
    counts, limits = np.histogram(finite(values), np.asarray(edges, np.float64))
    return Histogram(numbers(limits), tuple(int(number) for number in counts))


def binomial_error(fraction: float, rows: int) -> float:
    """Standard error of a fraction of some rows (Agresti & Coull 1998); NaN of no rows.

    Parameters
    ----------
    fraction : float
    rows : int

    Returns
    -------
    float
    """
    if rows == 0:
        return float("nan")
    # Agresti & Coull (1998): no outlier among a few rows does not mean no uncertainty.
    centre = (fraction * rows + 2.0) / (rows + 4.0)
    return float(np.sqrt(centre * (1.0 - centre) / (rows + 4.0)))


def participation_ratio(rows: NDArray[np.floating]) -> float:
    """How many directions rows really use: the squared sum of variances over that of their squares.

    Parameters
    ----------
    rows : array, shape (n, k)

    Returns
    -------
    float
        From 1 to k, whatever the axes.
    """
    covariance = np.cov(np.asarray(rows, np.float64), rowvar=False)
    variances = np.linalg.eigvalsh(np.atleast_2d(covariance))
    return float(variances.sum() ** 2 / (variances**2).sum())
