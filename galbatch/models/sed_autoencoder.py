"""Spectra at rest as few numbers, and these on a map and in clusters."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import to_numpy as on_host
from galbatch.arrays import upload, worker_namespace
from galbatch.errors import SpecError
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.maps import LearnedMap, check_properties, map_columns
from galbatch.models.runtime import KeptNetworks
from galbatch.shown import (
    NumberShown,
    Portrait,
    Role,
    RowShown,
    Showing,
    SpectrumShown,
)
from galbatch.spec.spectral_models import SedAutoencoderModel
from galbatch.spec.survey import Survey
from galbatch.spectra.axis import ToAxis, to_axis
from galbatch.spectra.columns import SpectrumReader
from galbatch.values import PredictedColumn

VERSION = 2
SHOWING = Showing(
    (
        Role("the best reconstruction", "reconstruction_mse", "smallest"),
        Role("a middling reconstruction: the median error", "reconstruction_mse", "median"),
        Role("the worst reconstruction", "reconstruction_mse", "largest"),
        Role("the strangest: the furthest from its cell of the map", "som_error", "largest"),
    ),
    ("cluster",),
)
_BATCH = 512
_BATCH_BYTES = 2**30
"""What layers hold of a batch."""


class SedReader:
    """Spectra on the linear grid of a network, each divided by its flux in a window.

    Parameters
    ----------
    survey : Survey
        With spectra at rest.
    settings : SedAutoencoderModel
    """

    def __init__(self, survey: Survey, settings: SedAutoencoderModel) -> None:
        self._reader, self._axis = SpectrumReader(survey), np.array(survey.wavelengths)
        self.inputs = self._reader.inputs
        """Columns that are read."""
        self._window = settings.normalise
        self.grid = np.linspace(self._axis[0], self._axis[-1], settings.points)

    @cached_property
    def _to_grid(self) -> ToAxis:
        return to_axis(self._axis, self.grid)

    def read(self, table: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Spectra of rows, and which of them can be used.

        Parameters
        ----------
        table : pa.Table
            n rows.

        Returns
        -------
        tuple of ndarray, shapes (n, points) and (n,)
            Zeros where a spectrum cannot be used: a pixel without data, or no flux in the window.
        """
        flux, ivar = self._reader.on_axis(table)
        moved, weights = self._to_grid.spectra(flux, ivar)
        # The outermost pixels of the grid reach half a pixel further than the axis.
        ends = (weights[:, [0, -1]] == 0) & (ivar[:, [0, -1]] > 0)
        for part in (moved, weights):
            part[:, [0, -1]] = np.where(ends, part[:, [1, -2]], part[:, [0, -1]])
        low, high = self._window
        inside = (self.grid >= low) & (self.grid <= high)
        level = moved[:, inside].mean(axis=1)
        good = np.isfinite(moved).all(axis=1) & (weights > 0).all(axis=1)
        with np.errstate(invalid="ignore"):
            good &= level > 0
        scaled = np.where(good[:, None], moved, 0.0) / np.where(good, level, 1.0)[:, None]
        return scaled.astype(np.float32), good


