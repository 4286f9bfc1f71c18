"""A catalogue's rows on a self-organising map, by any of its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.columns import to_numpy
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.maps import LearnedMap, check_numbers, check_properties, map_columns
from galbatch.shown import Portrait, RowShown, Showing
from galbatch.spec.map_models import SomModel
from galbatch.spec.survey import Survey
from galbatch.values import PredictedColumn

VERSION = 1
_LARGEST = 1e100
PIECE = 8192
"""Rows whose numbers are beside each other in memory at a time."""


def read_numbers(
    table: pa.Table, columns: Sequence[str]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Columns of any shape side by side.

    Parameters
    ----------
    table : pa.Table
        n rows.
    columns : sequence of str
        Scalars, lists and arrays of numbers.

    Returns
    -------
    rows : ndarray, shape (n, d)
        float32 where all columns are, else float64; zeros where one of a row's numbers is missing.
    good : ndarray of bool, shape (n,)
        Rows with all their numbers, none of them so large that its square is none.
    """
    parts: list[NDArray[Any]] = []
    good = np.ones(table.num_rows, bool)
    for name in columns:
        column = table[name]
        values = to_numpy(column).reshape(table.num_rows, -1)
        good &= np.asarray(column.is_valid())
        parts.append(values if values.dtype == np.float32 else values.astype(np.float64))
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    good &= (np.abs(rows) < _LARGEST).all(axis=1)
    return (rows if good.all() else np.where(good[:, None], rows, 0)), good


class SomMap:
    """A trained map.

    Parameters
    ----------
    card : Card
    folder : Path
    settings : SomModel
    """

    def __init__(self, card: Card, folder: Path, settings: SomModel) -> None:
        self.card, self._folder, self._settings = card, folder, settings

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        return map_columns("the row's numbers")

    @cached_property
    def _map(self) -> LearnedMap:
        return LearnedMap.load(self._folder)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = []
        for start in range(0, max(table.num_rows, 1), PIECE):
            rows, good = read_numbers(table.slice(start, PIECE), self._settings.columns)
            parts.append(tabulate(self.columns, self._map.values(rows, good)))
        return pa.concat_tables(parts).combine_chunks()

    @property
    def showing(self) -> Showing:
        """No single row, and how many each cluster has; see `ShowingModel.showing`."""
        return Showing((), ("cluster",))

    def shown(self, table: pa.Table) -> tuple[RowShown, ...]:
        """Nothing of single rows; see `ShowingModel.shown`."""
        return ()

    def portrait(self) -> Portrait:
        """The map; see `ShowingModel.portrait`."""
        return Portrait((), self._map.shown(self.card.training))


class SomFamily(Family[SomModel]):
    """Self-organising maps."""

    version = VERSION
    needs_labels = False
    streams = True

    def check(self, settings: SomModel, survey: Survey) -> None:
        """See `Family.check`."""
        where = f"models.{settings.name}"
        for name in settings.columns:
            check_numbers(survey, name, f"{where}.columns")
        check_properties(survey, settings.properties or (), f"{where}.properties")

    def inputs(self, settings: SomModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        return tuple(dict.fromkeys([*settings.columns, *(settings.properties or ())]))

    def fit_bytes(self, settings: SomModel, survey: Survey) -> int:
        """See `Family.fit_bytes`: products of every two numbers of a row, for every core."""
        numbers = sum(int(np.prod(survey.column[name].shape)) for name in settings.columns)
        return 2**28 + 16 * 8 * numbers**2

    def predicting_bytes(self, settings: SomModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return 64

    def load(self, card: Card, folder: Path, settings: SomModel) -> SomMap:
        """See `Family.load`."""
        return SomMap(card, folder, settings)
