"""What models with a self-organising map share: its file, and its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError, did_you_mean
from galbatch.maps.som import Scaling, Som
from galbatch.shown import ClustersTried, MapShown, PropertyShown
from galbatch.spec.survey import Survey
from galbatch.values import PredictedColumn

_FILE = "map.npz"


@dataclass(frozen=True, eq=False)
class LearnedMap:
    """A map with clusters.

    Parameters
    ----------
    scaling : Scaling
        From rows to what the map sees.
    som : Som
    centres : ndarray, shape (k, directions)
        Of the clusters, among scaled rows.
    """

    scaling: Scaling
    som: Som
    centres: NDArray[np.float64]

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        np.savez(
            folder / _FILE, allow_pickle=False, mean=self.scaling.mean, matrix=self.scaling.matrix,
            shape=np.array(self.som.shape), cells=self.som.cells, centres=self.centres,
        )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> LearnedMap:
        """The inverse of `save`."""
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            across, along = (int(size) for size in arrays["shape"])
            return cls(
                Scaling(arrays["mean"], arrays["matrix"]),
                Som((across, along), arrays["cells"]),
                arrays["centres"],
            )

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that it predicts by, for a card's seal."""
        return (self.scaling.mean, self.scaling.matrix, self.som.cells, self.centres)

    def places(self, scaled: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cells and clusters of rows as the map sees them, of shape (n, directions)."""
        middles = Som((len(self.centres), 1), self.centres)
        return self.som.nearest(scaled)[0], middles.nearest(scaled)[0]

    def values(
        self, rows: NDArray[np.floating], good: NDArray[np.bool_]
    ) -> dict[str, NDArray[Any]]:
        """Values of `map_columns`.

        Parameters
        ----------
        rows : ndarray, shape (n, d)
        good : ndarray of bool, shape (n,)
            Which of them are on the map; the others are finite, and anything.

        Returns
        -------
        dict of str to ndarray, shape (n,)
        """
        scaled = self.scaling(rows)
        cells, clusters = self.places(scaled)
        away = scaled.astype(np.float64) - self.som.cells[cells]
        distance = np.linalg.norm(away, axis=1)
        x, y = self.som.places(cells)
        found = {"cluster": clusters, "som_x": x, "som_y": y}
        placed: dict[str, NDArray[Any]] = {
            name: np.where(good, values, -1) for name, values in found.items()
        }
        return placed | {"som_error": np.where(good, distance, np.nan)}

    def shown(self, training: Mapping[str, Any]) -> MapShown:
        """It as the report draws it.

        Parameters
        ----------
        training : mapping
            That of the model's card, with what `galbatch.training.maps` has put there.
        """
        record, shape = training["som"], self.som.shape
        _, clusters = self.places(self.som.cells)
        return MapShown(
            np.reshape(record["hits"], shape), np.array(record["u_matrix"]),
            clusters.reshape(shape), record["quantisation_error"], record["topographic_error"],
            len(self.centres), tuple(ClustersTried(**one) for one in training["clusters"]["tried"]),
            tuple(training["properties"]["clusters"]["rows"]),
            _properties(training["properties"], shape),
        )  # fmt: skip


def _properties(record: Mapping[str, Any], shape: tuple[int, int]) -> tuple[PropertyShown, ...]:
    cells, clusters = record["cells"], record["clusters"]
    return tuple(
        PropertyShown(
            name, np.array(median, np.float64).reshape(shape),
            tuple(zip(clusters["median"][name], clusters["spread"][name], strict=True)),
        )
        for name, median in cells["median"].items()
    )  # fmt: skip


def map_columns(of: str) -> tuple[PredictedColumn, ...]:
    """The columns that say where a row is on a map.

    Parameters
    ----------
    of : str
        What is on it, for the descriptions.
    """
    return (
        PredictedColumn("cluster", "int32", "", "meta.code.class",
                        f"Cluster of {of} (k-means), -1 for none"),
        PredictedColumn("som_x", "int32", "", "meta.code.class",
                        "Column of the cell on the map, -1 for none"),
        PredictedColumn("som_y", "int32", "", "meta.code.class",
                        "Row of the cell on the map, -1 for none"),
        PredictedColumn("som_error", "float32", "", "stat.error",
                        f"Distance from the cell, in spreads of {of}"),
    )  # fmt: skip


def check_numbers(survey: Survey, name: str, where: str) -> None:
    """Refuse what is no column of numbers of the survey."""
    if name not in survey.column:
        raise SpecError(
            where,
            f"survey '{survey.name}' has no column '{name}'",
            did_you_mean(name, survey.column),
        )
    if survey.column[name].dtype == "string":
        raise SpecError(where, f"expected columns of numbers, '{name}' holds string")


def check_properties(survey: Survey, names: Iterable[str], where: str) -> None:
    """Refuse what is no column of single numbers of the survey."""
    for name in names:
        check_numbers(survey, name, where)
        if survey.column[name].shape:
            raise SpecError(where, f"expected columns with one number a row, '{name}' has more")
