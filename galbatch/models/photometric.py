"""The default family: one trunk over cleaned fluxes, a head for each target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from galbatch.arrays import download, namespace, rows_at_once, worker_namespace
from galbatch.errors import SpecError
from galbatch.flux.bands import BandReader, choose_bands, photometry_and_shapes
from galbatch.flux.features import FeatureRecipe, features
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.flags import Quality
from galbatch.models.heads import (
    CellsHead,
    DecodeSettings,
    Head,
    decode,
    head_from_json,
    scattered_names,
)
from galbatch.models.heads.cells import DENSITY
from galbatch.models.monte_carlo import SHARES, scatter, scatter_columns
from galbatch.models.novelty import Novelty
from galbatch.models.runtime import Network, open_network
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.values import FluxBlock, PredictedColumn

VERSION = 4
NETWORK = "network"
# The memory of a prediction on a CPU is that of so many rows, beside the result.
_BATCH = 4096
# Bytes of a row: of a band's flux, error and flags; of a band's features; of the outputs of two
# networks of 900 cells.
_CLEAN_BYTES = 10
_FEATURE_BYTES = 24
_OUTPUT_BYTES = 2**13

_ALWAYS = (
    PredictedColumn(
        "ood", "float32", "", "stat.value",
        "Distance to the training sample; above 1 for 0.5 % of objects like it",
    ),
    PredictedColumn(
        "quality", "int32", "", "meta.code.qual", f"Sum of bits, 0 for none: {Quality.describe()}"
    ),
)  # fmt: skip


class Photometric:
    """A trained model of the default family.

    Parameters
    ----------
    card : Card
    folder : Path
        With its network.
    settings : PhotometricModel
        Those it was trained by, and what is asked of its predictions.

    Raises
    ------
    SpecError
        If a grid of redshifts is asked for and it does not predict the redshift.
    """

    def __init__(self, card: Card, folder: Path, settings: PhotometricModel) -> None:
        self.card = card
        self._folder = folder
        self._settings = settings
        survey = Survey.model_validate(card.reading)
        self._reader = BandReader.of(settings, survey, card.bands)
        self._features = FeatureRecipe.from_json(card.recipe["features"])
        self._heads = tuple(head_from_json(head) for head in card.recipe["heads"])
        self._novelty = Novelty.from_json(card.recipe["novelty"])
        grid = settings.redshift_grid
        if grid is not None and not any(isinstance(head, CellsHead) for head in self._heads):
            raise SpecError(f"model '{card.name}'", "has no redshift to give a density of")
        redshifts = np.linspace(grid.low, grid.high, grid.points).tolist() if grid else ()
        self._decoding = DecodeSettings(survey.odds_width, tuple(redshifts))
        self._networks: dict[str, Network] = {}

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts."""
        found: tuple[PredictedColumn, ...] = ()
        for head in self._heads:
            found += head.columns(self._decoding)
            if self._settings.monte_carlo:
                found += scatter_columns(head)
        return found + _ALWAYS

    def _network(self, xp: Any) -> Network:
        """The network where arrays of a namespace are; read when it is first wanted."""

        def build() -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models.network import Architecture, build

            return build(Architecture(**self.card.recipe["network"]), self._heads)

        if xp.__name__ not in self._networks:
            self._networks[xp.__name__] = open_network(self._folder, NETWORK, build, xp)
        return self._networks[xp.__name__]

    def _rows_at_once(self, xp: Any) -> int:
        shape = self.card.recipe["network"]
        outputs = 4 * shape["members"] * shape["outputs"]
        return rows_at_once(xp, max(outputs, _predicting_bytes(self._settings)), _BATCH)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        xp = worker_namespace()
        size = self._rows_at_once(xp)
        parts = [
            self._predict(table.slice(start, size), xp)
            for start in range(0, max(table.num_rows, 1), size)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table, xp: Any) -> pa.Table:
        if table.num_rows == 1:
            # NumPy adds up a single column in another order than many: other last bits.
            return self._predict(pa.concat_tables([table, table]), xp).slice(0, 1)
        block, shapes = self._reader.read(table, xp, self._reader.shapes(table))
        inputs, network = features(self._features, block, shapes), self._network(xp)

        def ask(fluxes: FluxBlock) -> Any:
            seen = inputs if fluxes is block else features(self._features, fluxes, shapes)
            return network(seen)

        outputs, calibration = ask(block), self.card.calibration
        magnitude = self._reader.magnitude(block)
        values = decode(outputs, self._heads, calibration, magnitude, self._decoding)
        if draws := self._settings.monte_carlo:
            seed = self._settings.seed
            values |= scatter(ask, block, outputs, self._heads, calibration, draws, seed)
        values["ood"] = self._novelty.score(inputs)
        blind = ~block.observed.any(axis=1)
        for column in values.values():
            xp.copyto(column, xp.nan, where=blind.reshape(-1, *[1] * (column.ndim - 1)))
        values["quality"] = _quality(block, values, self._heads)
        wanted = {column.name: values[column.name] for column in self.columns}
        return tabulate(self.columns, download(wanted))


