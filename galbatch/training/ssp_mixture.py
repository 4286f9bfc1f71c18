"""Training of networks that take spectra apart into stellar populations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.mock.mixtures import Mixer
from galbatch.mock.sed_library import populations
from galbatch.models.base import Card, survey_record
from galbatch.models.runtime import OnnxNetwork
from galbatch.models.ssp_mixture import (
    EMBEDDING,
    QUANTILES,
    SAMPLER,
    VERSION,
    MixtureReader,
    of_draws,
    parameters_of,
    save_components,
    scaled,
    unscaled,
)
from galbatch.quality.intervals import QuantileScale, quantile_factors
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TEST
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spectra.components import FEWEST, LIGHT
from galbatch.spectra.grids import SDSS_STEP, LogGrid
from galbatch.spectra.mixture_parameters import LEVELS, MixtureParameters
from galbatch.spectra.populations import Populations, read_populations
from galbatch.training.base import (
    WORK,
    Fitted,
    OnEpoch,
    Schedule,
    Trainer,
    TrainingData,
    save_curves,
)
from galbatch.training.data import Mine, TrainingRows
from galbatch.training.libraries import libraries
from galbatch.training.mixture_rows import (
    NoiseOfScores,
    SimulatedMixtures,
    learned_components,
    patterns_of,
    simulated_mixtures,
)

_EPOCHS = 40
_PARITY_ROWS = 64
_CALIBRATING = 4000
"""Rows that intervals are calibrated with, at most, at each of some levels of noise."""
_LEVELS_OF_NOISE = 5
_COMPONENT_ROWS = 6000
"""Mixtures that principal components are taken of, at most."""
_ENDS = 5.0
"""Widths of the broadest lines that are cut off at the library's ends, beside the velocity."""
_HALF_PIXEL = 0.5 * LIGHT * float(np.log(10.0)) * SDSS_STEP

Array = NDArray[np.float64]


