"""Spectra at rest made comparable: divided by their level, and whole.

What a spectrum lacks is filled by what others lead to expect, given what it has: their mean and
principal components, whose coefficients have the prior that the others show (of a component that
the pixels with data say nothing of there is none). Level and coefficients are found in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLOOR = float(np.sqrt(1000 / 2e6))
"""The least error of a pixel, 2.2 % of a spectrum's level: Portillo et al. (2020) add 1 / 2e6 to
the variance of spectra of 1,000 pixels whose squares sum to 1."""
_ROUNDS = 3
_FITS = 2
_STEPS = 12
"""Of expectation and maximisation, in each fit."""
_ANY_LEVEL = 1e-9
"""Precision of the prior of the mean: none, but a spectrum without data has a solution."""
_LEAST_SHARE = 0.02
"""Of the spectra: a pixel that fewer have is not known."""
_RIDGE = 1e-3
"""Of the mean weight: what few spectra of few pixels do not decide stays small."""

Array = NDArray[np.float64]


def softened(ivar: Array, floor: float = FLOOR) -> Array:
    """Weights of pixels: inverse variances with an error that is never below a floor.

    Without it a few bright spectra, whose errors are a hundredth of their flux and less, would
    decide everything; and calibration is not better than that.

    Parameters
    ----------
    ivar : ndarray
        Of spectra that are divided by their level; 0 where there is no data.
    floor : float
        Of the same unit as the spectra.

    Returns
    -------
    ndarray
        At most ``1 / floor**2``; 0 where the inverse variance is.
    """
    return np.asarray(ivar / (1.0 + ivar * floor * floor))


@dataclass(frozen=True, eq=False)
class Whole:
    """Spectra that are divided by their level.

    Parameters
    ----------
    spectra : ndarray, shape (n, m)
        As measured where there is data, else as expected.
    weights : ndarray, shape (n, m)
        See `softened`; 0 where there is no data.
    level : ndarray, shape (n,)
        NaN where there is none: no data, or a flux that is not positive.
    """

    spectra: Array
    weights: Array
    level: Array


@dataclass(frozen=True, eq=False)
class Expected:
    """What spectra look like.

    Parameters
    ----------
    mean : ndarray, shape (m,)
        A mean square of 1.
    vectors : ndarray, shape (k, m)
        What the spectra differ by: their coefficients are normal, of variance 1.
    known : ndarray of bool, shape (m,)
        Pixels that enough of the spectra had. Others weigh nothing anywhere.
    """

    mean: Array
    vectors: Array
    known: NDArray[np.bool_]

    def whole(self, flux: Array, ivar: Array) -> Whole:
        """Divide spectra by their level, and fill them.

        The level is the root mean square of what the mean and the vectors make of a spectrum:
        noise has no part in it, and neither have pixels without data.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)
            An inverse variance of 0 where there is no data.

        Returns
        -------
        Whole
        """
        ivar = np.where(self.known, ivar, 0.0)
        flux = np.where(ivar > 0, flux, 0.0)
        level = _first_level(flux, ivar, self.mean)
        good = level > 0
        level, ivar = np.where(good, level, 1.0), np.where(good[:, None], ivar, 0.0)
        for _ in range(_ROUNDS):
            made = self._made(*_divided(flux, ivar, level))
            size = np.sqrt((made[:, self.known] ** 2).mean(axis=1))
            level = level * np.where(good, size, 1.0)
        scaled, weights = _divided(flux, ivar, level)
        filled = np.where(weights > 0, scaled, self._made(scaled, weights))
        return Whole(filled, weights, np.where(good, level, np.nan))

    def _made(self, spectra: Array, weights: Array) -> Array:
        """What is expected of spectra of about level 1, by least squares with the prior: (n, m)."""
        lines = np.concatenate([self.mean[None], self.vectors])
        prior = np.array([_ANY_LEVEL] + [1.0] * len(self.vectors))
        matrices, right = _systems(lines, prior, spectra, weights)
        return np.asarray(np.linalg.solve(matrices, right[..., None])[..., 0] @ lines)

    def save(self, file: Path) -> None:
        """Write it."""
        np.savez(file, allow_pickle=False, **vars(self))

    @classmethod
    def load(cls, file: Path) -> Expected:
        """The inverse of `save`."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays})


