"""From arrays of held-out rows to all numbers about a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    ClassStatistics,
    Evaluation,
    MulticlassStatistics,
    PointStatistics,
    TargetEvaluation,
)
from galbatch.values import CLASSES, GALAXY, QSO, Target


@dataclass(frozen=True)
class JudgedColumns:
    """The predicted columns that speak about a target.

    Parameters
    ----------
    point : str
        The point estimate (or probability) that is judged.
    interval68, interval95 : pair of str
        Low and high ends; empty where there is no such interval.
    quantiles : str
        A list column; empty where there is none.
    median : str
        What the intervals are around; empty where that is the point estimate.
    """

    point: str
    interval68: tuple[str, str] | None = None
    interval95: tuple[str, str] | None = None
    quantiles: str = ""
    median: str = ""


JUDGED: dict[Target, JudgedColumns] = {
    "redshift": JudgedColumns(
        "z_mode",
        ("z_err68_low", "z_err68_high"),
        ("z_err95_low", "z_err95_high"),
        "z_quantiles",
        "z_median",
    ),
    "star": JudgedColumns("prob_star"),
    "log_mass": JudgedColumns("log_mass", ("log_mass_low68", "log_mass_high68")),
    "spectral_type": JudgedColumns(
        "spectral_type", ("spectral_type_low68", "spectral_type_high68")
    ),
    "abs_mag_b": JudgedColumns("abs_mag_b", ("abs_mag_b_low68", "abs_mag_b_high68")),
}


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
    found: list[TargetEvaluation] = []
    for target in targets:
        columns = JUDGED[target]
        if target not in truth or columns.point not in predictions:
            continue
        true = of_galaxies(target, truth)
        point = np.asarray(predictions[columns.point], np.float64)
        labelled = np.isfinite(true)
        judged = labelled & np.isfinite(point)
        if not judged.any():
            continue
        rows = {
            name: np.asarray(predictions[name], np.float64)[judged]
            for name in (*(columns.interval68 or ()), *(columns.interval95 or ()))
            if name in predictions
        }
        if columns.quantiles in predictions and quantile_levels is not None:
            quantiles = np.asarray(predictions[columns.quantiles], np.float64)
            rows[columns.quantiles] = quantiles[judged]
        middle = np.asarray(predictions.get(columns.median, point), np.float64)[judged]
        star, redshift = target == "star", target == "redshift"
        given: dict[str, Any] = {
            "interval68": _interval(rows, columns.interval68),
            "interval95": _interval(rows, columns.interval95),
            "quantiles": rows.get(columns.quantiles),
            "levels": quantile_levels,
            "seed": seed,
        }
        bins = _Bins(judged, magnitude, magnitude_edges, predictions.get("odds"))
        found.append(
            TargetEvaluation(
                target=target,
                column=columns.point,
                labelled=int(labelled.sum()),
                missing=int((labelled & ~judged).sum()),
                point=None
                if star
                else point_statistics(point[judged], true[judged], redshift=redshift, seed=seed),
                distribution=distribution_statistics(middle, true[judged], **given)
                if rows
                else None,
                classes=_two_classes(predictions, true) if star else None,
                multiclass=_all_classes(predictions, true) if star else None,
                binned_classes=_by_magnitude(predictions, true, magnitude, magnitude_edges)
                if star and magnitude is not None
                else (),
                quasars=_quasars(point, truth, seed) if redshift else None,
                binned=tuple(
                    binned_statistics(
                        by, values, redshift_residual(point, true)[judged], edges, seed=seed
                    )
                    for by, values, edges in bins.of(point)
                )
                if redshift
                else (),
                honesty=tuple(
                    binned_distributions(by, values, middle, true[judged], edges, **given)
                    for by, values, edges in bins.of(point if redshift else None)
                )
                if rows
                else (),
            )
        )
    total = max((len(np.asarray(values)) for values in truth.values()), default=0)
    return Evaluation(total, tuple(found))


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
    if target != "redshift" or "star" not in truth:
        return true
    return np.where(np.asarray(truth["star"]) == QSO, np.nan, true)


def _two_classes(
    predictions: Mapping[str, ArrayLike], true: NDArray[np.float64]
) -> ClassStatistics:
    return class_statistics(*star_against_galaxy(predictions, true))


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
    point: NDArray[np.float64], truth: Mapping[Target, ArrayLike], seed: int
) -> PointStatistics | None:
    true = np.asarray(truth["redshift"], np.float64)
    qso = np.asarray(truth.get("star", np.full(true.shape, np.nan))) == QSO
    judged = qso & np.isfinite(true) & np.isfinite(point)
    if not judged.any():
        return None
    return point_statistics(point[judged], true[judged], redshift=True, seed=seed)


def _interval(
    rows: Mapping[str, NDArray[np.float64]], names: tuple[str, str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if names is None or names[0] not in rows or names[1] not in rows:
        return None
    return rows[names[0]], rows[names[1]]


@dataclass(frozen=True)
class _Bins:
    """What the judged rows are binned by."""

    judged: NDArray[np.bool_]
    magnitude: ArrayLike | None
    magnitude_edges: ArrayLike | None
    odds: ArrayLike | None

    def of(
        self, redshift: NDArray[np.float64] | None
    ) -> Iterator[tuple[Literal["magnitude", "redshift", "odds"], Any, ArrayLike | None]]:
        if self.magnitude is not None:
            yield "magnitude", np.asarray(self.magnitude)[self.judged], self.magnitude_edges
        if redshift is not None:
            yield "redshift", redshift[self.judged], None
            if self.odds is not None:
                yield "odds", np.asarray(self.odds)[self.judged], None
