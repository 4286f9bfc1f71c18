"""Corrections, fitted on validation rows, that make predicted errors and probabilities honest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logsumexp

from galbatch.arrays import namespace

LOWEST_SCALE = 0.05
HIGHEST_SCALE = 20.0
FEWEST_ROWS = 20


@dataclass(frozen=True)
class SigmaScale:
    """One factor for all predicted widths ("temperature" of a regression).

    Parameters
    ----------
    scale : float
        Predicted 1-sigma widths are multiplied by this; 1 changes nothing.
    rows : int
        Rows it was fitted on; 0 where there were too few and nothing is changed.
    distance : float
        Cramér-von Mises distance of the PIT from uniform after scaling: the mean of
        (empirical - uniform)^2; 1/12 at worst. 0 where nothing was fitted.
    """

    scale: float = 1.0
    rows: int = 0
    distance: float = 0.0

    def apply(self, sigma: Any) -> Any:
        """Scaled widths.

        Parameters
        ----------
        sigma : array, any shape
            Predicted 1-sigma widths, NumPy or cupy, any unit.

        Returns
        -------
        array
            Same shape, dtype, unit and namespace.
        """
        return sigma * sigma.dtype.type(self.scale)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SigmaScale:
        """The inverse of `to_json`."""
        return cls(float(record["scale"]), int(record["rows"]), float(record["distance"]))


@dataclass(frozen=True)
class LogitScale:
    """A straight line through logits (Platt 1999; temperature scaling when `intercept` is 0).

    Parameters
    ----------
    slope : float
        Multiplies the logit; positive. 1 / temperature.
    intercept : float
        Added to the scaled logit.
    rows : int
        Rows it was fitted on; 0 where there were too few and nothing is changed.
    """

    slope: float = 1.0
    intercept: float = 0.0
    rows: int = 0

    def apply(self, logit: Any) -> Any:
        """Calibrated probability of class 1.

        Parameters
        ----------
        logit : array, any shape
            log(p / (1 - p)) as the network gives it, NumPy or cupy.

        Returns
        -------
        array
            Probabilities in [0, 1]; same shape, dtype and namespace.
        """
        number = logit.dtype.type
        line = logit * number(self.slope) + number(self.intercept)
        # tanh saturates where exp would overflow.
        return (namespace(line).tanh(line * number(0.5)) + number(1.0)) * number(0.5)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> LogitScale:
        """The inverse of `to_json`."""
        return cls(float(record["slope"]), float(record["intercept"]), int(record["rows"]))


@dataclass(frozen=True)
class SoftmaxScale:
    """One slope for the logits of several classes, and a shift of each class.

    Platt's (1999) line for more than two classes: temperature scaling (Guo et al. 2017, ICML,
    section 4.2) with biases. One slope for all, unlike their vector scaling, so that the result
    does not depend on the constant that may be added to all logits of a row.

    Parameters
    ----------
    slope : float
        Multiplies the logits; positive. 1 / temperature.
    intercepts : tuple of float
        Added to the scaled logit of each class; 0 for the first. Empty: nothing is added.
    rows : int
        Rows it was fitted on; 0 where there were too few and nothing is changed.
    """

    slope: float = 1.0
    intercepts: tuple[float, ...] = ()
    rows: int = 0

    def apply(self, logits: Any) -> Any:
        """Calibrated probabilities.

        Parameters
        ----------
        logits : array, shape (n, classes)
            As the network gives them, NumPy or cupy; a constant may be added to a row.

        Returns
        -------
        array, shape (n, classes)
            In [0, 1], of each row 1 in all; same dtype and namespace.
        """
        xp, number = namespace(logits), logits.dtype.type
        shifts = self.intercepts or (0.0,) * logits.shape[1]
        # By columns: the sum of a row must not depend on how many rows there are.
        lines = [
            logits[:, place] * number(self.slope) + number(shift)
            for place, shift in enumerate(shifts)
        ]
        highest = reduce(xp.maximum, lines)
        each = [xp.exp(line - highest) for line in lines]
        total = reduce(xp.add, each)
        return xp.stack([one / total for one in each], axis=1)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {**asdict(self), "intercepts": list(self.intercepts)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SoftmaxScale:
        """The inverse of `to_json`."""
        intercepts = tuple(float(shift) for shift in record["intercepts"])
        return cls(float(record["slope"]), intercepts, int(record["rows"]))


def fit_pit_scale(pit: Callable[[float], NDArray[np.floating[Any]]]) -> SigmaScale:
    """The factor on all widths of a distribution for which its PIT is nearest to uniform.

    Parameters
    ----------
    pit : callable
        From a scale to the probability integral transforms F(true value), shape (n,), of the
        validation rows when every width is multiplied by that scale (any mixture, any variable).
        Non-finite values are left out.

    Returns
    -------
    SigmaScale
        Without change where fewer than 20 rows can be used.

    Notes
    -----
    Minimises the Cramér-von Mises distance over log(scale): a coarse grid against local minima,
    then Brent. Unlike a likelihood, it is bounded: an object gone wrong counts as one rank
    however far away it is.
    """

    def distance(log_scale: float) -> float:
        values = np.asarray(pit(float(np.exp(log_scale))), np.float64)
        values = np.sort(values[np.isfinite(values)])
        uniform = (np.arange(values.size) + 0.5) / max(values.size, 1)
        return float(np.mean((values - uniform) ** 2)) if values.size else 0.0

    rows = int(np.isfinite(np.asarray(pit(1.0), np.float64)).sum())
    if rows < FEWEST_ROWS:
        return SigmaScale()
    grid = np.linspace(np.log(LOWEST_SCALE), np.log(HIGHEST_SCALE), 25)
    best = int(np.argmin([distance(point) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)])
    found = minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return SigmaScale(float(np.exp(found.x)), rows, float(found.fun))


def fit_logit_scale(logit: ArrayLike, label: ArrayLike, *, intercept: bool = True) -> LogitScale:
    """Platt's line through the logits of a classifier.

    Parameters
    ----------
    logit : array, shape (n,)
        The network's logit on validation rows.
    label : array, shape (n,)
        1 or 0; NaN where unknown (left out).
    intercept : bool, default True
        False: temperature scaling only.

    Returns
    -------
    LogitScale
        Without change where fewer than 20 rows are labelled or one class is absent.

    Notes
    -----
    Maximum likelihood with Platt's (1999) softened targets (N+ + 1)/(N+ + 2) and 1/(N- + 2), which
    keep the slope finite when the classes separate perfectly.
    """
    score, truth = np.asarray(logit, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(score) & np.isfinite(truth)
    score, positive = score[known], truth[known] > 0.5
    ones = int(positive.sum())
    zeros = score.size - ones
    if score.size < FEWEST_ROWS or ones == 0 or zeros == 0:
        return LogitScale()
    soft = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        line = np.exp(parameters[0]) * score + parameters[1]
        error = expit(line) - soft
        value = np.mean(np.logaddexp(0.0, line) - soft * line)
        slope = np.mean(error * score) * np.exp(parameters[0])
        return float(value), np.array([slope, np.mean(error) if intercept else 0.0])

    # The slope is fitted in its logarithm: a calibration must not turn the order around.
    found = minimize(
        loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-4.0, 4.0), (-20.0, 20.0)]
    )
    return LogitScale(float(np.exp(found.x[0])), float(found.x[1]), int(score.size))


def fit_softmax_scale(logits: ArrayLike, label: ArrayLike) -> SoftmaxScale:
    """Slope and shifts that make the probabilities of several classes honest.

    Parameters
    ----------
    logits : array, shape (n, k)
        The network's logits on validation rows.
    label : array, shape (n,)
        Place of the true class, 0 to k - 1; NaN where unknown (left out).

    Returns
    -------
    SoftmaxScale
        Without change where fewer than 20 rows are labelled or a class is absent.

    Notes
    -----
    Maximum likelihood with softened targets, for a row of class c (N_c + 1)/(N_c + k) and
    1/(N_c + k) for the others: Platt's for k = 2, and as there the slope stays finite when the
    classes separate perfectly.
    """
    score, truth = np.asarray(logits, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(score).all(axis=1) & np.isfinite(truth)
    score, place = score[known], truth[known].astype(np.intp)
    classes = score.shape[1]
    counts = np.bincount(place, minlength=classes)
    if len(score) < FEWEST_ROWS or (counts == 0).any():
        return SoftmaxScale()
    score = score - logsumexp(score, axis=1, keepdims=True)
    soft = np.repeat(1.0 / (counts[place] + classes), classes).reshape(-1, classes)
    soft[np.arange(len(place)), place] *= counts[place] + 1

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, shifts = np.exp(parameters[0]), np.concatenate([[0.0], parameters[1:]])
        line = slope * score + shifts
        log_total = logsumexp(line, axis=1, keepdims=True)
        error = np.exp(line - log_total) - soft
        value = np.mean(log_total[:, 0] - (soft * line).sum(axis=1))
        of_slope = np.mean((error * score).sum(axis=1)) * slope
        return float(value), np.concatenate([[of_slope], error[:, 1:].mean(axis=0)])

    bounds = [(-4.0, 4.0), *[(-20.0, 20.0)] * (classes - 1)]
    found = minimize(loss, np.zeros(classes), jac=True, method="L-BFGS-B", bounds=bounds)
    shifts = (0.0, *(float(shift) for shift in found.x[1:]))
    return SoftmaxScale(float(np.exp(found.x[0])), shifts, len(score))
