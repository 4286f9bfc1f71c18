"""Weights that make labelled rows stand for the catalogue that they are a bright part of."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from galbatch.values import FluxBlock

_GROUPS = 5
# Labels are matched only where their magnitudes are told from the catalogue's by more than this:
# a large sample is significantly different from any other, which by itself is no harm.
_DISTANCE = 0.1
_NEIGHBOURS = 16
_TREE_ROWS = 50_000
_RANGE = (0.1, 10.0)


@dataclass(frozen=True)
class Matching:
    """Weights of one target's labelled rows.

    Parameters
    ----------
    weights : ndarray, shape (n,), float32
        Mean 1 over the labelled rows; 1 for the others, which have no loss.
    distance : float
        Largest difference between the cumulative magnitude counts of the labelled rows and of the
        catalogue (Kolmogorov-Smirnov).
    effective : float
        Rows of equal weight that would say as much: ``sum(w)**2 / sum(w**2)`` (Kish 1965).
    """

    weights: NDArray[np.float32]
    distance: float
    effective: float

    def to_json(self) -> dict[str, float]:
        """For the card."""
        return {"distance": self.distance, "effective_rows": self.effective}


def colours(
    block: FluxBlock, wavelengths: NDArray[np.float64], magnitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The space in which labelled rows are compared with the catalogue.

    Parameters
    ----------
    block : FluxBlock
        n rows, NumPy.
    wavelengths : ndarray, shape (b,)
        Of its bands.
    magnitude : ndarray, shape (n,)
        In the reference band; NaN where it is not detected.

    Returns
    -------
    ndarray, shape (n, g)
        The magnitude, and the colours between the mean fluxes of up to five groups of
        neighbouring bands: density ratios in fifty dimensions are noise. NaN where unknown.
    """
    order = np.argsort(wavelengths, kind="stable")
    seen = np.where(block.observed, block.flux, np.nan)
    error = np.where(block.observed, block.error, np.nan)
    broad = []
    for group in np.array_split(order, min(_GROUPS, order.size)):
        number = np.isfinite(seen[:, group]).sum(axis=1)
        flux = np.nansum(seen[:, group], axis=1) / np.maximum(number, 1)
        soft = np.nanmedian(error[:, group]) if number.any() else 1.0
        # Softened by the noise: of fainter groups a colour would be random.
        asinh = np.where(number > 0, np.arcsinh(flux / (2 * soft)), np.nan)
        broad.append(1.0857 * asinh)
    steps = [bluer - redder for bluer, redder in itertools.pairwise(broad)]
    return np.stack([magnitude, *steps], axis=1)


def distance(labelled: NDArray[np.float64], catalogue: NDArray[np.float64]) -> float:
    """How much brighter labelled rows are than their catalogue.

    Parameters
    ----------
    labelled, catalogue : ndarray, shape (n,), (m,)
        AB magnitudes in the reference band; NaN where it is not detected.

    Returns
    -------
    float
        Largest difference between the cumulative counts (Kolmogorov-Smirnov); 0 where that is too
        little to matter, the labels are fainter, or there are too few rows to tell.
    """
    from scipy.stats import ks_2samp

    bright, all_ = (values[np.isfinite(values)] for values in (labelled, catalogue))
    if min(bright.size, all_.size) <= _NEIGHBOURS or np.median(bright) >= np.median(all_):
        return 0.0
    found = float(ks_2samp(bright, all_, method="asymp").statistic)
    return found if found > _DISTANCE else 0.0


def match(
    labelled: NDArray[np.float64],
    known: NDArray[np.bool_],
    catalogue: NDArray[np.float64],
    seed: int,
) -> Matching | None:
    """Weights with which labelled rows are distributed like the catalogue.

    Parameters
    ----------
    labelled : ndarray, shape (n, g)
        Of the training rows, from `colours`.
    known : ndarray, shape (n,), bool
        Which of them have the label.
    catalogue : ndarray, shape (m, g)
        Of random rows of the catalogue.
    seed : int

    Returns
    -------
    Matching or None
        None where the labels are not brighter than the catalogue: there is nothing to
        correct then, and weights would only cost effective rows.

    Notes
    -----
    Nearest-neighbour density ratios of Lima et al. (2008, MNRAS 390, 118): in the volume that
    holds the k nearest labelled rows, how many rows of the catalogue are there? Clipped to a
    factor of ten either way, so that no row becomes the sample.
    """
    rows = np.flatnonzero(known & np.isfinite(labelled[:, 0]))
    target = catalogue[np.isfinite(catalogue[:, 0])]
    away = distance(labelled[rows, 0], target[:, 0])
    if not away:
        return None
    generator = np.random.default_rng(seed)
    told = np.isfinite(target).any(axis=0)
    target = target[:, told]
    scale = _scale(target)
    points, aims = (_filled(part, target) / scale for part in (labelled[rows][:, told], target))
    aims = _some(aims, generator)
    base = _some(points, generator)
    # One more neighbour, since the nearest one of a row in the tree is the row itself.
    reach = cKDTree(base).query(base, k=_NEIGHBOURS + 1)[0][:, -1]
    found = cKDTree(aims).query_ball_point(base, reach, return_length=True)
    ratio = (found / len(aims)) / (_NEIGHBOURS / len(base))
    if len(base) < len(points):
        ratio = ratio[cKDTree(base).query(points)[1]]
    ratio = np.clip(ratio / ratio.mean(), *_RANGE)
    ratio /= ratio.mean()
    weights = np.ones(len(labelled), np.float32)
    weights[rows] = ratio
    return Matching(weights, away, float(np.square(ratio.sum()) / np.square(ratio).sum()))


def _some(points: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """A random sample of so many that trees stay small."""
    if len(points) <= _TREE_ROWS:
        return points
    return points[np.sort(generator.permutation(len(points))[:_TREE_ROWS])]


def _scale(points: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.nanpercentile(points, [16, 84], axis=0)
    spread = (high - low) / 2
    return np.where(spread > 0, spread, 1.0)


def _filled(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unknown colours at the catalogue's usual ones: far from nothing."""
    return np.where(np.isfinite(points), points, np.nanmedian(target, axis=0))
