"""Clusters of points, and how much a number of clusters is worth. Imports scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

_STARTS = 10
_SEEDS = 3


@dataclass(frozen=True)
class KDiagnosis:
    """What speaks for a number of clusters.

    Parameters
    ----------
    k : int
    silhouette : float
        Rousseeuw (1987), mean over the rows: 1 for clusters far apart, 0 for a cut through one.
    stability : float
        Adjusted Rand index (Hubert & Arabie 1985) between fits with other seeds: 1 for the same
        clusters every time.
    """

    k: int
    silhouette: float
    stability: float


def cluster_centres(
    rows: NDArray[np.floating], k: int, seed: int, weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Centres of clusters by k-means, the largest cluster first, shape (k, d).

    Parameters
    ----------
    rows : ndarray, shape (n, d)
    k, seed : int
    weights : ndarray, shape (n,), optional
        Of each row; all the same by default.
    """
    found = KMeans(k, n_init=_STARTS, random_state=seed).fit(rows, sample_weight=weights)
    sizes = np.bincount(found.labels_, weights, minlength=k)
    order = np.argsort(-sizes, kind="stable")
    return np.asarray(found.cluster_centers_[order], np.float64)


def diagnose(rows: NDArray[np.floating], numbers: range, seed: int) -> list[KDiagnosis]:
    """Silhouette and stability of some numbers of clusters."""
    found = []
    for k in numbers:
        labels = [KMeans(k, n_init=1, random_state=seed + other).fit(rows).labels_
                  for other in range(_SEEDS)]  # fmt: skip
        same = [adjusted_rand_score(labels[0], other) for other in labels[1:]]
        found.append(KDiagnosis(k, float(silhouette_score(rows, labels[0])), float(np.mean(same))))
    return found
