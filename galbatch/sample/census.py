"""What training must know about the catalogue besides the labelled rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from galbatch.flux.columns import numbers
from galbatch.sample.labels import labels, meets
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TEST
from galbatch.spec.labels import Label
from galbatch.spec.survey import Survey
from galbatch.values import QSO, STAR, TARGETS, Target

SAMPLE_ROWS = 50_000
"""Random rows that stand for the whole catalogue: enough for the shape of its magnitude counts."""


@dataclass(frozen=True)
class Census:
    """The catalogue around the labelled rows.

    Parameters
    ----------
    sample : pa.Table
        Random rows of it, labelled or not, none of them held out: columns that a model reads.
    refused : mapping of Target to int
        Rows whose label is there but is not taken; see `refusals`.
    """

    sample: pa.Table
    refused: Mapping[Target, int]

    def fingerprint(self, columns: Sequence[str]) -> str:
        """SHA-256 of some columns of the sample."""
        return columns_digest(self.sample, columns).hexdigest()


def take_census(survey: Survey, table: pa.Table, roles: ArrayLike, seed: int) -> Census:
    """The census of a catalogue that is in memory as a whole.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        n rows.
    roles : array, shape (n,), int8
    seed : int

    Returns
    -------
    Census
    """
    kept = np.asarray(roles) != TEST
    table = table.filter(pa.array(kept))
    if table.num_rows > SAMPLE_ROWS:
        drawn = np.random.default_rng(seed).permutation(table.num_rows)[:SAMPLE_ROWS]
        sample = table.take(pa.array(np.sort(drawn)))
    else:
        sample = table
    return Census(sample, refusals(survey, table))


def refusals(survey: Survey, table: pa.Table) -> dict[Target, int]:
    """How many rows state a value for a target that cannot be one.

    Parameters
    ----------
    survey : Survey
    table : pa.Table
        n rows.

    Returns
    -------
    dict of Target to int
        For the targets that are numbers: values that are infinite or outside the range that the
        survey gives, of rows that meet the label's conditions and are not known as stars or
        quasars. A null or NaN states nothing.
    """
    found: dict[Target, int] = {}
    known = labels(survey, table).get("star")
    # Values in these columns of a star or a quasar are no labels.
    galaxies = np.ones(table.num_rows, bool) if known is None else ~np.isin(known, (STAR, QSO))
    for target in TARGETS:
        label = survey.labels.of(target)
        if not isinstance(label, Label) or label.column not in table.column_names:
            continue
        said = [one for one in label.where if one.column in table.column_names]
        values = numbers(table, label.column)
        low, high = label.low, label.high
        if label.scale == "log10":
            # A mass of zero or less is below any lower limit.
            low, high = 10.0**low, 10.0**high
        outside = (values < low) | (values > high)
        found[target] = int((outside & galaxies & meets(said, table)).sum())
    return found


def added(parts: Iterable[Mapping[Target, int]]) -> dict[Target, int]:
    """Sums of several counts."""
    total: dict[Target, int] = {}
    for part in parts:
        for target, number in part.items():
            total[target] = total.get(target, 0) + number
    return total
