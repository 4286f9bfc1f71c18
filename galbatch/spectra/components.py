"""Noisy spectra at rest as the principal components of noise-free ones, with the noise of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.clean import has_data
from galbatch.spectra.grids import LogGrid

LIGHT = 299_792.458
"""Speed of light in km/s."""
PARTS = 8
"""Of the grid, of each of which a network is told how much is seen."""
FEWEST = 100
"""Pixels with data that a spectrum must have."""
FINEST = 200.0
"""Signal to noise of a pixel: better ones are taken for this one, in teaching and in chi-square.
Neither calibration nor the components are more exact."""
_WEAK = 0.01
"""Of the median inverse variance: pixels with less are left out, since they would count alike."""

Array = NDArray[np.float64]


def to_rest(
    flux: NDArray[np.floating],
    ivar: NDArray[np.floating],
    redshift: Array,
    axis: LogGrid,
    rest: LogGrid,
) -> tuple[Array, Array, Array]:
    """Spectra moved to rest by whole pixels: no number changes.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, axis.points)
    redshift : ndarray, shape (n,)
    axis, rest : LogGrid
        Observed and at rest, of one step.

    Returns
    -------
    flux, ivar : ndarray, shape (n, rest.points)
        0 where nothing was observed.
    velocity : ndarray, shape (n,)
        km/s that a galaxy of just this redshift still has: at most half a pixel.
    """
    places = (rest.first - axis.first + np.log10(1.0 + redshift)) / axis.step
    whole = np.rint(places).astype(np.intp)
    at = whole[:, None] + np.arange(rest.points)
    inside = (at >= 0) & (at < axis.points)
    at = np.clip(at, 0, axis.points - 1)
    moved = [np.where(inside, np.take_along_axis(one, at, axis=1), 0.0) for one in (flux, ivar)]
    velocity = LIGHT * (10.0 ** (axis.step * (places - whole)) - 1.0)
    return moved[0], moved[1], velocity


@dataclass(frozen=True, eq=False)
class Compressed:
    """What is kept of spectra.

    Parameters
    ----------
    scores : ndarray, shape (n, k)
        Of the components, of the spectrum over its level.
    noise : ndarray, shape (n, k)
        Their standard deviations.
    signal_to_noise : ndarray, shape (n,)
        Median of the pixels', were the spectrum the mean one.
    seen : ndarray, shape (n, PARTS)
        Share of each part of the grid that has data.
    chi2 : ndarray, shape (n,)
        Mean square of what the components leave, over the noise's; no pixel has less noise than at
        a signal to noise of `FINEST`.
    good : ndarray of bool, shape (n,)
        Whether there is enough data, and light.
    """

    scores: Array
    noise: Array
    signal_to_noise: Array
    seen: Array
    chi2: Array
    good: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SpectralComponents:
    """Principal components of noise-free spectra at rest.

    A spectrum is divided by how much it has of the mean spectrum, and the mean taken off. Pixels
    without data count for nothing in either.

    Parameters
    ----------
    grid : LogGrid
    mean : ndarray, shape (m,)
        Of spectra of mean 1.
    axes : ndarray, shape (k, m)
        Of length 1, at right angles to each other and to the mean.
    spread : ndarray, shape (k,)
        Standard deviations of noise-free spectra along them.
    """

    grid: LogGrid
    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def of(cls, spectra: NDArray[np.float32], grid: LogGrid, count: int) -> SpectralComponents:
        """The first components of some spectra, shape (n, m), by falling spread."""
        from sklearn.utils.extmath import randomized_svd

        mean = (spectra / spectra.mean(axis=1, keepdims=True)).mean(axis=0, dtype=np.float64)
        level = spectra @ mean / (mean @ mean)
        left = spectra / level[:, None] - mean
        kept = min(count, *left.shape)
        _, strengths, axes = randomized_svd(left, kept, n_iter=4, random_state=0)
        spread = np.maximum(strengths, 1e-6 * strengths[0]) / np.sqrt(len(spectra))
        made = (np.asarray(one, np.float32) for one in (mean, axes, spread))
        return cls(grid, *made)

    def __call__(self, flux: NDArray[np.floating], ivar: NDArray[np.floating]) -> Compressed:
        """Components of spectra.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)
            Without data where the inverse variance is no number above 0.

        Returns
        -------
        Compressed
            Zeros where `good` says no.
        """
        seen = usable(flux, ivar)
        inverse = np.where(seen, ivar, 0.0)
        flux = np.where(seen, flux, 0.0)
        level = self.level(flux, seen)
        good = (seen.sum(axis=1) >= FEWEST) & (level > 0)
        level = np.where(good, level, 1.0)[:, None]
        left = np.where(seen, flux / level - self.mean, 0.0).astype(np.float32)
        variance = np.zeros_like(inverse)
        np.divide(1.0, inverse * level**2, where=seen, out=variance)
        # The level itself has noise, which matters little: it is of all pixels together.
        noise = np.sqrt(variance.astype(np.float32) @ (self.axes**2).T).astype(np.float64)
        scores = (left @ self.axes.T).astype(np.float64)
        return Compressed(
            np.where(good[:, None], scores, 0.0),
            np.where(good[:, None], noise, 1.0),
            self.signal_to_noise(variance),
            _shares(seen),
            self._chi2(left, scores, variance),
            good,
        )

    def level(self, flux: NDArray[np.floating], seen: NDArray[np.bool_]) -> Array:
        """How much spectra have of the mean spectrum, shape (n,), by least squares."""
        mean = self.mean.astype(np.float64)
        norm = np.maximum(seen @ mean**2, 1e-30)
        return np.asarray(np.where(seen, flux, 0.0) @ mean / norm, np.float64)

    def signal_to_noise(self, variance: NDArray[np.floating]) -> Array:
        """Median signal to noise of the mean spectrum's pixels, shape (n,).

        Parameters
        ----------
        variance : ndarray, shape (n, m)
            Of spectra over their level; 0 where nothing is seen.
        """
        each = np.divide(
            self.mean, np.sqrt(variance), where=variance > 0, out=np.full(variance.shape, np.nan)
        )
        found = np.zeros(len(variance))
        some = (variance > 0).any(axis=1)
        found[some] = np.nanmedian(each[some], axis=1)
        return found

    def noise_factor(self, variance: Array, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """A matrix F, (k, k), for which F z is the noise of a spectrum's scores, z normal numbers.

        Parameters
        ----------
        variance : ndarray, shape (m,)
            Of the spectrum over its level.
        seen : ndarray of bool, shape (m,)
        """
        mean = self.mean.astype(np.float64)
        axes = self.axes.astype(np.float64) * seen
        # What the noise adds to the level is taken off with the mean.
        axes = axes - np.outer(axes @ mean, mean * seen) / (seen @ mean**2)
        covariance = (axes * np.where(seen, variance, 0.0)) @ axes.T
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), np.float32)

    def features(
        self,
        scores: NDArray[np.floating],
        noise: Array,
        signal_to_noise: Array,
        seen: Array,
    ) -> NDArray[np.float32]:
        """What a network reads, shape (n, k + 1 + PARTS): each of order 1 whatever the noise is."""
        wide = np.sqrt(noise**2 + self.spread.astype(np.float64) ** 2)
        light = np.log10(np.maximum(signal_to_noise, 0.1))[:, None] - 1.0
        return np.concatenate([scores / wide, light, seen], axis=1).astype(np.float32)

    @property
    def size(self) -> int:
        """Numbers of a row of `features`."""
        return len(self.axes) + 1 + PARTS

    def nearest(
        self, flux: NDArray[np.floating], ivar: NDArray[np.floating]
    ) -> tuple[Array, Array]:
        """The spectra of components that `Compressed.chi2` judges, and the errors it does so by.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, m)

        Returns
        -------
        tuple of ndarray, shape (n, m)
            In units of the flux; errors are NaN where there is no data.
        """
        seen = usable(flux, ivar)
        flux = np.where(seen, flux, 0.0)
        level = self.level(flux, seen)
        level = np.where(level > 0, level, 1.0)[:, None]
        left = np.where(seen, flux / level - self.mean, 0.0).astype(np.float32)
        variance = np.zeros_like(flux)
        np.divide(1.0, np.where(seen, ivar, 1.0) * level**2, where=seen, out=variance)
        variance = self._floored(variance)
        made = self.mean + self._likely(left @ self.axes.T, variance)
        return made * level, np.where(seen, np.sqrt(variance) * level, np.nan)

    def _floored(self, variance: Array) -> Array:
        least = (self.mean.astype(np.float64) / FINEST) ** 2
        return np.where(variance > 0, np.maximum(variance, least), 0.0)

    def _likely(self, scores: NDArray[np.floating], variance: Array) -> NDArray[np.float32]:
        """What the components make of scores, given how far they spread: (n, m)."""
        spread = self.spread.astype(np.float64) ** 2
        noise = variance.astype(np.float32) @ (self.axes**2).T
        likely = (scores * spread / (spread + noise)).astype(np.float32)
        return np.asarray(likely @ self.axes)

    def _chi2(self, left: NDArray[np.float32], scores: Array, variance: Array) -> Array:
        variance = self._floored(variance)
        off = left - self._likely(scores, variance)
        known = variance > 0
        squares = np.divide(off**2, variance, where=known, out=np.zeros_like(variance))
        return np.asarray(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def usable(flux: NDArray[np.floating], ivar: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Pixels that count, shape (n, m): with data, and no far noisier than the others."""
    known = has_data(flux, ivar)
    inverse = np.where(known, ivar, np.nan)
    middle = np.zeros(len(ivar))
    some = known.any(axis=1)
    middle[some] = np.nanmedian(inverse[some], axis=1)
    return np.asarray(known & (np.where(known, ivar, 0.0) > _WEAK * middle[:, None]))


def _shares(seen: NDArray[np.bool_]) -> Array:
    return np.stack([part.mean(axis=1) for part in np.array_split(seen, PARTS, axis=1)], axis=1)
