"""Statistics of class probabilities against known classes.

Rows in which an input is not finite are left out; a statistic that does not exist is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.quality.metrics import FEWEST_IN_BIN, place_in_bins
from galbatch.quality.results import BinnedClass, ClassStatistics, MulticlassStatistics
from galbatch.quality.rows import Array, both, numbers
from galbatch.values import QSO

ROC_POINTS = 200
RELIABILITY_BINS = 10


def roc_curve(probability: ArrayLike, label: ArrayLike) -> tuple[Array, Array]:
    """Receiver operating characteristic over all thresholds.

    Parameters
    ----------
    probability : array, shape (n,)
        Of class 1.
    label : array, shape (n,)
        1 or 0; NaN where unknown.

    Returns
    -------
    tuple of array, shape (m,)
        False and true positive rates from (0, 0) to (1, 1), one point per distinct probability;
        NaN where a class is absent.
    """
    score, truth = both(probability, label)
    order = np.argsort(-score, kind="stable")
    score, positive = score[order], truth[order] > 0.5
    last = np.append(np.flatnonzero(np.diff(score)), max(score.size - 1, 0))[: score.size]
    true_positive = np.concatenate(([0.0], np.cumsum(positive)[last]))
    false_positive = np.concatenate(([0.0], np.cumsum(~positive)[last]))
    with np.errstate(invalid="ignore"):
        return false_positive / false_positive[-1], true_positive / true_positive[-1]


def auc(probability: ArrayLike, label: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a star scores above a galaxy (ties half).

    Parameters
    ----------
    probability : array, shape (n,)
    label : array, shape (n,)
        1 or 0; NaN where unknown.

    Returns
    -------
    float
        The Mann-Whitney U over n_1 n_0; NaN where a class is absent.
    """
    score, truth = both(probability, label)
    positive = truth > 0.5
    ones = int(positive.sum())
    zeros = truth.size - ones
    if ones == 0 or zeros == 0:
        return float("nan")
    from scipy.stats import rankdata

    return float((rankdata(score)[positive].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def auc_error(area: float, ones: int, zeros: int) -> float:
    """Standard error of an area under the ROC curve.

    Hanley & McNeil (1982, Radiology 143, 29), equation 1 with the Q of negative exponential scores.

    Parameters
    ----------
    area : float
        The area, in [0, 1].
    ones, zeros : int
        Rows of either class.

    Returns
    -------
    float
        NaN where a class is absent.
    """
    if not ones or not zeros:
        return float("nan")
    both_ones, both_zeros = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    variance = (
        area * (1.0 - area)
        + (ones - 1) * (both_ones - area**2)
        + (zeros - 1) * (both_zeros - area**2)
    ) / (ones * zeros)
    return float(np.sqrt(max(variance, 0.0)))


def binned_class(
    name: str,
    against: Literal["galaxy", "rest"],
    magnitude: ArrayLike,
    probability: ArrayLike,
    label: ArrayLike,
    edges: ArrayLike | None = None,
) -> BinnedClass:
    """How well one class is told, by magnitude.

    Parameters
    ----------
    name, against : str
        See `BinnedClass`.
    magnitude : array, shape (n,)
    probability : array, shape (n,)
        Of the class.
    label : array, shape (n,)
        1 of the class, 0 not; NaN where unknown.
    edges : array, shape (m + 1,), optional
        See `metrics.place_in_bins`.

    Returns
    -------
    BinnedClass
    """
    given, truth = np.asarray(probability, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(given) & np.isfinite(truth) & np.isfinite(magnitude)
    given, truth, at = given[known], truth[known], np.asarray(magnitude, np.float64)[known]
    place, limits = place_in_bins(at, edges)
    total = limits.size - 1
    table = np.full((4, total), np.nan)
    rows, members = np.zeros(total, np.int64), np.zeros(total, np.int64)
    for number in range(total):
        inside = place == number
        rows[number], members[number] = inside.sum(), truth[inside].sum()
        if not rows[number]:
            continue
        area = auc(given[inside], truth[inside])
        table[:3, number] = (
            np.median(at[inside]),
            area,
            auc_error(area, int(members[number]), int(rows[number] - members[number])),
        )
        if rows[number] >= FEWEST_IN_BIN:
            table[3, number] = _calibration_error(*reliability(given[inside], truth[inside]))
    return BinnedClass(
        name,
        against,
        numbers(limits),
        tuple(int(number) for number in rows),
        tuple(int(number) for number in members),
        *(numbers(line) for line in table),
    )


def reliability(probability: ArrayLike, label: ArrayLike) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean probability and frequency of class 1 in ten bins of probability.

    Parameters
    ----------
    probability : array, shape (n,)
    label : array, shape (n,)
        1 or 0; NaN where unknown.

    Returns
    -------
    tuple of array, shape (m,)
        Mean probability, fraction of class 1, rows: of the filled bins.
    """
    score, truth = both(probability, label)
    place = np.clip((score * RELIABILITY_BINS).astype(np.int64), 0, RELIABILITY_BINS - 1)
    rows = np.bincount(place, minlength=RELIABILITY_BINS)
    filled = rows > 0
    mean = np.bincount(place, score, RELIABILITY_BINS)[filled] / rows[filled]
    fraction = np.bincount(place, truth > 0.5, RELIABILITY_BINS)[filled] / rows[filled]
    return mean, fraction, rows[filled].astype(np.int64)


def class_statistics(
    probability: ArrayLike, label: ArrayLike, threshold: float = 0.5
) -> ClassStatistics:
    """All numbers of a star/galaxy probability.

    Parameters
    ----------
    probability : array, shape (n,)
        Probability of being a star.
    label : array, shape (n,)
        1 star, 0 galaxy, NaN unknown.
    threshold : float, default 0.5

    Returns
    -------
    ClassStatistics
    """
    score, truth = both(probability, label)
    star, called = truth > 0.5, score >= threshold
    found, neither = int(np.sum(star & called)), int(np.sum(~star & ~called))
    missed, false = int(np.sum(star & ~called)), int(np.sum(~star & called))
    mean, fraction, rows = reliability(score, truth)
    inside = np.clip(score, 1e-7, 1.0 - 1e-7)
    false_rate, true_rate = roc_curve(score, truth)
    chosen = np.unique(np.linspace(0, false_rate.size - 1, ROC_POINTS).round().astype(np.int64))
    return ClassStatistics(
        rows=score.size,
        stars=found + missed,
        galaxies=neither + false,
        threshold=threshold,
        accuracy=_share(found + neither, score.size),
        auc=auc(score, truth),
        galaxies_as_galaxies=neither,
        galaxies_as_stars=false,
        stars_as_galaxies=missed,
        stars_as_stars=found,
        galaxy_completeness=_share(neither, neither + false),
        galaxy_purity=_share(neither, neither + missed),
        star_completeness=_share(found, found + missed),
        star_purity=_share(found, found + false),
        calibration_error=_calibration_error(mean, fraction, rows),
        brier=float(np.mean((score - star) ** 2)) if score.size else float("nan"),
        log_loss=float(-np.mean(np.log(np.where(star, inside, 1.0 - inside))))
        if score.size
        else float("nan"),
        false_positive_rate=numbers(false_rate[chosen]),
        true_positive_rate=numbers(true_rate[chosen]),
        reliability_probability=numbers(mean),
        reliability_fraction=numbers(fraction),
        reliability_rows=tuple(int(number) for number in rows),
    )


def star_against_galaxy(
    predictions: Mapping[str, ArrayLike], label: ArrayLike
) -> tuple[Array, Array]:
    """Star probabilities as if there were no quasars.

    Parameters
    ----------
    predictions : mapping of str to array, shape (n,)
        ``prob_star``; where quasars are a class, ``prob_galaxy`` too.
    label : array, shape (n,)
        0 galaxy, 1 star, 2 quasar, NaN unknown.

    Returns
    -------
    probability : array, shape (n,)
        Of a star, given a star or a galaxy.
    label : array, shape (n,)
        1 star, 0 galaxy, NaN for the rest.
    """
    star, truth = np.asarray(predictions["prob_star"], np.float64), np.asarray(label, np.float64)
    if "prob_galaxy" in predictions:
        # Both can be next to nothing; then it is undecided which.
        galaxy = np.asarray(predictions["prob_galaxy"], np.float64)
        tiny = np.finfo(np.float64).tiny
        star = (star + tiny) / (star + galaxy + 2 * tiny)
    return star, np.where(truth == QSO, np.nan, truth)


def multiclass_statistics(
    probabilities: ArrayLike, label: ArrayLike, classes: Sequence[str]
) -> MulticlassStatistics:
    """All numbers of the probabilities of several classes.

    Parameters
    ----------
    probabilities : array, shape (n, k)
        Of each class; a row's sum is 1.
    label : array, shape (n,)
        Place of the true class in `classes`, NaN where unknown.
    classes : sequence of str, length k

    Returns
    -------
    MulticlassStatistics
    """
    given, truth = np.asarray(probabilities, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(given).all(axis=1) & np.isfinite(truth)
    given, place = given[known], truth[known].astype(np.intp)
    kinds, rows = len(classes), len(place)
    called = given.argmax(axis=1)
    confusion = np.bincount(place * kinds + called, minlength=kinds**2).reshape(kinds, kinds)
    right = called == place
    of_true = given[np.arange(rows), place]
    one_hot = place[:, None] == np.arange(kinds)
    each = [reliability(given[:, one], one_hot[:, one]) for one in range(kinds)]
    top = reliability(given.max(axis=1, initial=0.0), right)
    return MulticlassStatistics(
        classes=tuple(classes),
        rows=tuple(int(number) for number in confusion.sum(axis=1)),
        accuracy=_share(int(right.sum()), rows),
        confusion=tuple(tuple(int(number) for number in line) for line in confusion),
        completeness=tuple(
            _share(int(confusion[one, one]), int(confusion[one].sum())) for one in range(kinds)
        ),
        purity=tuple(
            _share(int(confusion[one, one]), int(confusion[:, one].sum())) for one in range(kinds)
        ),
        auc=tuple(auc(given[:, one], one_hot[:, one]) for one in range(kinds)),
        calibration_error=tuple(_calibration_error(*one) for one in each),
        top_calibration_error=_calibration_error(*top),
        brier=float(np.mean(np.square(given - one_hot).sum(axis=1))) if rows else float("nan"),
        log_loss=float(-np.mean(np.log(np.maximum(of_true, 1e-7)))) if rows else float("nan"),
        reliability_probability=tuple(numbers(mean) for mean, _, _ in each),
        reliability_fraction=tuple(numbers(fraction) for _, fraction, _ in each),
        reliability_rows=tuple(tuple(int(number) for number in found) for _, _, found in each),
    )


def _calibration_error(mean: Array, fraction: Array, rows: NDArray[np.int64]) -> float:
    return float(np.sum(rows * np.abs(fraction - mean)) / max(int(rows.sum()), 1))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
