"""What the statistics of this room share: which rows count, and how numbers leave arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def finite(values: ArrayLike) -> Array:
    """The finite values.

    Parameters
    ----------
    values : array, any shape

    Returns
    -------
    array, shape (m,), float64
    """
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def both(predicted: ArrayLike, true: ArrayLike) -> tuple[Array, Array]:
    """The rows in which both are finite.

    Parameters
    ----------
    predicted, true : array, shape (n,)

    Returns
    -------
    tuple of array, shape (m,), float64
    """
    given, truth = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if given.shape != truth.shape:
        raise ValueError(f"{given.shape} predicted values for {truth.shape} true ones")
    known = np.isfinite(given) & np.isfinite(truth)
    return given[known], truth[known]


def numbers(values: Array) -> tuple[float, ...]:
    """As plain numbers, for a frozen value.

    Parameters
    ----------
    values : array, shape (n,)

    Returns
    -------
    tuple of float, length n
    """
    return tuple(float(value) for value in values)