class SspMixtureTrainer(Trainer[SspMixtureModel]):
    """Learns from simulated mixtures."""

    def train(
        self, settings: SspMixtureModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        reader = MixtureReader(data.survey, settings)
        library = library_of(settings)
        parameters = parameters_of(settings, limits_of(settings, library))
        mixer, grid = Mixer(library), _grid_at_rest(settings, library, reader.axis)
        rows = min(_COMPONENT_ROWS, settings.mixtures)
        count = settings.spectral_components
        components = learned_components(parameters, mixer, grid, count, rows, settings.seed)
        table = data.table.filter(pa.array(np.asarray(data.roles) != TEST))
        patterns = patterns_of(table, reader, components, settings.signal_to_noise, settings.seed)
        if patterns is None:
            raise SpecError(
                f"models.{settings.name}", f"none of {table.num_rows} rows has a spectrum to take "
                "noise from", "it needs a level above 0 and pixels with data at rest",
            )  # fmt: skip
        noise = NoiseOfScores.of(components, patterns)
        mocks = simulated_mixtures(
            parameters, mixer, reader.axis, noise, settings.mixtures, (settings.seed,), progress
        )
        weights, history = fitted(settings, parameters, mocks, folder, progress)
        save_curves(folder, {settings.network: history})
        save_components(folder, components)
        scale, scores = calibrated(settings, parameters, mocks, folder)
        counts = {name: len(part) for name, part in shares(len(mocks)).items()}
        card = Card(
            settings.name, settings.kind, VERSION, data.survey.name, (), reader.inputs, (), {},
            columns_digest(data.table, reader.inputs).hexdigest(), {"simulated": counts},
            {
                "limits": {kind: list(ends) for kind, ends in parameters.limits.items()},
                "quantities": list(parameters.names), "grid": asdict(grid),
                "signal_to_noise": list(patterns.limits), "redshifts": list(patterns.redshifts),
            },
            {"quantiles": scale.to_json()}, scores, settings.training_settings(),
            survey_record(data.survey), libraries(),
            {"lineage": [dict(data.origin)] if data.origin else []},
        ).sealed([*weights, components.mean, components.axes, components.spread])  # fmt: skip
        card.save(folder)
        return card


def library_of(settings: SspMixtureModel) -> Populations:
    """The library that a model's settings name, or that which is shipped."""
    if settings.templates is None:
        return populations()
    return read_populations(Path(settings.templates.file), settings.templates.medium)


def limits_of(settings: SspMixtureModel, library: Populations) -> dict[str, tuple[float, float]]:
    """The range of each kind of parameter."""
    speed = settings.velocity + _HALF_PIXEL
    low, high = np.log10(settings.gas)
    return {
        "log_age": (float(library.ages[0]), float(library.ages[-1])),
        "metallicity": (float(library.metallicities[0]), float(library.metallicities[-1])),
        "velocity": (-speed, speed),
        "dispersion": settings.dispersion,
        "extinction": settings.extinction,
        "log_gas": (float(low), float(high)),
    }


def rest_grid(settings: SspMixtureModel, library: Populations) -> LogGrid:
    """The library's grid without the ends that motions spoil."""
    speed = settings.velocity + _ENDS * settings.dispersion[1]
    cut = int(np.ceil(speed / (2.0 * _HALF_PIXEL)))
    grid = library.grid
    return LogGrid(grid.first + cut * grid.step, grid.step, max(grid.points - 2 * cut, 0))


def _grid_at_rest(settings: SspMixtureModel, library: Populations, axis: LogGrid) -> LogGrid:
    """Where spectra are looked at; of those given at rest, what they have of it."""
    grid = rest_grid(settings, library)
    if settings.redshift is None:
        first = max(0, int(np.ceil((axis.first - grid.first) / grid.step)))
        last = (axis.first + axis.step * axis.points - grid.first) / grid.step
        points = min(grid.points, int(np.floor(last))) - first
        grid = LogGrid(grid.first + first * grid.step, grid.step, points)
    if grid.points < FEWEST:
        low, high = library.grid.wavelengths[[0, -1]]
        raise SpecError(
            f"models.{settings.name}",
            f"the library, from {low:.0f} to {high:.0f} Angstrom, and the spectra have "
            f"{max(grid.points, 0)} pixels in common, expected at least {FEWEST}",
        )
    return grid


def shares(rows: int) -> dict[str, NDArray[np.intp]]:
    """Which of some simulated rows teach, which end the fit, and which calibrate."""
    place = np.arange(rows)
    watched, calibrating = place % 10 == 0, place % 10 == 5
    return {
        "train": np.flatnonzero(~watched & ~calibrating),
        "validation": np.flatnonzero(watched),
        "calibration": np.flatnonzero(calibrating),
    }


def fitted(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    mocks: SimulatedMixtures,
    folder: Path,
    progress: OnEpoch,
) -> tuple[list[NDArray[Any]], dict[str, list[float]]]:
    """Fit the networks and write them.

    Parameters
    ----------
    settings : SspMixtureModel
    parameters : MixtureParameters
    mocks : SimulatedMixtures
    folder : Path
    progress : callable

    Returns
    -------
    tuple
        Their weights, and loss curves by name.
    """
    task = _flow if settings.network == "invertible" else _quantiles
    found = task(settings, parameters, mocks, folder, progress)
    return found.weights, found.history


def _quantiles(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    mocks: SimulatedMixtures,
    folder: Path,
    progress: OnEpoch,
) -> Fitted:
    """Fit networks of quantiles."""
    from galbatch.models import ssp_mixture_networks as networks
    from galbatch.training.export import export

    inputs = mocks.noise.components.size
    counts = [len(names) for names in parameters.kinds.values()]
    labels = scaled(parameters, parameters.quantities(mocks.mixtures))
    part = shares(len(mocks))

    def built() -> Any:
        return networks.build_quantiles(settings, inputs, counts)

    def shown(rows: NDArray[np.intp], rng: np.random.Generator, mine: Mine) -> NDArray[np.float32]:
        found = mocks.features(part["train"][rows], rng)
        return found if mine is None else found[mine]

    watched = mocks.features(part["validation"], np.random.default_rng([settings.seed, 3]))
    found = _fit(
        settings, built, networks.quantile_loss, TrainingRows(shown, labels[part["train"]]),
        (watched, labels[part["validation"]]), folder, progress,
    )  # fmt: skip
    model = built()
    model.set_weights(found.weights)
    export(model, folder, QUANTILES, watched[:_PARITY_ROWS])
    return found


def _flow(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    mocks: SimulatedMixtures,
    folder: Path,
    progress: OnEpoch,
) -> Fitted:
    """Fit the invertible network."""
    from galbatch.models import ssp_mixture_networks as networks
    from galbatch.training.export import export

    inputs, part = mocks.noise.components.size, shares(len(mocks))
    counts = [len(names) for names in parameters.kinds.values()]
    sizes = (inputs, counts, parameters.numbers)
    rng = np.random.default_rng([settings.seed, 3])
    numbers = parameters.encode(mocks.mixtures, rng)
    mean, scale = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6

    def built() -> Any:
        model = networks.build_flow(settings, *sizes)
        couplings = model[0].get_layer("couplings")
        couplings.mean.assign(mean)
        couplings.scale.assign(scale)
        return model

    def both(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        drawn = parameters.encode(mocks.mixtures.part(rows), rng)
        return np.concatenate([mocks.features(rows, rng), drawn], axis=1)

    def shown(rows: NDArray[np.intp], rng: np.random.Generator, mine: Mine) -> NDArray[np.float32]:
        found = both(part["train"][rows], rng)
        return found if mine is None else found[mine]

    watched = both(part["validation"], rng)
    found = _fit(
        settings, lambda: built()[0], networks.mean_output,
        TrainingRows(shown, np.zeros((len(part["train"]), 1), np.float32)),
        (watched, np.zeros((len(watched), 1), np.float32)), folder, progress,
    )  # fmt: skip
    likelihood, embedding, sampler = built()
    likelihood.set_weights(found.weights)
    some = watched[:_PARITY_ROWS]
    export(embedding, folder, EMBEDDING, some[:, :inputs])
    coded = np.asarray(embedding(some[:, :inputs], training=False), np.float32)
    normal = rng.standard_normal((len(some), parameters.numbers)).astype(np.float32)
    export(sampler, folder, SAMPLER, np.concatenate([coded, normal], axis=1))
    return found


def _fit(
    settings: SspMixtureModel,
    built: Callable[[], Any],
    loss: Any,
    rows: TrainingRows,
    watched: tuple[NDArray[np.float32], NDArray[np.float32]],
    folder: Path,
    progress: OnEpoch,
) -> Fitted:
    from galbatch.models.sed_networks import falling_rate
    from galbatch.training.loop import fit

    epochs = settings.epochs or _EPOCHS

    def compiled(steps: int) -> Any:
        import keras

        model = built()
        rate = falling_rate(settings.learning_rate, steps)
        model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
        return model

    def report(epoch: int, text: str) -> None:
        progress(epoch, epochs, text)

    facts = [
        VERSION,
        settings.training_settings(),
        hashlib.sha256(watched[0].tobytes()).hexdigest(),
    ]
    return fit(
        compiled,
        rows,
        watched,
        Schedule(settings.batch, epochs, settings.patience, settings.seed),
        folder / WORK,
        hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        f"models.{settings.name}",
        report,
    )


def bare_quantiles(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    folder: Path,
    features: NDArray[np.float32],
) -> tuple[Array, Array]:
    """What the networks of a folder say before they are calibrated; see `of_draws`."""
    if settings.network != "invertible":
        found = OnnxNetwork(folder / f"{QUANTILES}.onnx")(features).astype(np.float64)
        return unscaled(parameters, found), np.full((len(found), 2), np.nan)
    embedded = OnnxNetwork(folder / f"{EMBEDDING}.onnx")(features)
    sampler = OnnxNetwork(folder / f"{SAMPLER}.onnx")
    return of_draws(parameters, embedded, sampler, settings.draws)


def calibrated(
    settings: SspMixtureModel,
    parameters: MixtureParameters,
    mocks: SimulatedMixtures,
    folder: Path,
) -> tuple[QuantileScale, dict[str, dict[str, float]]]:
    """Factors that make quantiles honest, and errors of medians, on mixtures that taught nothing.

    Parameters
    ----------
    settings : SspMixtureModel
    parameters : MixtureParameters
    mocks : SimulatedMixtures
    folder : Path

    Returns
    -------
    scale : QuantileScale
        By log10 of the signal to noise.
    scores : dict
        The mean absolute error of each quantity, in the middle of the signals to noise.
    """
    rows = shares(len(mocks))["calibration"][:_CALIBRATING]
    known = parameters.quantities(mocks.mixtures.part(rows))
    low, high = mocks.noise.patterns.limits
    levels = np.unique(np.geomspace(low, high, _LEVELS_OF_NOISE))
    rng = np.random.default_rng([settings.seed, 4])
    factors, scores = [], {}
    for place, level in enumerate(levels):
        features = mocks.features(rows, rng, np.full(len(rows), level))
        quantiles, _ = bare_quantiles(settings, parameters, folder, features)
        factors.append(quantile_factors(quantiles, known, LEVELS))
        if place == len(levels) // 2:
            scores = _errors(parameters, quantiles[:, :, len(LEVELS) // 2] - known)
    return QuantileScale(tuple(np.log10(levels).tolist()), tuple(factors)), scores


def _errors(parameters: MixtureParameters, off: Array) -> dict[str, dict[str, float]]:
    known = [one[np.isfinite(one)] for one in off.T]
    return {
        name: {"mae": float(np.abs(values).mean())}
        for name, values in zip(parameters.names, known, strict=True)
        if len(values)
    }
