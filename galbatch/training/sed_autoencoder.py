"""Training of the autoencoder of spectra, and of the map and the clusters of its latents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.flux.columns import numbers
from galbatch.maps.som import Scaling, Som, fit_som, narrowing, scaling_of
from galbatch.models.base import Card, survey_record
from galbatch.models.maps import LearnedMap
from galbatch.models.runtime import OnnxNetwork
from galbatch.models.sed_autoencoder import VERSION, SedReader
from galbatch.quality.metrics import participation_ratio
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TRAIN, VALIDATION
from galbatch.spec.spectral_models import SedAutoencoderModel
from galbatch.training.base import (
    WORK,
    Fitted,
    OnEpoch,
    Schedule,
    Trainer,
    TrainingData,
    save_curves,
)
from galbatch.training.data import TrainingRows, fixed
from galbatch.training.libraries import libraries
from galbatch.training.maps import clustered, map_record, property_record

_EPOCHS = {"convolutional": 50, "dense": 60}
_LEAST_SPREAD = 0.01
"""Of the first component's: others are divided by no less, since rounding errors grow by it."""
_PARITY_ROWS = 64
_STEP = 512


class SedAutoencoderTrainer(Trainer[SedAutoencoderModel]):
    """Trains autoencoders."""

    def train(
        self, settings: SedAutoencoderModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        sample = _sample(settings, data)
        weights, history = _trained(sample, folder, progress)
        save_curves(folder, {settings.network: history})
        coded = _in_steps(OnnxNetwork(folder / "encoder.onnx"), sample.spectra)
        made = _in_steps(OnnxNetwork(folder / "decoder.onnx"), coded)
        scaling = scaling_of([coded[sample.taught]])
        som, maps = _mapped(settings, scaling, coded, sample.taught)
        rows = scaling(coded[sample.taught])
        centres, clusters = clustered(rows, settings.clusters, settings.seed)
        learned = LearnedMap(scaling, som, centres)
        learned.save(folder)
        places = learned.places(scaling(coded))
        card = Card(
            name=settings.name,
            kind=settings.kind,
            version=VERSION,
            survey=data.survey.name,
            bands=(),
            inputs=sample.inputs,
            targets=(),
            skipped={},
            data=sample.digest,
            rows={"spectra": sample.counts},
            recipe={"grid": [float(sample.grid[0]), float(sample.grid[-1]), len(sample.grid)]},
            calibration={},
            metrics=_scores(sample, coded, made),
            spec=settings.training_settings(),
            reading=survey_record(data.survey),
            libraries=libraries(),
            training={
                "lineage": [dict(data.origin)] if data.origin else [],
                "som": maps,
                "clusters": clusters,
                "properties": property_record(learned, *places, sample.properties),
            },
        ).sealed([*weights, *learned.arrays])
        card.save(folder)
        return card


@dataclass(frozen=True)
class _Sample:
    """Spectra that can be used, shape (n, points), and which of them teach."""

    settings: SedAutoencoderModel
    spectra: NDArray[np.float32]
    taught: NDArray[np.bool_]
    grid: NDArray[np.float64]
    inputs: tuple[str, ...]
    digest: str
    where: str
    properties: dict[str, NDArray[np.float64]]

    @property
    def counts(self) -> dict[str, int]:
        """For the card."""
        return {"train": int(self.taught.sum()), "validation": int((~self.taught).sum())}


def _sample(settings: SedAutoencoderModel, data: TrainingData) -> _Sample:
    reader = SedReader(data.survey, settings)
    inputs = reader.inputs
    parts = [
        reader.read(data.table.slice(start, _STEP))
        for start in range(0, data.table.num_rows, _STEP)
    ]
    spectra = np.concatenate([part[0] for part in parts])
    good = np.concatenate([part[1] for part in parts])
    roles = np.asarray(data.roles)
    taught, watched = good & (roles == TRAIN), good & (roles == VALIDATION)
    where = f"models.{settings.name}"
    least = max(settings.clusters, 2)
    for rows, what in ((taught, "train on"), (watched, "validate with")):
        if rows.sum() < least:
            raise SpecError(
                where, f"{int(rows.sum())} spectra to {what}, expected at least {least}",
                "a spectrum counts where it has data from the first wavelength to the last",
            )  # fmt: skip
    used = taught | watched
    digest = columns_digest(data.table, inputs).hexdigest()
    properties = {name: numbers(data.table, name)[used] for name in settings.properties}
    return _Sample(
        settings, spectra[used], taught[used], reader.grid, inputs, digest, where, properties
    )


def _trained(
    sample: _Sample, folder: Path, progress: OnEpoch
) -> tuple[list[NDArray[Any]], dict[str, list[float]]]:
    """Fit the networks and write them; their weights and losses."""
    from galbatch.models import sed_networks as networks
    from galbatch.training.export import export

    settings, spectra = sample.settings, sample.spectra
    taught, watched = spectra[sample.taught], spectra[~sample.taught]
    if settings.network == "dense":
        basis = _Components.of(taught, settings.components)
        loss = networks.weighted_squares(basis.shares)
        rate = settings.learning_rate or 2e-3
        rows = basis(taught), basis(watched)
        falling = partial(networks.falling_rate, rate)
        fitted = _fit(sample, networks.build_dense, rows, loss, falling, folder, progress)
        model = networks.build_dense(settings)
        model.set_weights(fitted.weights)
        encoder, decoder = networks.with_components(settings, model, basis.mean, basis.axes)
    else:
        rate = settings.learning_rate or 1e-3
        rows = taught, watched
        fitted = _fit(sample, networks.build, rows, "mse", lambda _: rate, folder, progress)
        model = networks.build(settings)
        model.set_weights(fitted.weights)
        encoder, decoder = networks.encoder_of(model), networks.decoder_of(model)
    export(encoder, folder, "encoder", taught[:_PARITY_ROWS])
    coded = np.asarray(encoder(taught[:_PARITY_ROWS], training=False), np.float32)
    export(decoder, folder, "decoder", coded)
    return [*encoder.get_weights(), *decoder.get_weights()], fitted.history


def _fit(
    sample: _Sample,
    build: Callable[[SedAutoencoderModel], Any],
    rows: tuple[NDArray[np.float32], NDArray[np.float32]],
    loss: Any,
    rate: Callable[[int], Any],
    folder: Path,
    progress: OnEpoch,
) -> Fitted:
    """Teach a network to give back its rows; by those that are watched the fit ends."""
    from galbatch.training.loop import fit

    settings = sample.settings
    epochs = settings.epochs or _EPOCHS[settings.network]
    taught, watched = rows

    def compiled(steps: int) -> Any:
        import keras

        model = build(settings)
        model.compile(keras.optimizers.Adam(rate(steps)), loss, jit_compile=False)
        return model

    def report(epoch: int, text: str) -> None:
        progress(epoch, epochs, text)

    facts = [VERSION, sample.digest, settings.training_settings()]
    return fit(
        compiled,
        TrainingRows(fixed(taught), taught),
        (watched, watched),
        Schedule(settings.batch, epochs, settings.patience, settings.seed),
        folder / WORK,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        sample.where,
        report,
    )


@dataclass(frozen=True, eq=False)
class _Components:
    """The first principal components of spectra.

    Parameters
    ----------
    mean : ndarray, shape (points,)
    axes : ndarray, shape (components, points)
        Each as long as the spectra spread along it, or as is the least.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, spectra: NDArray[np.float32], components: int) -> _Components:
        """Those of some spectra; what is missing, of too few spectra, is next to zero."""
        mean, strengths, axes = _principal(spectra, components)
        spreads = np.maximum(strengths, _LEAST_SPREAD * strengths[0]) / np.sqrt(len(spectra))
        kept = spreads[:, None] * axes
        missing = components - len(kept)
        least = 1e-12 * np.ones((missing, spectra.shape[1]))
        return cls(mean, np.concatenate([kept, least]) if missing else kept)

    def __call__(self, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much spectra have of each, in units of its spread, shape (n, components)."""
        into = self.axes.T / (self.axes**2).sum(axis=1)
        return np.asarray((spectra - self.mean) @ into, np.float32)

    @property
    def shares(self) -> NDArray[np.float32]:
        """What each adds to the mean squared error."""
        squares = (self.axes**2).sum(axis=1)
        return np.asarray(squares / squares.sum(), np.float32)


def _in_steps(network: OnnxNetwork, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate(
        [network(rows[start : start + _STEP]) for start in range(0, len(rows), _STEP)]
    )


def _mapped(
    settings: SedAutoencoderModel,
    scaling: Scaling,
    coded: NDArray[np.float32],
    taught: NDArray[np.bool_],
) -> tuple[Som, dict[str, Any]]:
    """The map of the latents, and how good it is on spectra that it has not seen."""
    rows, watched = scaling(coded[taught]), scaling(coded[~taught])
    widths = narrowing(*settings.som_width, settings.som_passes)
    plane = np.eye(2, rows.shape[1])
    som = fit_som([lambda: [rows]], settings.som, widths=widths.tolist(), plane=plane)
    return som, map_record(som, som.errors([rows]), som.errors([watched]))


def _scores(
    sample: _Sample, coded: NDArray[np.float32], made: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Errors on validation spectra beside those of as many principal components."""
    watched = ~sample.taught
    spectra = sample.spectra.astype(np.float64)
    mse = float(((made[watched] - spectra[watched]) ** 2).mean())
    return {
        "reconstruction": {
            "mse": mse,
            "pca_mse": _pca_mse(spectra[sample.taught], spectra[watched], sample.settings.latents),
            "directions": participation_ratio(coded[sample.taught]),
        }
    }


def _pca_mse(taught: NDArray[np.float64], watched: NDArray[np.float64], components: int) -> float:
    """The squared error that as many principal components leave."""
    mean, _, axes = _principal(taught, components)
    left = (watched - mean) - ((watched - mean) @ axes.T) @ axes
    return float((left**2).mean())


def _principal(
    rows: NDArray[np.floating], components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The mean of rows, and the strengths and axes of their first principal components."""
    from sklearn.utils.extmath import randomized_svd

    mean = rows.mean(axis=0, dtype=np.float64)
    kept = min(components, *rows.shape)
    _, strengths, axes = randomized_svd(rows - mean, kept, n_iter=7, random_state=0)
    return mean, np.asarray(strengths, np.float64), np.asarray(axes, np.float64)
