"""Corrections of whole distributions, fitted on validation rows.

`Warp` makes the probability integral transform uniform at every brightness; `Straightening` takes
a trend off point estimates ("slope correction").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import ndtr, ndtri

from galbatch.arrays import constant, namespace, special
from galbatch.quality.calibration import FEWEST_ROWS, SigmaScale

Array = NDArray[np.float64]

FEWEST_TO_STRAIGHTEN = 300
"""Validation rows below which no slope correction is tried."""

# A bin of magnitudes has at least so many rows; a standard error of its width is then 0.04.
_BIN_ROWS = 300
_MOST_BINS = 10
# Rows that a bin's own correction counts as much as that of all bins together.
_PRIOR_ROWS = 100
# Below so many rows the shape that is left after shift and width is noise.
_SHAPE_ROWS = 500
_SHAPE = (0.01, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.99)
# float32 tells no probabilities apart that are nearer to 1.
_EDGE = 1e-6
# Least slope of a slope correction: values that differ still do, in float32.
_LEAST_SLOPE = 0.02
_FOLDS = 5
# A correction is used where its gain is this many of its standard errors.
_SURE = 3.0


@dataclass(frozen=True)
class Warp:
    """A correction of cumulative probabilities that depends on an object's magnitude m.

    F' = G(Phi((Phi^-1(F) - shift(m)) / width(m))), with Phi the standard normal distribution,
    shift and width linear between their knots and constant beyond, and G linear between its points,
    (0, 0) and (1, 1).

    Parameters
    ----------
    magnitude : tuple of float
        Knots, ascending, AB; one where the correction is the same for all.
    shift, width : tuple of float
        At the knots.
    given, reached : tuple of float
        Points of G, ascending.
    rows : int
        Rows it was fitted on; 0 where there were too few and nothing is changed.

    Notes
    -----
    A conditional form of the recalibration by PIT of Bordoloi, Lilly & Amara (2010, MNRAS 406, 881)
    and Dey et al. (2022, arXiv:2205.14568).
    """

    magnitude: tuple[float, ...] = (20.0,)
    shift: tuple[float, ...] = (0.0,)
    width: tuple[float, ...] = (1.0,)
    given: tuple[float, ...] = ()
    reached: tuple[float, ...] = ()
    rows: int = 0

    @property
    def changes(self) -> bool:
        """False where everything stays as it is."""
        return self.rows > 0

    def apply(self, probability: Any, magnitude: Any) -> Any:
        """Corrected cumulative probabilities.

        Parameters
        ----------
        probability : array, shape (..., n)
            In [0, 1], NumPy or cupy.
        magnitude : array, shape (n,)
            AB, of the reference band; NaN where unknown: the middle knot's correction.

        Returns
        -------
        array, shape (..., n)
            Same dtype; 0 and 1 stay.
        """
        xp = namespace(probability)
        number = probability.dtype.type
        shift, width = self._at(magnitude, xp)
        inner = xp.clip(probability, number(_EDGE), number(1 - _EDGE))
        normal = (special(xp).ndtri(inner) - shift) / width
        warped = special(xp).ndtr(normal)
        if self.given:
            warped = xp.interp(xp.ascontiguousarray(warped), *self._points(xp))
        # What lies beyond is as likely as before, relative to the edge.
        warped = xp.where(probability < inner, warped * probability / inner, warped)
        rest = (1 - warped) * ((1 - probability) / (1 - inner))
        warped = xp.where(probability > inner, 1 - rest, warped)
        return warped.astype(probability.dtype)

    def levels(self, wanted: Sequence[float], magnitude: Any) -> Any:
        """The uncorrected probabilities that are the corrected ones asked for.

        Parameters
        ----------
        wanted : sequence of float
            m levels, inside (0, 1).
        magnitude : array, shape (n,)
            As for `apply`.

        Returns
        -------
        array, shape (m, n), float32
            The inverse of `apply`; ascending in each column where `wanted` is.
        """
        xp = namespace(magnitude)
        level = np.asarray(wanted, np.float64)
        if self.given:
            given, reached = (np.array([0.0, *of, 1.0]) for of in (self.given, self.reached))
            level = np.interp(level, reached, given)
        shift, width = self._at(magnitude, xp)
        normal = constant(xp, ndtri(level), xp.float32)[:, None] * width + shift
        return special(xp).ndtr(normal)

    def _at(self, magnitude: Any, xp: Any) -> tuple[Any, Any]:
        middle = self.magnitude[len(self.magnitude) // 2]
        known = xp.where(xp.isfinite(magnitude), magnitude, middle)
        knots = constant(xp, self.magnitude, xp.float64)
        shift, width = (
            xp.interp(known, knots, constant(xp, of, xp.float64)).astype(xp.float32)
            for of in (self.shift, self.width)
        )
        return shift, width

    def _points(self, xp: Any) -> tuple[Any, Any]:
        return (
            constant(xp, [0.0, *self.given, 1.0], xp.float64),
            constant(xp, [0.0, *self.reached, 1.0], xp.float64),
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Warp:
        """The inverse of `to_json`."""
        tuples = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return cls(**{**record, **tuples})


def fit_warp(pit: ArrayLike, magnitude: ArrayLike) -> Warp:
    """The warp that makes a PIT uniform in every bin of magnitude.

    Parameters
    ----------
    pit : array, shape (n,)
        Probability integral transforms of validation rows; rows that are not finite are left out.
    magnitude : array, shape (n,)
        AB; rows without one count for the common correction only.

    Returns
    -------
    Warp
        Without change where there are fewer than 20 rows; the same for all magnitudes below 300.

    Notes
    -----
    Shift and width of a bin minimise the Cramér-von Mises distance of its corrected PIT from
    uniform; they are averaged with those of all rows together, which count as 100 rows.
    """
    transform, brightness = np.asarray(pit, np.float64), np.asarray(magnitude, np.float64)
    known = np.isfinite(transform)
    transform, brightness = transform[known], brightness[known]
    if transform.size < FEWEST_ROWS:
        return Warp()
    normal = np.asarray(ndtri(np.clip(transform, 1e-4, 1 - 1e-4)))
    common = _shift_and_width(normal)
    seen = np.isfinite(brightness)
    bins = int(np.clip(seen.sum() // _BIN_ROWS, 0, _MOST_BINS))
    knots, lines = [], []
    if bins:
        edges = np.quantile(brightness[seen], np.linspace(0.0, 1.0, bins + 1))
        place = np.clip(np.searchsorted(edges, brightness, side="right") - 1, 0, bins - 1)
        for number in range(bins):
            inside = seen & (place == number)
            if inside.sum() < _BIN_ROWS // 2:
                continue
            own = int(inside.sum()) / (int(inside.sum()) + _PRIOR_ROWS)
            line = own * _shift_and_width(normal[inside]) + (1 - own) * common
            knots.append(float(np.median(brightness[inside])))
            lines.append(line)
    if not knots:
        knots, lines = [float(np.median(brightness[seen])) if seen.any() else 20.0], [common]
    keep = np.flatnonzero(np.diff(knots, prepend=-np.inf) > 0)
    found = Warp(
        tuple(knots[index] for index in keep),
        tuple(float(lines[index][0]) for index in keep),
        tuple(float(lines[index][1]) for index in keep),
        rows=int(transform.size),
    )
    if transform.size < _SHAPE_ROWS:
        return found
    given = np.quantile(found.apply(transform, brightness), _SHAPE)
    # Equal points (a PIT of many ones) would make G jump.
    given = np.clip(np.maximum.accumulate(given + 1e-7 * np.arange(len(_SHAPE))), 1e-6, 1 - 1e-6)
    if not (np.diff(given) > 0).all():
        return found
    points = tuple(float(point) for point in given)
    return Warp(found.magnitude, found.shift, found.width, points, _SHAPE, found.rows)


def _shift_and_width(normal: Array) -> Array:
    """Mean and standard deviation of the normal distribution nearest to a sample."""
    ordered = np.sort(normal)
    uniform = (np.arange(ordered.size) + 0.5) / ordered.size

    def distance(parameters: Array) -> float:
        return float(
            np.mean((ndtr((ordered - parameters[0]) / np.exp(parameters[1])) - uniform) ** 2)
        )

    low, middle, high = np.quantile(ordered, [0.16, 0.5, 0.84])
    start = np.array([middle, np.log(max((high - low) / 2, 0.05))])
    found = minimize(distance, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9})
    return np.array([found.x[0], np.clip(np.exp(found.x[1]), 0.1, 10.0)])


@dataclass(frozen=True)
class Straightening:
    """A monotone correction of a predicted value ("slope correction").

    Parameters
    ----------
    given, wanted : tuple of float
        Predicted values, ascending, and what they become; linear between, shifted by a constant
        beyond. Empty where nothing is changed.
    slope_before, slope_after : float
        Least-squares slope of true against predicted values on validation rows, 1 when straight.
    error_before, error_after : float
        Cross-validated mean absolute error on validation rows, unit of the target.
    rows : int
        Rows it was fitted on.
    """

    given: tuple[float, ...] = ()
    wanted: tuple[float, ...] = ()
    slope_before: float = 1.0
    slope_after: float = 1.0
    error_before: float = 0.0
    error_after: float = 0.0
    rows: int = 0

    def apply(self, value: Any) -> Any:
        """Corrected values.

        Parameters
        ----------
        value : array, any shape
            NumPy or cupy, unit of the target.

        Returns
        -------
        array
            Same shape and dtype.
        """
        if not self.given:
            return value
        xp = namespace(value)
        first, second = (constant(xp, of, xp.float64) for of in (self.given, self.wanted))
        away = xp.interp(xp.ascontiguousarray(value), first, second - first)
        return (value + away).astype(value.dtype)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Straightening:
        """The inverse of `to_json`."""
        tuples = {key: tuple(value) for key, value in record.items() if isinstance(value, list)}
        return cls(**{**record, **tuples})


@dataclass(frozen=True)
class Calibration:
    """All corrections of one target's distribution, in the order in which they are applied.

    Parameters
    ----------
    straightening : Straightening
        Of the components' means.
    stretch : SigmaScale
        Of the components' widths.
    warp : Warp
        Of the cumulative distribution.
    """

    straightening: Straightening = field(default_factory=Straightening)
    stretch: SigmaScale = field(default_factory=SigmaScale)
    warp: Warp = field(default_factory=Warp)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {name: part.to_json() for name, part in vars(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        return cls(
            Straightening.from_json(record["straightening"]),
            SigmaScale.from_json(record["stretch"]),
            Warp.from_json(record["warp"]),
        )


UNCALIBRATED = Calibration()


def fit_straightening(predicted: ArrayLike, true: ArrayLike, seed: int = 0) -> Straightening:
    """A monotone map from predicted to true values, kept only where it helps.

    Parameters
    ----------
    predicted, true : array, shape (n,)
        Validation rows; those that are not finite are left out.
    seed : int
        Of the folds.

    Returns
    -------
    Straightening
        Without change where there are fewer than 300 rows, or where five-fold cross-validation
        is not sure of a smaller mean absolute error (3 standard errors).

    Notes
    -----
    Isotonic regression (Barlow et al. 1972) of the median true value in bins of the predicted one:
    the median, so that a few objects gone wrong do not bend the line for all.
    """
    given, truth = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    known = np.isfinite(given) & np.isfinite(truth)
    given, truth = given[known], truth[known]
    before = _slope(given, truth)
    if given.size < FEWEST_TO_STRAIGHTEN:
        return Straightening(slope_before=before, slope_after=before, rows=int(given.size))
    fold = np.random.default_rng(seed).permutation(given.size) % _FOLDS
    left_out = np.empty_like(given)
    for number in range(_FOLDS):
        out = fold == number
        left_out[out] = _monotone(given[~out], truth[~out]).apply(given[out])
    misses = np.abs(given - truth), np.abs(left_out - truth)
    error_before, error_after = (float(np.mean(miss)) for miss in misses)
    gain = misses[0] - misses[1]
    if error_before - error_after <= _SURE * np.std(gain) / np.sqrt(gain.size):
        return Straightening(
            slope_before=before, slope_after=before,
            error_before=error_before, error_after=error_before, rows=int(given.size),
        )  # fmt: skip
    found = _monotone(given, truth)
    return Straightening(
        found.given,
        found.wanted,
        before,
        _slope(np.asarray(found.apply(given)), truth),
        error_before,
        error_after,
        int(given.size),
    )


def _monotone(given: Array, truth: Array) -> Straightening:
    bins = int(np.clip(given.size // _BIN_ROWS, 2, 2 * _MOST_BINS))
    edges = np.unique(np.quantile(given, np.linspace(0.0, 1.0, bins + 1)))
    if edges.size < 3:
        return Straightening()
    place = np.clip(np.searchsorted(edges, given, side="right") - 1, 0, edges.size - 2)
    middle, moved, rows = [], [], []
    for number in range(edges.size - 1):
        inside = place == number
        if inside.any():
            middle.append(float(np.median(given[inside])))
            moved.append(middle[-1] + float(np.median(truth[inside] - given[inside])))
            rows.append(int(inside.sum()))
    level = isotonic_regression(moved, weights=rows).x
    # Strictly rising, so that it has an inverse: two values never become one.
    floor = _LEAST_SLOPE * (np.asarray(middle) - middle[0])
    level = np.maximum.accumulate(level - floor) + floor
    keep = np.concatenate([[True], (np.diff(level) > 0) & (np.diff(middle) > 0)])
    return Straightening(
        tuple(float(x) for x in np.asarray(middle)[keep]), tuple(float(x) for x in level[keep])
    )


def _slope(given: Array, truth: Array) -> float:
    """Of the true against the predicted values."""
    if given.size < 2 or np.ptp(given) == 0:
        return 1.0
    centred = given - given.mean()
    return float(centred @ (truth - truth.mean()) / (centred @ centred))
