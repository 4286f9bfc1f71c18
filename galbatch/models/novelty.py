"""How far an object is from what the model was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from galbatch.arrays import constant, namespace, parts

_CENTRES = 64
_FIT_ROWS = 20_000
_PERCENTILE = 99.5
_ROWS = 1024
# Of the squares that a distance is made of: more than float32 loses of a product of 400 features.
_MARGIN = 5e-5


@dataclass(frozen=True)
class Novelty:
    """Distance to the training sample in standardised feature space.

    Parameters
    ----------
    centres : tuple of tuple of float
        Cluster centres of the training rows (k-means), shape (c, f).
    reach : float
        99.5th percentile of the distance of validation rows to their nearest centre.
    """

    centres: tuple[tuple[float, ...], ...]
    reach: float

    def score(self, features: Any) -> Any:
        """Distance to the nearest centre over `reach`.

        Parameters
        ----------
        features : array, shape (n, f), float32

        Returns
        -------
        array, shape (n,), float32
            Above 1 for 0.5 % of rows like the training sample, and for rows unlike it.
        """
        xp = namespace(features)
        centres = constant(xp, self.centres, xp.float32)
        squares = xp.square(centres).sum(axis=1)
        found = xp.full(len(features), xp.inf, xp.float32)
        for part in parts(xp, len(features), _ROWS):
            rows = features[part]
            near = squares - 2 * (rows @ centres.T)
            size = xp.square(rows).sum(axis=1) + squares.max()
            # A matrix product's last bits depend on a row's place and on the threads, which a flag
            # must not: it only says which centres can be the nearest.
            limit = near.min(axis=1) + xp.float32(_MARGIN) * size
            row, centre = xp.nonzero(near <= limit[:, None])
            squared = xp.square(rows[row] - centres[centre]).sum(axis=1)
            xp.minimum.at(found, part.start + row, squared)
        return xp.sqrt(found) / xp.float32(self.reach)

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return {"centres": [list(row) for row in self.centres], "reach": self.reach}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Novelty:
        """The inverse of `to_json`."""
        return cls(tuple(tuple(row) for row in record["centres"]), record["reach"])


def learn_novelty(
    training: NDArray[np.float32], validation: NDArray[np.float32], seed: int
) -> Novelty:
    """Cluster centres of training rows, and how far validation rows are from them.

    Parameters
    ----------
    training, validation : ndarray, shape (n, f)
        Features.
    seed : int

    Returns
    -------
    Novelty
    """
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(training))[:_FIT_ROWS]
    count = max(1, min(_CENTRES, len(rows) // 20))
    sample = training[np.sort(rows)].astype(np.float64)
    start = np.unique(sample[generator.permutation(len(sample))[:count]], axis=0)
    with warnings.catch_warnings():
        # An empty cluster keeps the centre it had, which is as good a centre as any.
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        centres, _ = kmeans2(sample, start, iter=20, minit="matrix", missing="warn")
    found = Novelty(tuple(tuple(float(f"{x:.6g}") for x in row) for row in centres), 1.0)
    reach = float(np.percentile(found.score(validation), _PERCENTILE))
    return Novelty(found.centres, max(reach, 1e-6))
