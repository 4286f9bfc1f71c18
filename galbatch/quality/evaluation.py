"""From arrays of held-out rows to all numbers about a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galbatch.quality.classes import (
    binned_class,
    class_statistics,
    multiclass_statistics,
    star_against_galaxy,
)
from galbatch.quality.distributions import binned_distributions, distribution_statistics
from galbatch.quality.metrics import binned_statistics, point_statistics, redshift_residual
from galbatch.quality.results import (
    BinnedClass,
    Evaluation,
    MulticlassStatistics,
    PointStatistics,
    TargetEvaluation,
)
from galbatch.targets import RECORDS, JudgedColumns, TargetRecord
from galbatch.values import CLASSES, GALAXY, QSO, Target

_By = Literal["magnitude", "redshift", "odds"]


def evaluate(
    targets: Sequence[Target],
    predictions: Mapping[str, ArrayLike],
    truth: Mapping[Target, ArrayLike],
    magnitude: ArrayLike | None = None,
    *,
    quantile_levels: ArrayLike | None = None,
    magnitude_edges: ArrayLike | None = None,
    seed: int = 0,
) -> Evaluation:
    """Judge a model on rows that it has not seen.

    Parameters
    ----------
    targets : sequence of Target
        What to judge. Targets without labelled rows, or that the model does not predict, are
        left out of the result.
    predictions : mapping of str to array, shape (n,) or (n, k)
        Predicted columns by name; a model may have only some.
    truth : mapping of Target to array, shape (n,)
        True values, NaN where unknown (star: 0 galaxy, 1 star, 2 quasar). Redshifts of quasars
        are judged apart from the others.
    magnitude : array, shape (n,), optional
        AB magnitude of the reference band.
    quantile_levels : array, shape (k,), optional
        Probabilities of the list column `z_quantiles`.
    magnitude_edges : array, optional
        Edges for the statistics by magnitude; by default bins with equally many rows.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Evaluation
    """
    given = _Given(predictions, truth, magnitude, magnitude_edges, quantile_levels, seed)
    found = tuple(one for target in targets if (one := _target_evaluation(RECORDS[target], given)))
    total = max((len(np.asarray(values)) for values in truth.values()), default=0)
    return Evaluation(total, found)


@dataclass(frozen=True)
class _Given:
    """What `evaluate` is given."""

    predictions: Mapping[str, ArrayLike]
    truth: Mapping[Target, ArrayLike]
    magnitude: ArrayLike | None
    magnitude_edges: ArrayLike | None
    levels: ArrayLike | None
    seed: int


@dataclass(frozen=True)
class _Judged:
    """The rows of one target: of all n rows, those that have a true value and a prediction.

    Parameters
    ----------
    record : TargetRecord
    given : _Given
    true, point : ndarray, shape (n,)
    """

    record: TargetRecord
    given: _Given
    true: NDArray[np.float64]
    point: NDArray[np.float64]

    @property
    def rows(self) -> NDArray[np.bool_]:
        """Which, shape (n,)."""
        return np.isfinite(self.true) & np.isfinite(self.point)

    @property
    def columns(self) -> JudgedColumns:
        """The predicted columns that speak about the target."""
        return self.record.judged_among(self.given.predictions)

    @property
    def median(self) -> NDArray[np.float64]:
        """What the intervals are around, of these rows."""
        name = self.columns.median
        return np.asarray(self.given.predictions.get(name, self.point), np.float64)[self.rows]

    def column(self, name: str) -> NDArray[np.float64] | None:
        """A predicted column of these rows; None where there is none of that name."""
        if name not in self.given.predictions:
            return None
        return np.asarray(self.given.predictions[name], np.float64)[self.rows]

    def interval(
        self, names: tuple[str, str] | None, sigmas: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Ends of an interval of these rows, or of so many sigma; None where one is missing."""
        error = self.column(self.columns.error)
        if names is None and error is not None:
            point = self.point[self.rows]
            return point - sigmas * error, point + sigmas * error
        low, high = (self.column(name) for name in names) if names else (None, None)
        return None if low is None or high is None else (low, high)

    def bins(self) -> Iterator[tuple[_By, Any, ArrayLike | None]]:
        """What these rows are binned by: its name, values and edges."""
        given = self.given
        if given.magnitude is not None:
            yield "magnitude", np.asarray(given.magnitude)[self.rows], given.magnitude_edges
        if self.record.is_relative:
            yield "redshift", self.point[self.rows], None
            if "odds" in given.predictions:
                yield "odds", np.asarray(given.predictions["odds"])[self.rows], None


