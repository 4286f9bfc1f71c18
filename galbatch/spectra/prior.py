"""What coefficients of a basis are in nature, learned from spectra without noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.spectra.templates import Basis, Prior

_LEAST = 1e-3
"""Of a spectrum's own root mean square: the first vector's share, to divide by."""


def with_prior(
    basis: Basis,
    spectra: NDArray[np.floating],
    weights: NDArray[np.floating],
    widen: float = 2.0,
) -> Basis:
    """A basis with a Gaussian prior of its coefficients' ratios to the first.

    Parameters
    ----------
    basis : Basis
        Of two vectors at least.
    spectra : ndarray, shape (n, m)
        At rest on the grid of the basis, without noise, at any scale; 2 k of them at least.
    weights : ndarray, shape (n, m)
        Of their pixels, 0 where a survey would not see them: a basis describes what it was made
        from, and no more.
    widen : float
        By how much the prior is wider than the spectra scatter: nature does more than they do.

    Returns
    -------
    Basis

    Raises
    ------
    SpecError
        When the spectra are too few, or the first vector has no part in them.
    """
    size, where = len(basis.vectors), f"basis '{basis.name}'"
    if size < 2 or len(spectra) < 2 * size:
        raise SpecError(
            where,
            f"expected two vectors at least, and twice as many spectra to learn a prior from, "
            f"got {size} and {len(spectra)}",
        )
    roots = np.sqrt(np.asarray(weights, np.float64))
    scale = np.sqrt((roots * roots * spectra * spectra).sum(axis=1) / (roots * roots).sum(axis=1))
    found = np.stack(
        [
            np.linalg.lstsq((basis.vectors * root).T, root * spectrum / size, rcond=None)[0]
            for root, spectrum, size in zip(roots, spectra, scale, strict=True)
        ]
    )
    first = found[:, :1] * np.sqrt((basis.vectors[0] ** 2).mean())
    if not np.all(first > _LEAST):
        raise SpecError(
            where,
            f"{int((first <= _LEAST).sum())} of {len(spectra)} spectra have nothing of the first "
            "vector, which the others are compared with",
            "leave them out",
        )
    ratios = found[:, 1:] / found[:, :1]
    covariance = np.atleast_2d(np.cov(ratios, rowvar=False)) * widen**2
    return replace(basis, prior=Prior(ratios.mean(axis=0), covariance))
