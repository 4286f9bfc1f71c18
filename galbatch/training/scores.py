"""A model's scores on its validation rows, for its card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.quality.classes import auc, class_statistics, star_against_galaxy
from galbatch.quality.distributions import coverage
from galbatch.quality.evaluation import of_galaxies
from galbatch.quality.metrics import point_statistics
from galbatch.targets import RECORDS
from galbatch.values import QSO, Target

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
    for target in truth:
        record = RECORDS[target]
        columns, true = record.judged, of_galaxies(target, truth)
        point = np.asarray(predicted[columns.point], np.float64)
        statistics: Any = (
            class_statistics(*star_against_galaxy(predicted, true))
            if record.is_class
            else point_statistics(point, true, redshift=record.is_relative)
        )
        names = _CLASS if record.is_class else _POINT
        numbers = {name: float(getattr(statistics, name)) for name in names}
        if record.is_class and "prob_qso" in predicted:
            is_qso = np.where(np.isnan(true), np.nan, true == QSO)
            numbers["qso_auc"] = auc(predicted["prob_qso"], is_qso)
        for label, ends in (("coverage68", columns.interval68), ("coverage95", columns.interval95)):
            if ends and ends[0] in predicted:
                known = np.isfinite(true)
                low, high = (np.asarray(predicted[end], np.float64)[known] for end in ends)
                numbers[label] = coverage(true[known], low, high)
        found[target] = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return found
