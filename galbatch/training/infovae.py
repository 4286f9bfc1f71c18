"""Training of the InfoVAE of spectra."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.models.base import Card, survey_record
from galbatch.models.infovae import EXPECTED, VERSION, LatentFlag, RestReader
from galbatch.models.runtime import OnnxNetwork
from galbatch.quality.metrics import participation_ratio
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TRAIN, VALIDATION
from galbatch.spec.spectral_models import InfoVaeModel
from galbatch.spectra.filling import FLOOR, Expected, expected_of, positive, weighted_components
from galbatch.spectra.learn import coefficients
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

_EPOCHS = 100
_PARITY_ROWS = 64
_STEP = 256
_LEARNED = 10_000
"""Spectra that what is expected of others is learned from, at most."""
_COMPARED = 2000
"""Latents that are compared with a normal distribution, at most."""

_NORMALISATION = "divided by the root mean square of what mean and components make of the spectrum"
_FILLING = (
    "pixels without data have what mean and components lead to expect by those with data, "
    "the components' coefficients with a normal prior"
)
_WEIGHTS = (
    "1 / (1 / ivar + floor**2) of the divided spectrum: no pixel weighs more than 1 / floor**2, "
    "and one without data nothing"
)


class InfoVaeTrainer(Trainer[InfoVaeModel]):
    """Trains InfoVAEs."""

    def train(
        self, settings: InfoVaeModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        reader = RestReader(data.survey, settings)
        sample = _sample(settings, reader, data)
        sample.expected.save(folder / EXPECTED)
        weights, history, scores = _trained(sample, folder, progress)
        save_curves(folder, {settings.kind: history})
        card = Card(
            name=settings.name,
            kind=settings.kind,
            version=VERSION,
            survey=data.survey.name,
            bands=(),
            inputs=reader.inputs,
            targets=(),
            skipped={},
            data=sample.digest,
            rows={"spectra": sample.counts},
            recipe={
                "grid": asdict(reader.grid), "normalisation": _NORMALISATION,
                "filling": _FILLING, "weights": _WEIGHTS, "floor": FLOOR,
            },
            calibration={},
            metrics={"reconstruction": _reconstruction(sample, folder), "latents": scores},
            spec=settings.training_settings(),
            reading=survey_record(data.survey),
            libraries=libraries(),
            training={
                "lineage": [dict(data.origin)] if data.origin else [],
                "without_latents": sample.refused,
            },
        ).sealed([*weights, *vars(sample.expected).values()])  # fmt: skip
        card.save(folder)
        return card


@dataclass(frozen=True, eq=False)
class _Sample:
    """Spectra that can be used, whole, with weights, both of shape (n, pixels).

    `taught` says which of them teach, and `refused` why others cannot be used, and how many.
    """

    settings: InfoVaeModel
    spectra: NDArray[np.float32]
    weights: NDArray[np.float32]
    taught: NDArray[np.bool_]
    expected: Expected
    refused: dict[str, int]
    digest: str

    @property
    def counts(self) -> dict[str, int]:
        """For the card."""
        return {"train": int(self.taught.sum()), "validation": int((~self.taught).sum())}

    @property
    def drawn(self) -> NDArray[np.intp]:
        """Some of those that teach, not too many."""
        return _some(self.settings, np.flatnonzero(self.taught))

    def centred(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Some spectra, less the mean."""
        return np.asarray(self.spectra[rows] - self.expected.mean, np.float32)


def _sample(settings: InfoVaeModel, reader: RestReader, data: TrainingData) -> _Sample:
    flux, ivar, flags = _at_rest(reader, data.table)
    roles = np.asarray(data.roles)
    good = flags == 0
    taught = np.flatnonzero(good & (roles == TRAIN))
    least = max(2 * settings.components, settings.latents + 1)
    _refuse_few(settings, "train on", len(taught), least, flags)
    drawn = _some(settings, taught)
    shown = flux[drawn].astype(np.float64), ivar[drawn].astype(np.float64)
    bright = positive(*shown)
    dark = flags.copy()
    dark[drawn[~bright]] |= LatentFlag.NO_FLUX
    _refuse_few(settings, "train on", int(bright.sum()), least, dark)
    expected = expected_of(*shown, settings.components)
    spectra, weights, level = _whole(expected, flux, ivar)
    flags |= np.where(good & ~np.isfinite(level), LatentFlag.NO_FLUX, 0)
    good = (flags == 0) & ((roles == TRAIN) | (roles == VALIDATION))
    used = roles[good] == TRAIN
    _refuse_few(settings, "train on", int(used.sum()), least, flags)
    _refuse_few(settings, "validate with", int((~used).sum()), settings.latents + 1, flags)
    refused = {str(flag.name).lower(): int(((flags & flag) != 0).sum()) for flag in LatentFlag}
    digest = columns_digest(data.table, reader.inputs).hexdigest()
    return _Sample(settings, spectra[good], weights[good], used, expected, refused, digest)


