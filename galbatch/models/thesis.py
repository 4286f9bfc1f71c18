"""The networks of Cacho (2020), as a reference to compare against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.polynomial import polyutils
from numpy.typing import NDArray

from galbatch.arrays import download, namespace, rows_at_once, worker_namespace
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

    def back(self, outputs: Any) -> Any:
        """Shape (n,), network's output to the target's unit, without the polynomial; float64."""
        xp = namespace(outputs)
        # Below zero a tenth power would rise again.
        share = outputs.astype(xp.float64)
        if self.power != 1.0:
            share = xp.clip(share, 0.0, None) ** (1.0 / self.power)
        return self.low + (self.high - self.low) * share

    def corrected(self, values: Any) -> Any:
        """The polynomial of predicted values, held at the ends of the training labels.

        A polynomial of high order says nothing where it was not fitted.
        """
        if not self.polynomial:
            return values
        xp = namespace(values)
        offset, scale = polyutils.mapparms((self.low, self.high), (-1.0, 1.0))
        place = offset + scale * xp.clip(values, self.low, self.high)
        *lower, highest = self.polynomial
        # As numpy.polynomial does it, which knows no arrays of a GPU.
        total = highest + place * 0
        for coefficient in reversed(lower):
            total = coefficient + total * place
        return total

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
        self._networks: dict[tuple[str, Target], Network] = {}

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts: point values only."""
        return (*(COLUMNS[target] for target in self.card.targets), _QUALITY)

    def _network(self, target: Target, xp: Any) -> Network:
        """The network of a target where arrays of a namespace are; read when first wanted."""

        def build(target: Target) -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models.thesis_networks import build

            return build(target, self._settings.layout, self.card.recipe["width"])

        key = xp.__name__, target
        if key not in self._networks:
            opened = open_network(self._folder, target, partial(build, target), xp)
            self._networks[key] = opened
        return self._networks[key]

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        xp = worker_namespace()
        size = rows_at_once(xp, _ROW_BYTES, _BATCH)
        parts = [
            self._predict(table.slice(start, size), xp)
            for start in range(0, max(table.num_rows, 1), size)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table, xp: Any) -> pa.Table:
        raw = thesis_matrix(self._survey, self._names, table)
        block, matrix = self._reader.read(table, xp, raw)
        inputs = thesis_clean(matrix, self._settings.clean)
        blind = ~block.observed.any(axis=1)
        values: dict[str, Any] = {}
        for target in self.card.targets:
            outputs = self._network(target, xp)(inputs)
            if RECORDS[target].is_class:
                value = outputs[:, 1].astype(xp.float64)
            else:
                transform = self._transforms[target]
                value = transform.corrected(transform.back(outputs[:, 0]))
            values[COLUMNS[target].name] = xp.where(blind, xp.nan, value)
        bits = xp.where(blind, Quality.NO_PHOTOMETRY.value, 0)
        bits |= xp.where(block.saturated, Quality.SATURATED.value, 0)
        if "prob_star" in values:
            bits |= xp.where(values["prob_star"] > 0.5, Quality.PROBABLY_STAR.value, 0)
        values["quality"] = bits.astype(xp.int32)
        return tabulate(self.columns, download(values))


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
