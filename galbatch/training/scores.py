"""A model's scores on its validation rows, for its card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.quality.classes import class_statistics
from galbatch.quality.distributions import coverage
from galbatch.quality.evaluation import JUDGED
from galbatch.quality.metrics import point_statistics
from galbatch.values import Target

_POINT = ("rows", "bias", "sigma_nmad", "outliers", "rms")
_CLASS = ("rows", "accuracy", "auc", "brier", "calibration_error")


def scores(
    predicted: Mapping[str, Any], truth: Mapping[Target, NDArray[np.float64]]
) -> dict[str, dict[str, float]]:
    """A few numbers for each target.

    Parameters
    ----------
    predicted : mapping of str to array, shape (n,)
        Predicted columns.
    truth : mapping of Target to ndarray, shape (n,)
        NaN where unknown.

    Returns
    -------
    dict of str to dict of str to float
        Numbers that do not exist are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for target, true in truth.items():
        columns = JUDGED[target]
        point = np.asarray(predicted[columns.point], np.float64)
        statistics: Any = (
            class_statistics(point, true)
            if target == "star"
            else point_statistics(point, true, redshift=target == "redshift")
        )
        names = _CLASS if target == "star" else _POINT
        numbers = {name: float(getattr(statistics, name)) for name in names}
        for label, ends in (("coverage68", columns.interval68), ("coverage95", columns.interval95)):
            if ends and ends[0] in predicted:
                known = np.isfinite(true)
                low, high = (np.asarray(predicted[end], np.float64)[known] for end in ends)
                numbers[label] = coverage(true[known], low, high)
        found[target] = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return found