def _target_evaluation(record: TargetRecord, given: _Given) -> TargetEvaluation | None:
    """One target's evaluation; None where there is nothing to judge."""
    target, column = record.name, record.judged_among(given.predictions).point
    if target not in given.truth or column not in given.predictions:
        return None
    true = of_galaxies(target, given.truth)
    one = _Judged(record, given, true, np.asarray(given.predictions[column], np.float64))
    if not one.rows.any():
        return None
    labelled = np.isfinite(true)
    found = TargetEvaluation(target, column, int(labelled.sum()), int((labelled & ~one.rows).sum()))
    statistics = _of_classes(one) if record.is_class else _of_numbers(one)
    return replace(found, **statistics, **_of_distributions(one))


def _of_numbers(one: _Judged) -> dict[str, Any]:
    """Statistics of point values, by the names of `TargetEvaluation`'s fields."""
    rows, relative, seed = one.rows, one.record.is_relative, one.given.seed
    point, true = one.point[rows], one.true[rows]
    found: dict[str, Any] = {"point": point_statistics(point, true, redshift=relative, seed=seed)}
    if relative:
        residual = redshift_residual(point, true)
        found["quasars"] = _quasars(one.record.name, one.point, one.given.truth, seed)
        found["binned"] = tuple(
            binned_statistics(by, values, residual, edges, seed=seed)
            for by, values, edges in one.bins()
        )
    return found


def _of_classes(one: _Judged) -> dict[str, Any]:
    """Statistics of classes, by the names of `TargetEvaluation`'s fields."""
    given, true = one.given, one.true
    found: dict[str, Any] = {
        "classes": class_statistics(*star_against_galaxy(given.predictions, true)),
        "multiclass": _all_classes(given.predictions, true),
    }
    if given.magnitude is not None:
        found["binned_classes"] = _by_magnitude(
            given.predictions, true, given.magnitude, given.magnitude_edges
        )
    return found


def _of_distributions(one: _Judged) -> dict[str, Any]:
    """Statistics of predicted uncertainties, if any, as `_of_numbers`."""
    judged, levels = one.columns, one.given.levels
    quantiles = None if levels is None else one.column(judged.quantiles)
    names = (*(judged.interval68 or ()), *(judged.interval95 or ()), judged.error)
    if quantiles is None and not any(name in one.given.predictions for name in names):
        return {}
    given: dict[str, Any] = {
        "interval68": one.interval(judged.interval68, 1.0),
        "interval95": one.interval(judged.interval95, 1.96),
        "quantiles": quantiles,
        "levels": levels,
        "seed": one.given.seed,
    }
    median, true = one.median, one.true[one.rows]
    return {
        "distribution": distribution_statistics(median, true, **given),
        "honesty": tuple(
            binned_distributions(by, values, median, true, edges, **given)
            for by, values, edges in one.bins()
        ),
    }


def of_galaxies(target: Target, truth: Mapping[Target, ArrayLike]) -> NDArray[np.float64]:
    """True values of one target that its statistics count.

    Parameters
    ----------
    target : Target
    truth : mapping of Target to array, shape (n,)
        As for `evaluate`.

    Returns
    -------
    array, shape (n,)
        All of them, but for the redshifts: NaN where the row is known to be a quasar.
    """
    true = np.asarray(truth[target], np.float64)
    if not RECORDS[target].is_relative or "star" not in truth:
        return true
    return np.where(np.asarray(truth["star"]) == QSO, np.nan, true)


def _all_classes(
    predictions: Mapping[str, ArrayLike], true: NDArray[np.float64]
) -> MulticlassStatistics | None:
    names = [f"prob_{name}" for name in CLASSES]
    if not all(name in predictions for name in names) or not (true == QSO).any():
        return None
    given = np.stack([np.asarray(predictions[name], np.float64) for name in names], axis=1)
    return multiclass_statistics(given, true, CLASSES)


def _by_magnitude(
    predictions: Mapping[str, ArrayLike],
    true: NDArray[np.float64],
    magnitude: ArrayLike,
    edges: ArrayLike | None,
) -> tuple[BinnedClass, ...]:
    found = [
        binned_class("star", "galaxy", magnitude, *star_against_galaxy(predictions, true), edges)
    ]
    if _all_classes(predictions, true) is not None:
        for place in (GALAXY, QSO):
            name = CLASSES[place]
            label = np.where(np.isfinite(true), true == place, np.nan)
            given = predictions[f"prob_{name}"]
            found.append(binned_class(name, "rest", magnitude, given, label, edges))
    return tuple(found)


def _quasars(
    target: Target, point: NDArray[np.float64], truth: Mapping[Target, ArrayLike], seed: int
) -> PointStatistics | None:
    true = np.asarray(truth[target], np.float64)
    qso = np.asarray(truth.get("star", np.full(true.shape, np.nan))) == QSO
    judged = qso & np.isfinite(true) & np.isfinite(point)
    if not judged.any():
        return None
    return point_statistics(point[judged], true[judged], redshift=True, seed=seed)
