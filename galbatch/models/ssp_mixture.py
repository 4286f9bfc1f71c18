"""Spectra as mixtures of stellar populations, by networks that simulated mixtures taught."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from galbatch.arrays import to_numpy as on_host
from galbatch.arrays import upload, worker_namespace
from galbatch.columns import to_numpy
from galbatch.errors import SpecError
from galbatch.models.base import Card, Family, tabulate
from galbatch.models.redshifts import check_redshift
from galbatch.models.runtime import KeptNetworks
from galbatch.models.ssp_mixture_columns import columns_of, values_of
from galbatch.models.ssp_mixture_shown import SHOWING, portrait_of, rows_shown
from galbatch.quality.intervals import QuantileScale
from galbatch.shown import Portrait, RowShown, Showing
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spec.survey import Survey
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.components import LIGHT, Compressed, SpectralComponents, to_rest
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_flags import NEAR, POOR, MixtureFlag
from galbatch.spectra.mixture_parameters import LEVELS, LIGHT_WEIGHTED, MixtureParameters
from galbatch.spectra.populations import read_populations
from galbatch.values import PredictedColumn

VERSION = 2
COMPONENTS = "components.npz"
QUANTILES, EMBEDDING, SAMPLER = "quantiles", "embedding", "sampler"
"""Names of networks."""
_BATCH = 512
_ROWS_OF_DRAWS = 64
_FIT_BYTES = 2**29
"""A simulated chunk at full resolution, and the mixtures that components are taken of."""

Array = NDArray[np.float64]
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class MixtureReader:
    """Spectra of rows at rest, as principal components of mixtures.

    Parameters
    ----------
    survey : Survey
    settings : SspMixtureModel
    """

    def __init__(self, survey: Survey, settings: SspMixtureModel) -> None:
        self._spectra, self._redshift = SpectrumReader(survey), settings.redshift
        self.axis, self.unit = self._spectra.grid, self._spectra.unit

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (*self._spectra.inputs, *((self._redshift,) if self._redshift else ()))

    def redshifts(self, table: pa.Table) -> Array:
        """Redshifts of rows, 0 where spectra are at rest; NaN for what is none."""
        if self._redshift is None:
            return np.zeros(table.num_rows)
        found = np.asarray(to_numpy(table[self._redshift]), np.float64)
        return np.where(np.isfinite(found) & (found > -1.0), found, np.nan)

    def read(self, table: pa.Table, rest: LogGrid) -> tuple[Array, Array, Array]:
        """Flux, inverse variance and velocity at rest; see `to_rest`.

        A row without a redshift is without data.
        """
        flux, ivar = self._spectra.read(table)
        redshift = self.redshifts(table)
        known = np.isfinite(redshift)
        ivar = np.where(known[:, None], ivar, 0.0)
        return to_rest(flux, ivar, np.where(known, redshift, 0.0), self.axis, rest)


class SspMixture:
    """A trained model of mixtures.

    Parameters
    ----------
    card : Card
    folder : Path
    settings : SspMixtureModel
    """

    def __init__(self, card: Card, folder: Path, settings: SspMixtureModel) -> None:
        self.card, self._folder, self._settings = card, folder, settings
        self._reader = MixtureReader(Survey.model_validate(card.reading), settings)
        self._scale = QuantileScale.from_json(card.calibration["quantiles"])
        self._noise: tuple[float, float] = tuple(card.recipe["signal_to_noise"])
        limits = {kind: (low, high) for kind, (low, high) in card.recipe["limits"].items()}
        self._parameters = parameters_of(settings, limits)
        self._network = KeptNetworks(folder, self._built)

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        return columns_of(self._settings)

    @cached_property
    def _components(self) -> SpectralComponents:
        return load_components(self._folder)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = [
            self._predict(table.slice(start, _BATCH))
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table) -> pa.Table:
        flux, ivar, offset = self._reader.read(table, self._components.grid)
        found = self._components(flux, ivar)
        redshift = self._reader.redshifts(table)
        features = features_within(self._components, found, self._noise)
        quantiles, together = self._quantiles(features)
        quantiles = self._scale.apply(quantiles, np.log10(np.maximum(found.signal_to_noise, 0.1)))
        low, high = self._parameters.ranges.T[:, :, None]
        quantiles = np.clip(quantiles, low, high)
        for name, place in self._places.items():
            if name.startswith("velocity"):
                speed = 1.0 + quantiles[:, place] / LIGHT
                quantiles[:, place] = LIGHT * (speed / (1.0 + offset[:, None] / LIGHT) - 1.0)
        known = found.good
        quantiles = np.where(known[:, None, None], quantiles, np.nan)
        together = np.where(known[:, None], together, np.nan)
        values = values_of(self._settings, self._places, quantiles, together, redshift)
        values["ssp_signal_to_noise"] = np.where(known, found.signal_to_noise, np.nan)
        values["ssp_chi2"] = np.where(known, found.chi2, np.nan)
        values["ssp_flags"] = self._flags(found, redshift)
        return tabulate(self.columns, values)

    @property
    def showing(self) -> Showing:
        """Rows to look at, and what is counted; see `ShowingModel.showing`."""
        return SHOWING

    def shown(self, table: pa.Table) -> tuple[RowShown, ...]:
        """Spectra at rest beside the nearest that mixtures span; see `ShowingModel.shown`."""
        flux, ivar, _ = self._reader.read(table, self._components.grid)
        made, error = self._components.nearest(flux, ivar)
        return rows_shown(
            self._predict(table), self._components.grid, np.where(ivar > 0, flux, np.nan), made,
            error, self._reader.unit,
        )  # fmt: skip

    def portrait(self) -> Portrait:
        """Errors of simulated mixtures; see `ShowingModel.portrait`."""
        return portrait_of(self.card.metrics)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self._parameters.names)}

    def _flags(self, found: Compressed, redshift: Array) -> NDArray[np.int32]:
        none, unknown = ~found.good, np.isnan(redshift)
        bits = {
            MixtureFlag.NODATA: none & ~unknown,
            MixtureFlag.NO_REDSHIFT: unknown,
            MixtureFlag.LITTLE_NOISE: ~none & (found.signal_to_noise > self._noise[1]),
            MixtureFlag.MUCH_NOISE: ~none & (found.signal_to_noise < self._noise[0]),
            MixtureFlag.POOR_FIT: ~none & (found.chi2 > POOR),
            MixtureFlag.OTHER_REDSHIFT: ~none & self._other(redshift),
        }
        each = [int(bit) * rows.astype(np.int32) for bit, rows in bits.items()]
        return np.asarray(np.sum(each, axis=0), np.int32)

    def _other(self, redshift: Array) -> NDArray[np.bool_]:
        """Which redshifts are a star's, or none that mixtures were simulated at."""
        if self._settings.redshift is None:
            return np.zeros(len(redshift), bool)
        low, high = self.card.recipe["redshifts"]
        other = (np.abs(redshift) < NEAR) | (redshift < low) | (redshift > high)
        return np.asarray(other)

    def _quantiles(self, features: NDArray[np.float32]) -> tuple[Array, Array]:
        """Quantiles as the networks give them, (n, quantities, levels), and `of_draws`'s second."""
        xp = worker_namespace()

        def run(name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
            return on_host(self._network(name, xp)(upload(xp, rows)[0]))

        if self._settings.network != "invertible":
            found = run(QUANTILES, features).astype(np.float64)
            quantiles = unscaled(self._parameters, found)
            together = np.full((len(found), 2), np.nan)
        else:
            quantiles, together = of_draws(
                self._parameters, run(EMBEDDING, features), partial(run, SAMPLER),
                self._settings.draws,
            )  # fmt: skip
        return quantiles, together

    def _built(self, name: str) -> Any:
        from galbatch.models import ssp_mixture_networks as networks

        settings, inputs = self._settings, self._components.size
        counts = [len(names) for names in self._parameters.kinds.values()]
        if name == QUANTILES:
            return networks.build_quantiles(settings, inputs, counts)
        numbers = self._parameters.numbers
        _, embedding, sampler = networks.build_flow(settings, inputs, counts, numbers)
        return embedding if name == EMBEDDING else sampler


class SspMixtureFamily(Family[SspMixtureModel]):
    """Mixtures of stellar populations."""

    version = VERSION
    needs_labels = False

    @property
    def optional_columns(self) -> frozenset[str]:
        """See `Family.optional_columns`."""
        every: set[str] = set()
        least: set[str] | None = None
        for words in ({}, {"network": "invertible"}, {"own": True}, {"redshift": "z"}):
            settings = SspMixtureModel.model_validate({"kind": "ssp_mixture", **words})
            names = {one.name for one in columns_of(settings)}
            every |= names
            least = names if least is None else least & names
        return frozenset(every - (least or set()))

    def check(self, settings: SspMixtureModel, survey: Survey) -> None:
        """See `Family.check`: a library that is there can be read, too."""
        where = f"models.{settings.name}"
        if survey.spectra is None:
            raise SpecError(where, f"survey '{survey.name}' has no 'spectra'")
        if settings.redshift is not None:
            check_redshift(settings.redshift, survey, where)
        elif survey.spectra.frame != "rest":
            raise SpecError(
                f"{where}.redshift",
                f"the spectra of survey '{survey.name}' are as they were observed",
                "name the column with the redshift that brings them to rest",
            )
        library = settings.templates
        # One that is not here may be where the fit is made, which says so if it is not.
        if library is not None and Path(library.file).is_file():
            read_populations(Path(library.file), library.medium)

    def inputs(self, settings: SspMixtureModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        return MixtureReader(survey, settings).inputs

    def needed(self, settings: SspMixtureModel, survey: Survey) -> dict[str, str]:
        """See `Family.needed`."""
        return {settings.redshift: "redshift"} if settings.redshift else {}

    def training_bytes(self, settings: SspMixtureModel, survey: Survey) -> int:
        """See `Family.training_bytes`."""
        return 8 * 8 * len(survey.wavelengths)

    def fit_bytes(self, settings: SspMixtureModel, survey: Survey) -> int:
        """See `Family.fit_bytes`."""
        # Components and numbers of a mixture; a fifth of them once more as a network reads them.
        kept = 4 * settings.spectral_components + 8 * 40
        return _FIT_BYTES + settings.mixtures * kept * 3 // 2

    def predicting_bytes(self, settings: SspMixtureModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return 8 * sum(prod(one.shape) for one in columns_of(settings))

    def batch_bytes(self, settings: SspMixtureModel, survey: Survey) -> int:
        """See `Family.batch_bytes`."""
        draws = settings.draws if settings.network == "invertible" else 0
        return _BATCH * 12 * 8 * len(survey.wavelengths) + _ROWS_OF_DRAWS * draws * 4 * 1024

    def load(self, card: Card, folder: Path, settings: SspMixtureModel) -> SspMixture:
        """See `Family.load`."""
        return SspMixture(card, folder, settings)


def parameters_of(
    settings: SspMixtureModel, limits: dict[str, tuple[float, float]]
) -> MixtureParameters:
    """The numbers that a model's mixtures have, within limits."""
    return MixtureParameters(settings.components, settings.own, limits, settings.least_weight)


def features_within(
    components: SpectralComponents, found: Compressed, limits: tuple[float, float]
) -> NDArray[np.float32]:
    """What a network reads; spectra with less noise than it knows are shown as with its least."""
    signal = found.signal_to_noise
    excess = np.maximum(signal / limits[1], 1.0)
    noise = found.noise * excess[:, None]
    return components.features(
        found.scores, noise, np.maximum(signal / excess, limits[0]), found.seen
    )


def scaled(parameters: MixtureParameters, quantities: Array) -> NDArray[np.float32]:
    """Quantities, (n, q), as numbers from -1 to 1."""
    low, high = parameters.ranges.T
    return np.asarray(2.0 * (quantities - low) / (high - low) - 1.0, np.float32)


def unscaled(parameters: MixtureParameters, numbers: Array) -> Array:
    """The inverse of `scaled`, of shape (n, q, levels), held within the ranges."""
    low, high = parameters.ranges.T[:, None, :, None]
    return np.asarray(low + (high - low) * 0.5 * (np.clip(numbers, -1.0, 1.0) + 1.0))


def of_draws(
    parameters: MixtureParameters, embedded: NDArray[np.float32], sampler: Run, draws: int
) -> tuple[Array, Array]:
    """What draws from the distribution of each row's mixture say.

    Every row has the same draws of normal numbers, which fill their space evenly: what is found for
    a row does not depend on the others, or on when it is asked for.

    Parameters
    ----------
    parameters : MixtureParameters
    embedded : ndarray of float32, shape (n, e)
    sampler : callable
        The network from embeddings and normal numbers to the numbers of mixtures.
    draws : int

    Returns
    -------
    quantiles : ndarray, shape (n, quantities, levels)
    together : ndarray, shape (n, 2)
        Covariance and correlation of light-weighted log age and metallicity.
    """
    normal = normal_numbers(draws, parameters.numbers)
    parts, pairs = [], []
    for start in range(0, len(embedded), _ROWS_OF_DRAWS):
        some = embedded[start : start + _ROWS_OF_DRAWS]
        given = np.concatenate(
            [np.repeat(some, draws, axis=0), np.tile(normal, (len(some), 1))], axis=1
        )
        values = parameters.quantities(parameters.decode(sampler(given)))
        values = values.reshape(len(some), draws, -1)
        parts.append(known_quantiles(values))
        both = values[:, :, [parameters.names.index(name) for name in LIGHT_WEIGHTED]]
        both = both - both.mean(axis=1, keepdims=True)
        covariance = (both[:, :, 0] * both[:, :, 1]).mean(axis=1)
        spread = np.sqrt((both**2).mean(axis=1)).prod(axis=1)
        pairs.append(np.stack([covariance, covariance / np.maximum(spread, 1e-30)], axis=1))
    return np.concatenate(parts), np.concatenate(pairs)


def normal_numbers(draws: int, size: int) -> NDArray[np.float32]:
    """Normal numbers, (draws, size), from a scrambled sequence of Sobol: always the same."""
    sequence = qmc.Sobol(size, scramble=True, rng=np.random.default_rng(0))
    even = sequence.random_base2(int(np.ceil(np.log2(draws))))[:draws]
    return np.asarray(ndtri(np.clip(even, 1e-6, 1.0 - 1e-6)), np.float32)


def known_quantiles(values: Array) -> Array:
    """Quantiles at `LEVELS` over the second axis of (n, draws, q) without its NaN: (n, q, levels).

    NaN where all are.
    """
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    places = np.maximum(count - 1, 0)[:, None] * np.array(LEVELS)[:, None]
    below = np.floor(places).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(count - 1, 0)[:, None])
    low, high = (np.take_along_axis(ordered, one, axis=1) for one in (below, above))
    return np.asarray((low + (places - below) * (high - low)).transpose(0, 2, 1))


def save_components(folder: Path, components: SpectralComponents) -> None:
    """Write what spectra are compressed by."""
    grid = components.grid
    np.savez(
        folder / COMPONENTS, allow_pickle=False, mean=components.mean, axes=components.axes,
        spread=components.spread, grid=np.array([grid.first, grid.step, grid.points]),
    )  # fmt: skip


def load_components(folder: Path) -> SpectralComponents:
    """The inverse of `save_components`."""
    with np.load(folder / COMPONENTS, allow_pickle=False) as arrays:
        first, step, points = arrays["grid"]
        grid = LogGrid(float(first), float(step), int(points))
        return SpectralComponents(grid, arrays["mean"], arrays["axes"], arrays["spread"])
