"""Spectra at rest as few numbers, and these on a map and in clusters."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import to_numpy as on_host
from galbatch.arrays import upload, worker_namespace
from galbatch.columns import to_numpy
from galbatch.errors import SpecError
from galbatch.maps.som import Scaling, Som
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.runtime import Network, open_network
from galbatch.shown import (
    ClustersTried,
    MapShown,
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
from galbatch.values import PredictedColumn

VERSION = 1
MAPS = "maps.npz"
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
_ROW_BYTES = 2**18
"""What layers hold of a batch, shared by the rows of a partition."""


class SedReader:
    """Spectra on the linear grid of a network, each divided by its flux in a window.

    Parameters
    ----------
    survey : Survey
        With spectra at rest.
    settings : SedAutoencoderModel
    """

    def __init__(self, survey: Survey, settings: SedAutoencoderModel) -> None:
        spectra = survey.spectra
        assert spectra is not None
        self._spectra, self._axis = spectra, np.array(survey.wavelengths)
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
        flux = np.asarray(to_numpy(table[self._spectra.flux]), np.float64)
        ivar = np.asarray(to_numpy(table[self._spectra.ivar]), np.float64)
        moved, weights = self._to_grid.spectra(flux, ivar)
        # The outermost pixels of the grid reach half a pixel further than the axis.
        moved, weights = _ends_filled(moved), _ends_filled(weights)
        low, high = self._window
        inside = (self.grid >= low) & (self.grid <= high)
        level = moved[:, inside].mean(axis=1)
        good = np.isfinite(moved).all(axis=1) & (weights > 0).all(axis=1)
        with np.errstate(invalid="ignore"):
            good &= level > 0
        scaled = np.where(good[:, None], moved, 0.0) / np.where(good, level, 1.0)[:, None]
        return scaled.astype(np.float32), good


def _ends_filled(values: NDArray[np.floating]) -> NDArray[np.float64]:
    found = np.array(values, np.float64)
    found[:, 0], found[:, -1] = found[:, 1], found[:, -2]
    return found


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
        self._networks: dict[tuple[str, str], Network] = {}

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        return (
            PredictedColumn("latent", "float32", "", "stat.value", "Latents of the spectrum",
                            (self._settings.latents,), ("latent_number",)),
            PredictedColumn("reconstruction_mse", "float32", "", "stat.fit.residual",
                            "Mean squared error of the normalised spectrum made of its latents"),
            PredictedColumn("cluster", "int32", "", "meta.code.class",
                            "Cluster of the latents (k-means), -1 for none"),
            PredictedColumn("som_x", "int32", "", "meta.code.class",
                            "Column of the cell on the map, -1 for none"),
            PredictedColumn("som_y", "int32", "", "meta.code.class", "Row of the cell on the map"),
            PredictedColumn("som_error", "float32", "", "stat.error",
                            "Distance from the cell, in spreads of the latents"),
        )  # fmt: skip

    @cached_property
    def _maps(self) -> tuple[Scaling, Som, NDArray[np.float64]]:
        return load_maps(self._folder, self._settings.som)

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
        scaling, som, centres = self._maps
        scaled = scaling(latents)
        cells, _, distance = som.nearest(scaled)
        clusters = nearest_centres(scaled, centres)
        x, y = som.places(cells)
        known = good[:, None]
        values = {
            "latent": np.where(known, latents, np.nan),
            "reconstruction_mse": np.where(good, ((made - spectra) ** 2).mean(axis=1), np.nan),
            "cluster": np.where(good, clusters, -1),
            "som_x": np.where(good, x, -1),
            "som_y": np.where(good, y, -1),
            "som_error": np.where(good, distance, np.nan),
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
            NumberShown("mean squared error", scores["mse"], "of spectra that taught nothing"),
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
        record, shape = self.card.training["som"], self._settings.som
        _, som, centres = self._maps
        return Portrait(
            numbers,
            MapShown(
                np.reshape(record["hits"], shape), np.array(record["u_matrix"]),
                nearest_centres(som.cells, centres).reshape(shape),
                record["quantisation_error"], record["topographic_error"], len(centres),
                tuple(ClustersTried(**one) for one in self.card.training["clusters"]["tried"]),
            ),
        )  # fmt: skip

    def _network(self, name: str, xp: Any) -> Network:
        def built() -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models import sed_networks as networks

            settings = self._settings
            if settings.network == "convolutional":
                part = {"encoder": networks.encoder_of, "decoder": networks.decoder_of}[name]
                return part(networks.build(settings))
            mean, axes = np.zeros(settings.points), np.ones((settings.components, settings.points))
            both = networks.with_components(settings, networks.build_dense(settings), mean, axes)
            return both[name == "decoder"]

        key = name, xp.__name__
        if key not in self._networks:
            self._networks[key] = open_network(self._folder, name, partial(built), xp)
        return self._networks[key]


def nearest_centres(rows: NDArray[np.floating], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """The clusters of scaled latents, shape (n,), by the nearest of their centres."""
    away = ((rows[:, None].astype(np.float64) - centres) ** 2).sum(axis=2)
    return np.asarray(away.argmin(axis=1))


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
        low, high = survey.wavelengths[0], survey.wavelengths[-1]
        if not low < settings.normalise[0] < settings.normalise[1] < high:
            raise SpecError(
                f"{where}.normalise",
                f"expected wavelengths between {low:.0f} and {high:.0f} Angstrom",
            )

    def inputs(self, settings: SedAutoencoderModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        assert survey.spectra is not None
        return (survey.spectra.flux, survey.spectra.ivar)

    def training_bytes(self, settings: SedAutoencoderModel, survey: Survey) -> int:
        """See `Family.training_bytes`."""
        return 3 * 8 * settings.points

    def predicting_bytes(self, settings: SedAutoencoderModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return _ROW_BYTES

    def load(self, card: Card, folder: Path, settings: SedAutoencoderModel) -> SedAutoencoder:
        """See `Family.load`."""
        return SedAutoencoder(card, folder, settings)


def save_maps(folder: Path, scaling: Scaling, som: Som, centres: NDArray[np.float64]) -> None:
    """Write the map and the clusters of latents.

    Parameters
    ----------
    folder : Path
    scaling : Scaling
        Of the latents.
    som : Som
    centres : ndarray, shape (k, directions)
        Of the clusters, among scaled latents.
    """
    np.savez(
        folder / MAPS, allow_pickle=False, mean=scaling.mean, matrix=scaling.matrix,
        cells=som.cells, centres=centres,
    )  # fmt: skip


def load_maps(folder: Path, shape: tuple[int, int]) -> tuple[Scaling, Som, NDArray[np.float64]]:
    """The inverse of `save_maps`."""
    with np.load(folder / MAPS, allow_pickle=False) as arrays:
        scaling = Scaling(arrays["mean"], arrays["matrix"])
        return scaling, Som(shape, arrays["cells"]), arrays["centres"]
