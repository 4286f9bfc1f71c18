"""Spectra made ready for fits: weights, and a low polynomial that every fit may add."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from galbatch.arrays import constant, namespace
from galbatch.spectra.clean import has_data
from galbatch.spectra.solve import Factors, pairs


@dataclass(frozen=True, eq=False)
class Weighted:
    """A batch of spectra of n rows and m pixels, without their polynomials.

    The P polynomials are made orthonormal under each row's weights, and taken out of the flux.

    Parameters
    ----------
    weights : array of float64, shape (n, m)
        Inverse variances, 0 where there is no data.
    rest : array, shape (n, 1 + P, m)
        Weight times what the polynomials leave of the flux, then weight times each polynomial.
    flux : array, shape (n, m)
        0 where there is no data.
    chi2 : array, shape (n,)
        Of the polynomials alone.
    none : array, shape (n,)
        Chi-square without any model.
    moments : array, shape (n, P)
        The flux' coefficients of the orthonormal polynomials.
    pixels : array of int64, shape (n,)
        With data.
    lower : array, shape (n, P, P)
        The orthonormal polynomials by those of Legendre.
    """

    weights: Any
    rest: Any
    flux: Any
    chi2: Any
    none: Any
    moments: Any
    pixels: Any
    lower: Any

    def rows(self, part: Any) -> Weighted:
        """Some of the rows."""
        return Weighted(**{name: value[part] for name, value in vars(self).items()})


@lru_cache(maxsize=16)
def polynomials(points: int, degree: int) -> NDArray[np.float64]:
    """Legendre's polynomials of degrees 0 to `degree` along the pixels, (degree + 1, points)."""
    # Of at least one degree, for NumPy, of which none may be wanted.
    table = legendre.legvander(np.linspace(-1, 1, points), max(degree, 0)).T
    return np.ascontiguousarray(table[: degree + 1], dtype=np.float64)


def weigh(flux: Any, ivar: Any, degree: int) -> Weighted:
    """Make spectra ready.

    Parameters
    ----------
    flux, ivar : array, shape (n, m)
        What has no data (see `clean.has_data`) weighs nothing.
    degree : int
        Of the polynomial; -1 for none.

    Returns
    -------
    Weighted
    """
    xp = namespace(flux)
    good = has_data(flux, ivar)
    weights = xp.where(good, ivar, 0.0).astype(xp.float64)
    flux = xp.where(good, flux, 0.0).astype(xp.float64)
    table = constant(xp, polynomials(flux.shape[1], degree), xp.float64)
    lower = _orthonormal(weights, table, degree + 1)
    basis = lower @ table
    weighted = weights[:, None, :] * basis
    moments = (weighted @ flux[:, :, None])[:, :, 0]
    left = flux - (moments[:, None, :] @ basis)[:, 0, :]
    rest = xp.concatenate([(weights * left)[:, None, :], weighted], axis=1)
    chi2, none = (weights * left * left).sum(axis=1), (weights * flux * flux).sum(axis=1)
    pixels = good.astype(xp.int64).sum(axis=1)
    return Weighted(weights, rest, flux, chi2, none, moments, pixels, lower)


def _orthonormal(weights: Any, table: Any, size: int) -> Any:
    """The inverse of the lower triangle of (table w table^T), of shape (n, size, size)."""
    xp = namespace(weights)
    products = [table[row] * table[column] for row, column in pairs(size)]
    if not products:
        return xp.zeros((len(weights), 0, 0), dtype=xp.float64)
    packed = (weights @ xp.stack(products, axis=0).T)[..., None]
    factors = Factors(packed, size)
    rows: list[Any] = []
    for row in range(size):
        unit = [xp.zeros(len(weights), dtype=xp.float64) for _ in range(size)]
        unit[row] = unit[row] + 1.0
        for column in range(row):
            for place in range(column + 1):
                unit[place] = unit[place] - factors.lower[row, column][:, 0] * rows[column][place]
        rows.append(unit)
    scaled = [
        [value * xp.sqrt(factors.inverse[row][:, 0]) for value in rows[row]] for row in range(size)
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in scaled], axis=-2)
