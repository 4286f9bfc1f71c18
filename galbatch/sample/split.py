"""Which rows train, which validate, and which are held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas.util import hash_array

from galbatch.errors import SpecError
from galbatch.spec.job import IdSplit, SkySplit, Split
from galbatch.spec.survey import Survey

TRAIN, VALIDATION, TEST = np.int8(0), np.int8(1), np.int8(2)
_DEEPEST = 29
# 2**64 / golden ratio: seeds that differ by one start far apart.
_SPREAD = 0x9E3779B97F4A7C15


def default_split(survey: Survey) -> Split:
    """By sky cell, or by id for a survey without positions."""
    return SkySplit() if survey.sky else IdSplit()


def roles(split: Split, healpix_29: ArrayLike | None, ids: ArrayLike) -> NDArray[np.int8]:
    """The role of each row: it depends on that row alone, not on the others.

    Parameters
    ----------
    split : SkySplit or IdSplit
    healpix_29 : array of int64, shape (n,), or None
        Nested HEALPix pixel of order 29; None for a survey without positions.
    ids : array, shape (n,)
        Integers or strings.

    Returns
    -------
    ndarray, shape (n,), int8
        `TRAIN`, `VALIDATION` or `TEST`. A sky cell is whole on one side.

    Raises
    ------
    SpecError
        If the shares leave nothing to train on, or a sky split has no positions.
    """
    if split.test + split.validation >= 1:
        raise SpecError(
            "split",
            f"test {split.test:g} and validation {split.validation:g} leave nothing to train on",
        )
    if isinstance(split, SkySplit):
        if healpix_29 is None:
            raise SpecError("split", "this survey has no positions", "use 'kind: id'")
        unit = np.asarray(healpix_29, np.int64) >> 2 * (_DEEPEST - split.order)
    else:
        unit = np.asarray(ids)
        if not np.issubdtype(unit.dtype, np.integer):
            unit = unit.astype(object)
    share = _uniform(unit, split.seed)
    result = np.full(share.size, TRAIN)
    result[share < split.test + split.validation] = VALIDATION
    result[share < split.test] = TEST
    return result


def _uniform(unit: NDArray[np.generic], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each value, from its hash and the seed."""
    start = np.uint64(seed * _SPREAD % 2**64)
    hashed = hash_array(hash_array(unit, categorize=False) ^ start)
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