def _some(settings: InfoVaeModel, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    order = np.random.default_rng(settings.seed).permutation(len(rows))
    return np.sort(rows[order[:_LEARNED]])


def _at_rest(
    reader: RestReader, table: pa.Table
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    parts = [reader.read(table.slice(start, _STEP)) for start in range(0, table.num_rows, _STEP)]
    flux, ivar = (np.concatenate([part[at].astype(np.float32) for part in parts]) for at in (0, 1))
    return flux, ivar, np.concatenate([part[2] for part in parts])


def _whole(
    expected: Expected, flux: NDArray[np.float32], ivar: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Spectra and weights of `Expected.whole`, in the place of flux and inverse variance."""
    level = np.empty(len(flux))
    for start in range(0, len(flux), _STEP):
        rows = slice(start, start + _STEP)
        found = expected.whole(flux[rows].astype(np.float64), ivar[rows].astype(np.float64))
        flux[rows], ivar[rows], level[rows] = found.spectra, found.weights, found.level
    return flux, ivar, level


def _refuse_few(
    settings: InfoVaeModel, what: str, rows: int, least: int, flags: NDArray[np.int64]
) -> None:
    if rows >= least:
        return
    counts = {str(flag.name).lower(): int(((flags & flag) != 0).sum()) for flag in LatentFlag}
    why = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    raise SpecError(
        f"models.{settings.name}",
        f"{f'{rows} spectra' if rows else 'no spectrum'} with positive flux to {what}, "
        f"expected at least {least}",
        f"of {len(flags)} spectra cannot be used: {why}" if why else "more rows?",
    )


def _trained(
    sample: _Sample, folder: Path, progress: OnEpoch
) -> tuple[list[NDArray[Any]], dict[str, list[float]], dict[str, float]]:
    """Fit the network and write it; its weights, its losses, and what its latents are like."""
    from galbatch.models import infovae_networks as networks
    from galbatch.training.export import export

    fitted = _fit(sample, folder, progress)
    model = networks.build(sample.settings)
    model.set_weights(fitted.weights)
    scores = _latents(sample, networks, model)
    encoder, decoder = networks.with_mean(model, sample.expected.mean)
    some = sample.spectra[sample.taught][:_PARITY_ROWS]
    export(encoder, folder, "encoder", some)
    coded = np.asarray(encoder(some, training=False), np.float32)
    export(decoder, folder, "decoder", coded)
    return [*encoder.get_weights(), *decoder.get_weights()], fitted.history, scores


def _fit(sample: _Sample, folder: Path, progress: OnEpoch) -> Fitted:
    from galbatch.models import infovae_networks as networks
    from galbatch.models.sed_networks import falling_rate
    from galbatch.training.loop import fit

    settings = sample.settings
    epochs = settings.epochs or _EPOCHS

    def compiled(steps: int) -> Any:
        import keras

        model = networks.build(settings)
        rate = falling_rate(settings.learning_rate, steps)
        loss = networks.weighted_squares(settings.pixels)
        model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        return model

    def report(epoch: int, text: str) -> None:
        progress(epoch, epochs, text)

    def both(rows: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        centred = sample.centred(rows)
        return centred, np.concatenate([centred, sample.weights[rows]], axis=1)

    shown, wanted = both(sample.taught)
    facts = [VERSION, sample.digest, settings.training_settings()]
    return fit(
        compiled,
        TrainingRows(fixed(shown), wanted),
        both(~sample.taught),
        Schedule(settings.batch, epochs, settings.patience, settings.seed),
        folder / WORK,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        f"models.{settings.name}",
        report,
    )


def _latents(sample: _Sample, networks: Any, model: Any) -> dict[str, float]:
    """How near to a normal distribution the latents of validation spectra are.

    `normal_mmd` is the discrepancy of two samples of it that are as large.
    """
    rows = np.flatnonzero(~sample.taught)[:_COMPARED]
    centred = np.asarray(sample.spectra[rows] - sample.expected.mean, np.float32)
    mean, spread = (np.asarray(one) for one in networks.distributions_of(model)(centred))
    rng = np.random.default_rng(sample.settings.seed)
    first, second, third = rng.normal(size=(3, *mean.shape)).astype(np.float32)
    drawn = mean + np.exp(0.5 * spread) * third
    return {
        "mmd": float(networks.discrepancy(drawn, first)),
        "normal_mmd": float(networks.discrepancy(second, first)),
        "divergence": float(np.mean(networks.divergence(mean, spread))),
    }


def _reconstruction(sample: _Sample, folder: Path) -> dict[str, float]:
    """Chi-square per pixel of validation spectra, beside that of as many principal components."""
    watched = ~sample.taught
    encoder, decoder = (OnnxNetwork(folder / f"{name}.onnx") for name in ("encoder", "decoder"))
    coded = encoder(sample.spectra)
    weights = sample.weights[watched]
    pixels = (weights > 0).sum()
    left = decoder(coded[watched]) - sample.spectra[watched]
    drawn = sample.drawn
    away = np.where(sample.weights[drawn] > 0, sample.centred(drawn), 0.0).astype(np.float64)
    vectors = weighted_components(
        away, sample.weights[drawn].astype(np.float64), sample.settings.latents
    )
    centred = sample.centred(watched)
    found = coefficients(vectors, centred, weights)
    rest = centred - found @ vectors
    return {
        "chi2": float((weights * left**2).sum(dtype=np.float64) / pixels),
        "pca_chi2": float((weights * rest**2).sum(dtype=np.float64) / pixels),
        "directions": participation_ratio(coded[sample.taught]),
    }
