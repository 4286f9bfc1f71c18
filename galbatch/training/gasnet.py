"""Training on simulated spectra: templates, the network of subclasses, and calibrated errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.errors import SpecError
from galbatch.mock.at_rest import galaxies_at_rest, quasars_at_rest, stars_at_rest
from galbatch.mock.spectra import Observing, spectra_in_chunks
from galbatch.mock.targets import GALAXY, QSO, THIRTEEN, of_every_subclass
from galbatch.models.base import Card, survey_record
from galbatch.models.chi2_scan import save_bases
from galbatch.models.gasnet import NETWORK, VERSION
from galbatch.models.gasnet_encoder import VECTORS, Encoder
from galbatch.models.gasnet_redshifts import extragalactic
from galbatch.models.runtime import OnnxNetwork
from galbatch.quality.calibration import fit_softmax_scale
from galbatch.sample.rows import columns_digest
from galbatch.spec.spectral_models import GasnetModel
from galbatch.spectra import anomalies
from galbatch.spectra.clean import cleaned, signal_to_noise
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.errors import ErrorModel, calibrate, to_json
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.learn import learned_basis, non_negative_basis
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.scan import ScanResult, ScanSettings, scan
from galbatch.spectra.subclasses import folded
from galbatch.spectra.templates import Basis, star_bases
from galbatch.training.base import OnEpoch, Trainer, TrainingData, save_curves
from galbatch.training.gasnet_encoder import fitted_encoder
from galbatch.training.gasnet_fit import Lesson, as_they_are, fit_network
from galbatch.training.gasnet_redshifts import answers_of, fitted_redshifts, redshift_errors
from galbatch.training.libraries import libraries

SUBCLASSES = tuple(f"{kind} {subclass}".strip() for kind, subclass in THIRTEEN)
"""What the network tells apart."""
_HELD_OUT = 10
"""Of so many simulated spectra one is not learned from."""


Scanning = Callable[[NDArray[np.float64], NDArray[np.float64]], ScanResult]


class GasnetTrainer(Trainer[GasnetModel]):
    """Learns from simulated spectra."""

    def train(
        self, settings: GasnetModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        reader = SpectrumReader(data.survey)
        bases = learned_bases(settings, reader.grid)
        asked = ScanSettings(degree=settings.polynomial)
        scanning, encoder = _scanning(settings, reader.grid, bases, asked, folder, progress)
        mocks = simulated(settings.mocks, (settings.seed, 4), reader.grid, scanning, progress)
        errors = calibrate(mocks.kind, mocks.z, mocks.z_err, mocks.truth, mocks.seen)
        usual = anomalies.learn_strangeness(mocks.kind, mocks.seen, mocks.strange.T)
        weights, history = fitted_network(settings, reader.grid, mocks, folder, progress)
        save_curves(folder, {NETWORK: history})
        held = mocks.part(_held_out(mocks))
        logits = OnnxNetwork(folder / f"{NETWORK}.onnx")(held.inputs.astype(np.float32))
        scale = fit_softmax_scale(logits, held.label.astype(np.float64))
        right = logits.argmax(axis=1) == held.label
        of_networks: dict[str, ErrorModel] = {}
        if settings.redshift_network:
            more, of_networks = _with_redshifts(
                settings, reader.grid, mocks, logits.argmax(axis=1), folder, progress
            )
            weights = [*weights, *more]
        counts = {"train": len(mocks.label) - len(held.label), "validation": len(held.label)}
        card = Card(
            settings.name, settings.kind, VERSION, data.survey.name, (), reader.inputs, (), {},
            columns_digest(data.table, ()).hexdigest(), {"simulated": counts},
            {
                "bases": save_bases(folder, bases), "scan": asdict(asked),
                "subclasses": list(SUBCLASSES),
            },
            {
                "redshift_errors": to_json(errors), "subclass": scale.to_json(),
                "network_errors": to_json(of_networks), "anomaly": anomalies.to_json(usual),
            },
            {"subclass": {"accuracy": float(right.mean())}},
            settings.training_settings(), survey_record(data.survey), libraries(),
            {"lineage": [dict(data.origin)] if data.origin else []},
        ).sealed([*encoder, *weights, *(base.vectors for base in bases)])  # fmt: skip
        card.save(folder)
        return card


def _scanning(
    settings: GasnetModel,
    grid: LogGrid,
    bases: tuple[Basis, ...],
    asked: ScanSettings,
    folder: Path,
    progress: OnEpoch,
) -> tuple[Scanning, list[NDArray[Any]]]:
    """The scan that the settings ask for, and the weights of its encoder if it has one."""
    if settings.coefficients == "solved":
        return partial(scan, grid=grid, bases=bases, settings=asked), []
    weights = fitted_encoder(settings, grid, bases, (settings.seed, 5), folder, progress)
    return Encoder(folder, grid, bases, asked, np).scan, weights


def learned_bases(settings: GasnetModel, grid: LogGrid) -> tuple[Basis, ...]:
    """Bases of simulated galaxies, quasars and stars.

    Parameters
    ----------
    settings : GasnetModel
    grid : LogGrid
        Of the spectra.

    Returns
    -------
    tuple of Basis
        On pixels in step with the grid.
    """
    galaxies = galaxies_at_rest(settings.at_rest, (settings.seed, 1))
    quasars = quasars_at_rest(settings.at_rest, (settings.seed, 2))
    stars = stars_at_rest(settings.stars, (settings.seed, 3))
    encoded = settings.coefficients == "encoder"
    learn = non_negative_basis if encoded else learned_basis
    learned = [
        learn(f"learned {kind}", kind, one.flux, one.seen, one.grid, VECTORS if encoded else size)
        for kind, one, size in (
            (GALAXY, galaxies, settings.galaxies), (QSO, quasars, settings.quasars),
        )
    ]  # fmt: skip
    names = [str(name) for name in stars.subclass]
    found = (*learned, *star_bases(names, stars.flux, stars.grid))
    return tuple(base.at_phase(grid) for base in found)


def _with_redshifts(
    settings: GasnetModel,
    grid: LogGrid,
    mocks: Simulated,
    place: NDArray[np.intp],
    folder: Path,
    progress: OnEpoch,
) -> tuple[list[NDArray[Any]], dict[str, ErrorModel]]:
    """Fit the networks of redshifts: their weights, and the errors of the subclasses.

    `place` is what the network of subclasses says of those that are held out.
    """
    maker, names = NetworkInput(grid), extragalactic(list(SUBCLASSES))
    held = _held_out(mocks)
    answers = answers_of(mocks.label, mocks.z, mocks.truth, maker, len(names))
    weights = fitted_redshifts(settings, maker, mocks.inputs, answers, held, folder, progress)
    known = mocks.z[held], mocks.truth[held], mocks.seen[held]
    told = np.array(SUBCLASSES)[place]
    return weights, redshift_errors(folder, maker, mocks.inputs[held], told, place, known, names)


@dataclass(frozen=True)
class Simulated:
    """Simulated spectra of one of the 13 subclasses, as the scan finds them.

    Parameters
    ----------
    inputs : ndarray of float16, shape (n, f)
        Of the network: three digits are more than noise leaves, and there are 10,000 numbers.
    label : ndarray of int64, shape (n,)
        Place in `SUBCLASSES`.
    undecided : ndarray of bool, shape (n,)
        Their lines as the noise shows them are those of another subclass.
    kind, subclass : ndarray of str
        That the scan finds.
    z, z_err, truth : ndarray of float64
        Redshift by the scan, its error by the curvature of chi-square, and the true one.
    strange : ndarray of float64, shape (n, 3)
        See `anomalies.numbers_of`.
    seen : ndarray of float64
        Median signal to noise, as `clean.signal_to_noise` has it.
    signal_to_noise : ndarray of float32
        The same of the flux without noise.
    """

    inputs: NDArray[np.float16]
    label: NDArray[np.int64]
    undecided: NDArray[np.bool_]
    kind: NDArray[np.str_]
    subclass: NDArray[np.str_]
    z: NDArray[np.float64]
    z_err: NDArray[np.float64]
    truth: NDArray[np.float64]
    strange: NDArray[np.float64]
    seen: NDArray[np.float64]
    signal_to_noise: NDArray[np.float32]

    def part(self, rows: NDArray[np.bool_]) -> Simulated:
        """Some of them."""
        return Simulated(**{name: values[rows] for name, values in vars(self).items()})


def simulated(
    rows: int,
    seed: tuple[int, ...],
    grid: LogGrid,
    scanning: Scanning,
    progress: OnEpoch,
) -> Simulated:
    """Observe as many simulated objects of every subclass, and scan them.

    Parameters
    ----------
    rows : int
        Those that turn out to be of none of the 13 are left out.
    seed : tuple of int
    grid : LogGrid
    scanning : callable
        The scan of (flux, inverse variance).
    progress : callable

    Returns
    -------
    Simulated
    """
    maker = NetworkInput(grid)
    targets = of_every_subclass(
        np.random.default_rng([*seed, 1]), rows, longest=float(grid.wavelengths[-1])
    )
    # The inputs are by far the most: they are written where they stay.
    inputs = np.empty((rows, maker.size), np.float16)
    parts: list[Simulated] = []
    done = kept = 0
    # Its products are small: threads would wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        for mocks in spectra_in_chunks(targets, grid, (*seed, 2), Observing()):
            flux = mocks.flux.astype(np.float64)
            ivar = cleaned(flux, mocks.ivar.astype(np.float64), grid)
            found = scanning(flux, ivar)
            label = _labels(mocks.kind, mocks.subclass)
            made = Simulated(
                np.empty((len(mocks), 0), np.float16), label,
                label != _labels(mocks.kind, mocks.subclass_measured), found.kind, found.subclass,
                found.z, found.z_err, mocks.redshift, anomalies.numbers_of(found).T,
                signal_to_noise(flux, ivar), mocks.signal_to_noise,
            )  # fmt: skip
            known = label >= 0
            parts.append(made.part(known))
            inputs[kept : kept + known.sum()] = maker(flux, ivar, found.z)[known]
            kept, done = kept + int(known.sum()), done + len(mocks)
            progress(done, rows, "simulated spectra")
    names = set(vars(parts[0])) - {"inputs"}
    others = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Simulated(inputs=inputs[:kept], **others)


def _labels(kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.int64]:
    """Places in `SUBCLASSES`, -1 for others."""
    places = {name: place for place, name in enumerate(SUBCLASSES)}
    found = [places.get(name, -1) for name in folded(kind, subclass).tolist()]
    return np.array(found, np.int64)


def _held_out(mocks: Simulated) -> NDArray[np.bool_]:
    return np.asarray(np.arange(len(mocks.label)) % _HELD_OUT == 0)


def fitted_network(
    settings: GasnetModel, grid: LogGrid, mocks: Simulated, folder: Path, progress: OnEpoch
) -> tuple[list[NDArray[Any]], dict[str, list[float]]]:
    """Fit the network and write it.

    Parameters
    ----------
    settings : GasnetModel
    grid : LogGrid
    mocks : Simulated
    folder : Path
    progress : callable

    Returns
    -------
    tuple
        Its weights, and loss curves by name.

    Raises
    ------
    SpecError
        If a subclass has no spectrum, or the fit diverges.
    """
    from keras.losses import CategoricalCrossentropy

    from galbatch.models.gasnet_networks import build

    known = set(mocks.label.tolist())
    missing = [name for place, name in enumerate(SUBCLASSES) if place not in known]
    if missing:
        raise SpecError(
            f"models.{settings.name}.mocks",
            f"none of {len(mocks.label)} spectra is {missing[0]}",
            "make it more",
        )
    maker, held = NetworkInput(grid), _held_out(mocks)
    lesson = Lesson(
        NETWORK,
        lambda: build(settings, maker, len(SUBCLASSES)),
        CategoricalCrossentropy(from_logits=True),
        settings.learning_rate,
        as_they_are(mocks.inputs),
        np.eye(len(SUBCLASSES), dtype=np.float32)[mocks.label],
        np.flatnonzero(~held),
        np.flatnonzero(held),
    )
    fitted = fit_network(settings, lesson, folder, progress)
    return fitted.weights, fitted.history
