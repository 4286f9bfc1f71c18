"""How a survey's flux errors depend on the flux."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from galbatch.values import FluxBlock

_BINS = 40
_FEWEST = 50
_FAINTEST_DETECTED = 0.5


@dataclass(frozen=True)
class NoiseModel:
    """Variance of a band's flux as ``sky + source * f + relative * f**2``.

    Parameters
    ----------
    sky : ndarray, shape (b,)
        Variance without a source, microjansky squared.
    source : ndarray, shape (b,)
        Photon noise of the source, microjansky.
    relative : ndarray, shape (b,)
        Square of the relative error that brightness does not lessen: calibration.
    detection : float
        Signal to noise that hardly any detected flux is below.
    """

    sky: NDArray[np.float64]
    source: NDArray[np.float64]
    relative: NDArray[np.float64]
    detection: float

    def variance(self, flux: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance at a flux.

        Parameters
        ----------
        flux : ndarray, shape (n, b)
            Microjansky; a negative one has the noise of the sky.

        Returns
        -------
        ndarray, shape (n, b)
            Microjansky squared.
        """
        bright = np.maximum(flux, 0).astype(np.float64)
        return np.asarray(self.sky + bright * (self.source + bright * self.relative))


def learn_noise(block: FluxBlock) -> NoiseModel:
    """The noise of each band, from the errors that a catalogue states.

    Parameters
    ----------
    block : FluxBlock
        n rows, NumPy.

    Returns
    -------
    NoiseModel

    Notes
    -----
    Non-negative least squares on the relative deviation of the variance, over the medians of
    bins of equally many rows: single bad errors do not count.
    """
    flux, variance = block.flux.astype(np.float64), np.square(block.error.astype(np.float64))
    terms = np.zeros((3, flux.shape[1]))
    for band in range(flux.shape[1]):
        seen = block.observed[:, band]
        if seen.any():
            terms[:, band] = _fit(flux[seen, band], variance[seen, band])
    detected = block.detected & (block.error > 0)
    ratio = (block.flux / np.where(detected, block.error, 1))[detected]
    lowest = float(np.percentile(ratio, _FAINTEST_DETECTED)) if ratio.size else 0.0
    sky, source, relative = terms
    return NoiseModel(sky, source, relative, max(lowest, 0.0))


def _fit(flux: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of 1, f and f**2."""
    if flux.size < _FEWEST:
        return np.array([np.median(variance), 0.0, 0.0])
    order = np.argsort(flux, kind="stable")
    parts = np.array_split(order, min(_BINS, flux.size // 10))
    f = np.maximum([np.median(flux[part]) for part in parts], 0.0)
    v = np.array([np.median(variance[part]) for part in parts])
    # Terms are scaled to like size: least squares would ignore small ones.
    size = np.array([np.median(v), np.median(v / np.maximum(f, f.max() * 1e-6)), 0.0])
    size[2] = np.median(v / np.maximum(f, f.max() * 1e-6) ** 2)
    size = np.where(size > 0, size, 1.0)
    design = np.stack([np.ones_like(f), f, f**2], axis=1) * size
    found, _ = nnls(design / v[:, None], np.ones_like(v))
    terms = found * size
    # There is always some noise of the sky: at least a small part of that of the faintest rows.
    return np.array([max(terms[0], 1e-3 * v.min()), terms[1], terms[2]])
