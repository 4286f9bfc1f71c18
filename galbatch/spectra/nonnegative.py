"""Spectra as sums of templates without negative weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]


def nonnegative_weights(
    flux: NDArray[np.floating], ivar: NDArray[np.floating], templates: NDArray[np.floating]
) -> tuple[Array, Array]:
    """The weights, none below 0, whose sum of templates is nearest to each spectrum.

    Lawson & Hanson's active sets (scipy). Where all spectra have the same inverse variances, the
    pixels are first turned into as many numbers as there are templates, once for all.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, m)
        Pixels whose inverse variance is 0 count for nothing; the flux must be finite.
    templates : ndarray, shape (t, m)

    Returns
    -------
    weights : ndarray, shape (n, t)
    chi2 : ndarray, shape (n,)
    """
    weights = np.zeros((len(flux), len(templates)))
    chi2 = np.zeros(len(flux))
    seen = np.sqrt(ivar)
    alike = len(flux) > 1 and len(templates) < flux.shape[1] and bool((ivar == ivar[0]).all())
    if alike:
        turned, matrix = np.linalg.qr((templates * seen[0]).T)
        targets = (flux * seen) @ turned
        beyond = ((flux * seen) ** 2).sum(axis=1) - (targets**2).sum(axis=1)
    for row in range(len(flux)):
        if alike:
            weights[row], left = nnls(matrix, targets[row])
            chi2[row] = left**2 + max(beyond[row], 0.0)
        else:
            weights[row], left = nnls((templates * seen[row]).T, flux[row] * seen[row])
            chi2[row] = left**2
    return weights, chi2