def expected_of(flux: Array, ivar: Array, components: int) -> Expected:
    """What some spectra look like.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        An inverse variance of 0 where there is no data. Those whose flux is not positive are left
        out (`positive`): there must be others.
    components : int
        At most half as many as there are spectra.

    Returns
    -------
    Expected
    """
    level, known = _levels(flux, ivar)
    ivar = np.where(known, ivar, 0.0)
    flux = np.where(ivar > 0, flux, 0.0)
    for _ in range(_FITS):
        good = level > 0
        flux, ivar, level = flux[good], ivar[good], level[good]
        scaled, weights = _divided(flux, ivar, level)
        mean = _mean(scaled, weights, known)
        away = np.where(weights > 0, scaled - mean, 0.0)
        expected = Expected(mean, weighted_components(away, weights, components), known)
        level = expected.whole(flux, ivar).level
    return expected


def positive(flux: Array, ivar: Array) -> NDArray[np.bool_]:
    """Which of some spectra `expected_of` can learn from: shape (n,).

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        An inverse variance of 0 where there is no data.
    """
    return np.asarray(_levels(flux, ivar)[0] > 0)


def _levels(flux: Array, ivar: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Levels of spectra beside a flat one, (n,), and the pixels that enough of them have, (m,)."""
    known = (ivar > 0).mean(axis=0) >= _LEAST_SHARE
    ivar = np.where(known, ivar, 0.0)
    flux = np.where(ivar > 0, flux, 0.0)
    return _first_level(flux, ivar, np.ones(flux.shape[1])), known


def weighted_components(away: Array, weights: Array, size: int) -> Array:
    """What spectra differ by, where pixels weigh differently: principal components for that.

    A factor analysis whose noise is known, by expectation and maximisation (Dempster et al. 1977).
    What is not known of a coefficient counts, so that pixels that few spectra have do not run away.

    Parameters
    ----------
    away : ndarray, shape (n, m)
        Spectra less their mean; 0 where a pixel weighs nothing.
    weights : ndarray, shape (n, m)
    size : int

    Returns
    -------
    ndarray, shape (size, m)
        Coefficients of the spectra are normal, of variance 1.
    """
    power, axes = np.linalg.eigh(away.T @ away / len(away))
    vectors = (axes[:, ::-1] * np.sqrt(np.maximum(power[::-1], 0.0))).T[:size]
    firm = _RIDGE * weights.mean() * np.eye(size) * len(away)
    for _ in range(_STEPS):
        matrices, right = _systems(vectors, np.ones(size), away, weights)
        covariances = np.linalg.inv(matrices)
        found = (covariances @ right[..., None])[..., 0]
        squares = (found[:, :, None] * found[:, None] + covariances).reshape(len(found), -1)
        sums = (weights.T @ squares).reshape(-1, size, size) + firm
        vectors = np.linalg.solve(sums, ((weights * away).T @ found)[..., None])[..., 0].T
    return np.asarray(vectors)


def _systems(lines: Array, prior: Array, spectra: Array, weights: Array) -> tuple[Array, Array]:
    """Matrices (n, k, k) and right sides (n, k) of least squares with a prior of coefficients.

    Parameters
    ----------
    lines : ndarray, shape (k, m)
    prior : ndarray, shape (k,)
        Inverse variances of the coefficients, whose means are 0.
    spectra, weights : ndarray, shape (n, m)
    """
    size = len(lines)
    pairs = (lines[:, None] * lines[None]).reshape(size * size, -1)
    matrices = (weights @ pairs.T).reshape(-1, size, size) + np.diag(prior)
    return matrices, (weights * spectra) @ lines.T


def _divided(flux: Array, ivar: Array, level: Array) -> tuple[Array, Array]:
    """Spectra by their levels, 0 where there is no data, and their weights."""
    weights = softened(ivar * level[:, None] ** 2)
    return np.where(weights > 0, flux / level[:, None], 0.0), weights


def _first_level(flux: Array, ivar: Array, mean: Array) -> Array:
    """How much of the mean a spectrum has, by errors that are not far below their median.

    NaN where there is no data.
    """
    good = ivar > 0
    middle = np.maximum(good.sum(axis=1, keepdims=True) - 1, 0) // 2
    typical = np.take_along_axis(np.sort(np.where(good, ivar, np.inf), axis=1), middle, axis=1)
    weights = ivar / (1.0 + ivar / typical)
    squares = (weights * mean * mean).sum(axis=1)
    found = (weights * flux * mean).sum(axis=1) / np.where(squares > 0, squares, 1.0)
    return np.where(squares > 0, found, np.nan)


def _mean(scaled: Array, weights: Array, known: NDArray[np.bool_]) -> Array:
    total = np.where(known, weights.sum(axis=0), 1.0)
    mean = (weights * scaled).sum(axis=0) / total
    places = np.arange(len(mean))
    mean = np.interp(places, places[known], mean[known])
    return np.asarray(mean / np.sqrt((mean[known] ** 2).mean()))