class SedAutoencoder:
    """A trained autoencoder with its map and its clusters.

    Parameters
    ----------
    card : Card
    folder : Path
    settings : SedAutoencoderModel
    """

    def __init__(self, card: Card, folder: Path, settings: SedAutoencoderModel) -> None:
        self.card, self._folder, self._settings = card, folder, settings
        self._reader = SedReader(Survey.model_validate(card.reading), settings)
        self._network = KeptNetworks(folder, self._built)

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        return (
            PredictedColumn("latent", "float32", "", "stat.value", "Latents of the spectrum",
                            (self._settings.latents,), ("latent_number",)),
            PredictedColumn("reconstruction_mse", "float32", "", "stat.fit.residual",
                            "Mean squared error of the normalised spectrum made of its latents"),
            *map_columns("the latents"),
        )  # fmt: skip

    @cached_property
    def _map(self) -> LearnedMap:
        return LearnedMap.load(self._folder)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = [
            self._predict(table.slice(start, _BATCH))
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table) -> pa.Table:
        spectra, good = self._reader.read(table)
        latents, made = self._reconstructed(spectra)
        values = {
            "latent": np.where(good[:, None], latents, np.nan),
            "reconstruction_mse": np.where(good, ((made - spectra) ** 2).mean(axis=1), np.nan),
            **self._map.values(latents, good),
        }
        return tabulate(self.columns, values)

    def _reconstructed(
        self, spectra: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Latents of normalised spectra, and what is made of these."""
        xp = worker_namespace()
        (features,) = upload(xp, spectra)
        coded = self._network("encoder", xp)(features)
        made = on_host(self._network("decoder", xp)(coded))
        return on_host(coded).astype(np.float64), made

    @property
    def showing(self) -> Showing:
        """Rows to look at, and what is counted; see `ShowingModel.showing`."""
        return SHOWING

    def shown(self, table: pa.Table) -> tuple[RowShown, ...]:
        """Spectra and what is made of their latents; see `ShowingModel.shown`."""
        spectra, good = self._reader.read(table)
        _, made = self._reconstructed(spectra)
        found = []
        for row, usable in enumerate(good.tolist()):
            if not usable:
                found.append(RowShown("No data: the row has no numbers.", None))
                continue
            error = float(((made[row] - spectra[row]) ** 2).mean())
            spectrum = SpectrumShown(self._reader.grid, spectra[row], made[row], None, "", "rest")
            said = f"Mean squared error {error:.2e}; {self._settings.latents} latents."
            found.append(RowShown(said, spectrum))
        return tuple(found)

    def portrait(self) -> Portrait:
        """Errors beside those of PCA, and the map; see `ShowingModel.portrait`."""
        scores, latents = self.card.metrics["reconstruction"], self._settings.latents
        numbers = (
            NumberShown(
                "mean squared error", scores["mse"], "of spectra held out; they ended the fit"
            ),
            NumberShown(
                "the same by PCA", scores["pca_mse"],
                f"with as many numbers: {scores['mse'] / scores['pca_mse']:.2g} times as much is "
                "left by the network" if scores["pca_mse"] > 0 else "with as many numbers",
            ),
            NumberShown(
                "directions", scores["directions"],
                f"that the {latents} latents really use (participation ratio)",
            ),
        )  # fmt: skip
        return Portrait(numbers, self._map.shown(self.card.training))

    def _built(self, name: str) -> Any:
        from galbatch.models import sed_networks as networks

        settings = self._settings
        if settings.network == "convolutional":
            part = {"encoder": networks.encoder_of, "decoder": networks.decoder_of}[name]
            return part(networks.build(settings))
        mean, axes = np.zeros(settings.points), np.ones((settings.components, settings.points))
        both = networks.with_components(settings, networks.build_dense(settings), mean, axes)
        return both[name == "decoder"]


class SedAutoencoderFamily(Family[SedAutoencoderModel]):
    """Autoencoders of spectra."""

    version = VERSION
    needs_labels = False

    def check(self, settings: SedAutoencoderModel, survey: Survey) -> None:
        """See `Family.check`."""
        where = f"models.{settings.name}"
        if survey.spectra is None:
            raise SpecError(where, f"survey '{survey.name}' has no 'spectra'")
        if survey.spectra.frame != "rest":
            raise SpecError(
                where, f"the spectra of survey '{survey.name}' are as they were observed",
                "an autoencoder of this kind reads spectra at rest: say frame: rest if they are",
            )  # fmt: skip
        check_properties(survey, settings.properties, f"{where}.properties")
        low, high = survey.wavelengths[0], survey.wavelengths[-1]
        if not low < settings.normalise[0] < settings.normalise[1] < high:
            raise SpecError(
                f"{where}.normalise",
                f"expected wavelengths between {low:.0f} and {high:.0f} Angstrom",
            )

    def inputs(self, settings: SedAutoencoderModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        return (*SpectrumReader(survey).inputs, *settings.properties)

    def training_bytes(self, settings: SedAutoencoderModel, survey: Survey) -> int:
        """See `Family.training_bytes`."""
        return 3 * 8 * settings.points

    def predicting_bytes(self, settings: SedAutoencoderModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return 4 * settings.latents + 64

    def batch_bytes(self, settings: SedAutoencoderModel, survey: Survey) -> int:
        """See `Family.batch_bytes`."""
        return _BATCH_BYTES

    def load(self, card: Card, folder: Path, settings: SedAutoencoderModel) -> SedAutoencoder:
        """See `Family.load`."""
        return SedAutoencoder(card, folder, settings)
