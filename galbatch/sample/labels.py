"""Known values of the targets, out of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.columns import numbers
from galbatch.spec.labels import Condition, Label, StarLabel
from galbatch.spec.survey import Survey
from galbatch.values import GALAXY, QSO, STAR, TARGETS, Target


def labels(survey: Survey, table: pa.Table) -> dict[Target, NDArray[np.float64]]:
    """The labels of each row.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        n rows. A target whose columns are not all there has no labels.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        NaN where unknown, for every target that the survey names a column for. ``star``: 0 galaxy,
        1 star, 2 quasar. ``log_mass``: log10 of solar masses. What is of galaxies is NaN for stars
        and quasars; the redshift of a quasar is kept where the survey says so.
    """
    found: dict[Target, NDArray[np.float64]] = {}
    for target in TARGETS:
        label = survey.labels.of(target)
        if label is None:
            continue
        values = _classes(label, table) if isinstance(label, StarLabel) else _values(label, table)
        # A condition on a column that the catalogue lacks (a duplicate flag, say) is left out.
        said = [one for one in label.where if one.column in table.column_names]
        values[~meets(said, table)] = np.nan
        found[target] = values
    classes = survey.labels.star
    if classes is not None:
        star, qso = found["star"] == STAR, found["star"] == QSO
        for target, values in found.items():
            if target != "star":
                values[star] = np.nan
                if target != "redshift" or not classes.qso_redshifts:
                    values[qso] = np.nan
    return found


def _classes(label: StarLabel, table: pa.Table) -> NDArray[np.float64]:
    column = _column(table, label.column)
    values = np.full(table.num_rows, np.nan)
    values[np.isin(column, label.galaxy)] = GALAXY
    if label.galaxy_range is not None:
        low, high = label.galaxy_range
        values[(column >= low) & (column <= high)] = GALAXY
    values[np.isin(column, label.star)] = STAR
    values[np.isin(column, label.qso)] = QSO
    return values


def _values(label: Label, table: pa.Table) -> NDArray[np.float64]:
    values = _column(table, label.column)
    if label.scale == "log10":
        positive = values > 0
        values = np.log10(values, out=np.full(values.size, np.nan), where=positive)
    return np.where((values >= label.low) & (values <= label.high), values, np.nan)


def meets(conditions: Sequence[Condition], table: pa.Table) -> NDArray[np.bool_]:
    """Which rows of a table meet all of some conditions; a row that does not say does not."""
    holds = np.ones(table.num_rows, bool)
    for condition in conditions:
        column = _column(table, condition.column)
        if condition.values:
            holds &= np.isin(column, condition.values)
        if condition.low is not None:
            holds &= column >= condition.low
        if condition.high is not None:
            holds &= column <= condition.high
    return holds


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return numbers(table, name)
