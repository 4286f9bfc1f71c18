"""The networks of Cacho (2020), as a reference to compare against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.flux.bands import BandReader, photometry_and_shapes
from galbatch.flux.clean import thesis_clean
from galbatch.flux.columns import has, numbers, vectors
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.flags import Quality
from galbatch.models.runtime import Network, open_network
from galbatch.spec.job import StandardClean, ThesisModel
from galbatch.spec.survey import Survey
from galbatch.targets import RECORDS
from galbatch.values import PredictedColumn, Target

VERSION = 1
_BATCH = 4096
# Bytes of a row on its way through the networks, and of what comes out.
_ROW_BYTES = 2**13

COLUMNS: Mapping[Target, PredictedColumn] = {
    target: PredictedColumn(
        record.judged.point, "float32", record.unit, record.point_ucd, record.description
    )
    for target, record in RECORDS.items()
}
"""What each target is predicted as: a point value."""
_QUALITY = PredictedColumn(
    "quality", "int32", "", "meta.code.qual", f"Sum of bits, 0 for none: {Quality.describe()}"
)


def thesis_inputs(survey: Survey) -> tuple[str, ...]:
    """The columns that the networks read, in order; one that is named twice is read twice.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    tuple of str
        The survey's `thesis_inputs`; without them id, position, bands with errors and morphology,
        after the kind of columns that the thesis took.
    """
    if survey.thesis_inputs:
        return survey.thesis_inputs
    sky = (survey.sky.ra, survey.sky.dec) if survey.sky else ()
    columns = survey.photometry.vectors
    photometry = (columns.value, columns.error) if columns else survey.photometry_columns
    names = (survey.id.column, *sky, *photometry, *survey.morphology)
    return tuple(name for name in names if survey.column[name].dtype != "string")


def thesis_matrix(survey: Survey, names: tuple[str, ...], table: pa.Table) -> NDArray[np.float64]:
    """Raw inputs of a table's rows.

    Parameters
    ----------
    survey : Survey
    names : tuple of str
    table : pa.Table
        n rows.

    Returns
    -------
    ndarray, shape (n, i)
        An array-valued column gives one input for each of its values. NaN for a column that the
        table lacks and need not have.
    """
    parts = []
    for name in names:
        length = math.prod(survey.column[name].shape)
        if name not in survey.required and not has(table, name):
            parts.append(np.full((table.num_rows, length), np.nan))
            continue
        several = bool(survey.column[name].shape)
        parts.append(vectors(table, name, length) if several else numbers(table, name)[:, None])
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Transform:
    """How a target's values become what its network learns, and back.

    Parameters
    ----------
    low, high : float
        Range of the training labels.
    power : float
        0.1 for the redshift (appendix A.5), 1 otherwise.
    polynomial : tuple of float
        Correction of predicted to expected values (section 3.3.6): coefficients, lowest power
        first, of the predicted value mapped from (low, high) to (-1, 1), where high powers keep
        their digits; empty for none.

    Notes
    -----
    The appendix defines ``min_max(x) = (x + min) / (max - min)``. A plus sign there leaves [0, 1]
    (and puts the negative absolute magnitudes below zero, where a power has no value); section
    3.3.6 undoes "(x - min) / (max - min)", which is what is used here.
    """

    low: float
    high: float
    power: float = 1.0
    polynomial: tuple[float, ...] = ()

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (n,), target's unit to [0, 1]."""
        scaled = np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.asarray(scaled**self.power)

    def back(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Shape (n,), network's output to the target's unit, without the polynomial."""
        # Below zero a tenth power would rise again.
        share = np.asarray(outputs, np.float64)
        if self.power != 1.0:
            share = np.clip(share, 0.0, None) ** (1.0 / self.power)
        return self.low + (self.high - self.low) * share

    def corrected(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The polynomial of predicted values, held at the ends of the training labels.

        A polynomial of high order says nothing where it was not fitted.
        """
        if not self.polynomial:
            return values
        series = np.polynomial.Polynomial(self.polynomial, domain=(self.low, self.high))
        return np.asarray(series(np.clip(values, self.low, self.high)))

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Transform:
        """The inverse of `to_json`."""
        return cls(**{**record, "polynomial": tuple(record["polynomial"])})


class Thesis:
    """The trained networks, one for each target.

    Parameters
    ----------
    card : Card
    folder : Path
        With the networks.
    settings : ThesisModel
    """

    def __init__(self, card: Card, folder: Path, settings: ThesisModel) -> None:
        self.card = card
        self._folder = folder
        self._survey = Survey.model_validate(card.reading)
        self._settings = settings
        self._names = tuple(card.recipe["inputs"])
        self._transforms = {
            target: Transform.from_json(record)
            for target, record in card.recipe["transforms"].items()
        }
        self._reader = BandReader(self._survey, card.bands, StandardClean(), ())

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts: point values only."""
        return (*(COLUMNS[target] for target in self.card.targets), _QUALITY)

    @cached_property
    def _networks(self) -> dict[Target, Network]:
        def build(target: Target) -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models.thesis_networks import build

            return build(target, self._settings.layout, self.card.recipe["width"])

        return {
            target: open_network(self._folder, target, partial(build, target))
            for target in self.card.targets
        }

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = [
            self._predict(table.slice(start, _BATCH))
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table) -> pa.Table:
        inputs = thesis_clean(thesis_matrix(self._survey, self._names, table), self._settings.clean)
        block = self._reader.block(table)
        blind = ~block.observed.any(axis=1)
        values: dict[str, NDArray[Any]] = {}
        for target, network in self._networks.items():
            outputs = network(inputs)
            if RECORDS[target].is_class:
                value = np.asarray(outputs[:, 1], np.float64)
            else:
                transform = self._transforms[target]
                value = transform.corrected(transform.back(outputs[:, 0]))
            values[COLUMNS[target].name] = np.where(blind, np.nan, value)
        bits = np.where(blind, Quality.NO_PHOTOMETRY.value, 0)
        bits |= np.where(block.saturated, Quality.SATURATED.value, 0)
        if "prob_star" in values:
            bits |= np.where(values["prob_star"] > 0.5, Quality.PROBABLY_STAR.value, 0)
        values["quality"] = bits.astype(np.int32)
        return tabulate(self.columns, values)


class ThesisFamily(Family[ThesisModel]):
    """The networks of the thesis."""

    version = VERSION

    def inputs(self, settings: ThesisModel, survey: Survey) -> tuple[str, ...]:
        """What the networks read, and what tells which rows have photometry; `Family.inputs`."""
        names = (*photometry_and_shapes(survey), *thesis_inputs(survey))
        return tuple(dict.fromkeys(names))

    def training_bytes(self, settings: ThesisModel, survey: Survey) -> int:
        """Of the inputs, before and after cleaning; see `Family.training_bytes`."""
        columns = (survey.column[name] for name in thesis_inputs(survey))
        return 24 * sum(math.prod(column.shape) for column in columns)

    def predicting_bytes(self, settings: ThesisModel, survey: Survey) -> int:
        """Of the layers' outputs; see `Family.predicting_bytes`."""
        return _ROW_BYTES

    def load(self, card: Card, folder: Path, settings: ThesisModel) -> Thesis:
        """See `Family.load`."""
        return Thesis(card, folder, settings)