class PhotometricFamily(Family[PhotometricModel]):
    """The default family."""

    version = VERSION

    @property
    def optional_columns(self) -> frozenset[str]:
        """The columns of scatter, and the density on a grid."""
        scattered = {f"{name}_{share}" for name in scattered_names() for share in SHARES}
        return frozenset(scattered | {DENSITY})

    def check(self, settings: PhotometricModel, survey: Survey) -> None:
        """Bands, and an E(B-V) where dust is to be corrected for; see `Family.check`."""
        where = f"models.{settings.name}"
        choose_bands(settings.bands, survey, where)
        if settings.clean.extinction and survey.extinction is None:
            raise SpecError(
                f"{where}.clean.extinction",
                f"survey '{survey.name}' has no E(B-V) column",
                "name it as 'extinction' in the survey's file",
            )

    def inputs(self, settings: PhotometricModel, survey: Survey) -> tuple[str, ...]:
        """All that is said of a row's photometry and shape; see `Family.inputs`."""
        return photometry_and_shapes(survey)

    def needed(self, settings: PhotometricModel, survey: Survey) -> dict[str, str]:
        """The E(B-V), where dust is to be corrected for; see `Family.needed`."""
        if not settings.clean.extinction or survey.extinction is None:
            return {}
        return {survey.extinction: "clean.extinction"}

    def training_bytes(self, settings: PhotometricModel, survey: Survey) -> int:
        """Of what a row is made into; see `Family.training_bytes`.

        Fluxes, errors and flags of all rows and of those that train; the features of those that
        validate, a quarter at most, for the network's own copy too, and what it says of them. The
        others' features are made a few steps at a time.
        """
        bands = len(survey.bands)
        return 2 * _CLEAN_BYTES * bands + (2 * _FEATURE_BYTES * bands + _OUTPUT_BYTES) // 4

    def predicting_bytes(self, settings: PhotometricModel, survey: Survey) -> int:
        """Of the network's outputs, and of p(z) on a grid; see `Family.predicting_bytes`."""
        return _predicting_bytes(settings)

    def load(self, card: Card, folder: Path, settings: PhotometricModel) -> Photometric:
        """See `Family.load`."""
        return Photometric(card, folder, settings)


def _predicting_bytes(settings: PhotometricModel) -> int:
    grid = settings.redshift_grid
    return _OUTPUT_BYTES + (4 * grid.points if grid else 0)


def _quality(block: FluxBlock, values: Mapping[str, Any], heads: tuple[Head, ...]) -> Any:
    xp = namespace(block.flux)
    seen = block.observed.sum(axis=1)
    bits = {
        Quality.NO_PHOTOMETRY: seen == 0,
        Quality.FEW_BANDS: (seen > 0) & (2 * seen < block.observed.shape[1]),
        Quality.SATURATED: block.saturated,
        Quality.UNDETECTED: (seen > 0) & ~block.detected.any(axis=1),
        Quality.OUTSIDE_TRAINING: values["ood"] > 1,
    }
    for head in heads:
        bits |= head.flags(values)
    total = xp.zeros(len(block), xp.int32)
    for flag, holds in bits.items():
        total |= xp.where(holds, xp.int32(flag.value), xp.int32(0))
    return total
