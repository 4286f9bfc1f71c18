"""Galaxies' spectra at rest in few numbers that are spread like a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import to_numpy, upload, worker_namespace
from galbatch.errors import SpecError
from galbatch.flux.columns import numbers
from galbatch.models.base import Card, Family, read_card, tabulate
from galbatch.models.redshifts import check_redshift
from galbatch.models.runtime import KeptNetworks, OnnxNetwork
from galbatch.sample.labels import labels
from galbatch.shown import (
    NumberShown,
    Portrait,
    Role,
    RowShown,
    Showing,
    SpectrumShown,
)
from galbatch.spec.spectral_models import InfoVaeModel
from galbatch.spec.survey import Survey
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.filling import FLOOR, Expected
from galbatch.spectra.grids import SDSS_STEP
from galbatch.spectra.rest import ToRest, rest_grid
from galbatch.values import PredictedColumn

VERSION = 1
KIND = "infovae"
EXPECTED = "expected.npz"
SHOWING = Showing(
    (
        Role("the best reconstruction", "reconstruction_chi2", "smallest"),
        Role("a middling reconstruction: the median chi-square", "reconstruction_chi2", "median"),
        Role("the worst reconstruction", "reconstruction_chi2", "largest"),
    ),
    ("latent_flags",),
)
LEAST_COVERAGE = 0.5
"""Of the pixels at rest: spectra that have fewer are refused."""
_BATCH = 256
_BATCH_BYTES = 2**28
"""Of a batch as it is read, moved to rest, filled and run through the networks."""

Array = NDArray[np.float64]


class LatentFlag(IntFlag):
    """Why a spectrum has no latents; 0 where it has.

    NO_REDSHIFT
        It is not known, or not to be trusted.
    OTHER_REDSHIFT
        It is not within `redshifts`.
    LITTLE_COVERAGE
        Less than half of the pixels at rest have data.
    NO_FLUX
        The flux is not positive on the whole.
    """

    NO_REDSHIFT = 1 << 0
    OTHER_REDSHIFT = 1 << 1
    LITTLE_COVERAGE = 1 << 2
    NO_FLUX = 1 << 3


class RestReader:
    """Reads spectra, and moves them to rest.

    Parameters
    ----------
    survey : Survey
        With spectra.
    settings : InfoVaeModel
    """

    def __init__(self, survey: Survey, settings: InfoVaeModel) -> None:
        self._survey, self._settings = survey, settings
        self._spectra = SpectrumReader(survey)
        self.grid = rest_grid(*settings.rest, settings.pixels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (*self._spectra.inputs, *_redshift_columns(self._survey, self._settings))

    @cached_property
    def _to_rest(self) -> ToRest:
        return ToRest(self._spectra.grid, self.grid)

    def read(self, table: pa.Table) -> tuple[Array, Array, NDArray[np.int64]]:
        """Spectra at rest.

        Parameters
        ----------
        table : pa.Table
            n rows with the columns `inputs`.

        Returns
        -------
        tuple of ndarray, shape (n, pixels), (n, pixels) and (n,)
            Flux over its mean size, inverse variance of that (both 0 where there is no data), and
            flags (`LatentFlag`).
        """
        redshift = self._redshifts(table)
        low, high = self._settings.redshifts
        known = np.isfinite(redshift)
        at_rest = _is_at_rest(self._survey)
        other = known & ((redshift < low) | (redshift > high)) & (not at_rest)
        usable = np.where(known & ~other, redshift, np.nan)
        flux, ivar = self._to_rest(*self._spectra.read(table), usable)
        little = known & ~other & ((ivar > 0).mean(axis=1) < LEAST_COVERAGE)
        flags = (
            np.where(~known, LatentFlag.NO_REDSHIFT, 0)
            | np.where(other, LatentFlag.OTHER_REDSHIFT, 0)
            | np.where(little, LatentFlag.LITTLE_COVERAGE, 0)
        )
        size = np.abs(flux).sum(axis=1) / np.maximum((ivar > 0).sum(axis=1), 1)
        size = np.where(size > 0, size, 1.0)[:, None]
        return flux / size, ivar * size**2, np.asarray(flags, np.int64)

    def _redshifts(self, table: pa.Table) -> Array:
        if _is_at_rest(self._survey):
            return np.zeros(table.num_rows)
        if self._settings.redshift is not None:
            return numbers(table, self._settings.redshift)
        return labels(self._survey, table)["redshift"]


def _is_at_rest(survey: Survey) -> bool:
    return survey.spectra is not None and survey.spectra.frame == "rest"


def _redshift_columns(survey: Survey, settings: InfoVaeModel) -> tuple[str, ...]:
    """The column with redshifts, then those that say which of them hold."""
    if _is_at_rest(survey):
        return ()
    if settings.redshift is not None:
        return (settings.redshift,)
    label = survey.labels.redshift
    assert label is not None
    return (label.column, *(one.column for one in label.where))


@dataclass(frozen=True, eq=False)
class _Reconstructed:
    """Whole spectra, (n, pixels), with their weights and what is made of their latents."""

    flags: NDArray[np.int64]
    spectra: Array
    weights: Array
    latents: NDArray[np.float32]
    made: NDArray[np.float32]

    @property
    def chi2(self) -> Array:
        """Per pixel, shape (n,)."""
        squares = (self.weights * (self.made - self.spectra) ** 2).sum(axis=1)
        return np.asarray(squares / np.maximum((self.weights > 0).sum(axis=1), 1))


class InfoVae:
    """A trained InfoVAE.

    Parameters
    ----------
    card : Card
    folder : Path
    settings : InfoVaeModel
    """

    def __init__(self, card: Card, folder: Path, settings: InfoVaeModel) -> None:
        self.card, self._folder, self._settings = card, folder, settings
        self._reader = RestReader(Survey.model_validate(card.reading), settings)
        self._network = KeptNetworks(folder, self._built)

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        bits = ", ".join(f"{flag.value} {flag.name}" for flag in LatentFlag)
        return (
            PredictedColumn("latent", "float32", "", "stat.value", "Latents of the spectrum",
                            (self._settings.latents,), ("latent_number",)),
            PredictedColumn("reconstruction_chi2", "float32", "", "stat.fit.chi2",
                            "Chi-square per pixel of the spectrum made of its latents, of errors "
                            "that are 2.2 % of its level at least"),
            PredictedColumn("latent_flags", "int32", "", "meta.code.qual",
                            f"Why there are no latents, 0 where there are: {bits}"),
        )  # fmt: skip

    @cached_property
    def _expected(self) -> Expected:
        return Expected.load(self._folder / EXPECTED)

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = [
            self._predict(table.slice(start, _BATCH))
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table) -> pa.Table:
        found = self._reconstructed(table)
        good = found.flags == 0
        values = {
            "latent": np.where(good[:, None], found.latents, np.nan),
            "reconstruction_chi2": np.where(good, found.chi2, np.nan),
            "latent_flags": found.flags,
        }
        return tabulate(self.columns, values)

    def _reconstructed(self, table: pa.Table) -> _Reconstructed:
        flux, ivar, flags = self._reader.read(table)
        whole = self._expected.whole(flux, ivar)
        flags |= np.where((flags == 0) & ~np.isfinite(whole.level), LatentFlag.NO_FLUX, 0)
        spectra = np.where(flags[:, None] == 0, whole.spectra, self._expected.mean)
        xp = worker_namespace()
        (features,) = upload(xp, spectra.astype(np.float32))
        coded = self._network("encoder", xp)(features)
        made = to_numpy(self._network("decoder", xp)(coded))
        return _Reconstructed(flags, spectra, whole.weights, to_numpy(coded), made)

    @property
    def showing(self) -> Showing:
        """Rows to look at, and what is counted; see `ShowingModel.showing`."""
        return SHOWING

    def shown(self, table: pa.Table) -> tuple[RowShown, ...]:
        """Spectra at rest and what is made of their latents; see `ShowingModel.shown`."""
        found = self._reconstructed(table)
        rows = []
        for row, flag in enumerate(found.flags.tolist()):
            if flag:
                rows.append(RowShown(f"No latents: {LatentFlag(flag).name}.", None))
                continue
            weights = found.weights[row]
            seen = weights > 0
            error = np.where(seen, np.where(seen, weights, 1.0) ** -0.5, np.nan)
            flux, made = (np.where(seen, one[row], np.nan) for one in (found.spectra, found.made))
            spectrum = SpectrumShown(self._reader.grid.wavelengths, flux, made, error, "", "rest")
            rows.append(RowShown(
                f"Chi-square per pixel {found.chi2[row]:.2f}, of errors that are {FLOOR:.1%} of "
                f"the spectrum's level at least; {self._settings.latents} latents.",
                spectrum,
            ))  # fmt: skip
        return tuple(rows)

    def portrait(self) -> Portrait:
        """Errors beside those of PCA, and how latents are spread; see `ShowingModel.portrait`."""
        scores, spread = self.card.metrics["reconstruction"], self.card.metrics["latents"]
        return Portrait((
            NumberShown("chi-square per pixel", scores["chi2"], "of spectra that taught nothing"),
            NumberShown("the same by weighted PCA", scores["pca_chi2"], "with as many numbers"),
            NumberShown("directions", scores["directions"],
                        f"that the {self._settings.latents} latents really use "
                        "(participation ratio)"),
            NumberShown("distance to a normal distribution", spread["mmd"],
                        "of the latents: the squared maximum mean discrepancy; two samples of a "
                        f"normal distribution have {spread['normal_mmd']:.2g}"),
        ))  # fmt: skip

    def _built(self, name: str) -> Any:
        from galbatch.models import infovae_networks as networks

        model = networks.build(self._settings)
        return networks.encoder_of(model) if name == "encoder" else model.get_layer("decoder")


class Decoder:
    """Makes spectra of latents, without TensorFlow.

    Parameters
    ----------
    folder : Path
        Of the model.
    card : Card
    """

    def __init__(self, folder: Path, card: Card) -> None:
        settings = InfoVaeModel.model_validate(card.spec)
        grid = rest_grid(*settings.rest, settings.pixels)
        self.latents: int = settings.latents
        self.wavelengths: Array = grid.wavelengths
        """At rest, Angstrom in vacuum, of shape (pixels,)."""
        self._known = Expected.load(folder / EXPECTED).known
        self._network = OnnxNetwork(folder / "decoder.onnx")

    def __call__(self, latents: NDArray[np.floating]) -> NDArray[np.float32]:
        """Spectra of latents.

        Parameters
        ----------
        latents : ndarray, shape (n, latents)

        Returns
        -------
        ndarray of float32, shape (n, pixels)
            Flux density per wavelength over the spectrum's level, which is its root mean square:
            they have no unit. NaN at wavelengths that hardly any spectrum of the fit had.

        Raises
        ------
        ValueError
            If there is another number of latents.
        """
        given = np.asarray(latents, np.float32)
        if given.ndim != 2 or given.shape[1] != self.latents:
            raise ValueError(f"latents: expected shape (n, {self.latents}), got {given.shape}")
        return np.where(self._known, self._network(given), np.float32(np.nan))


def load_decoder(folder: Path) -> Decoder:
    """The decoder of a trained model alone.

    Parameters
    ----------
    folder : Path
        Of the model, e.g. ``stores/sdss/models/infovae``.

    Returns
    -------
    Decoder

    Raises
    ------
    SpecError
        If there is no model, or it is one of another kind or version.
    """
    card = read_card(folder)
    if (card.kind, card.version) != (KIND, VERSION):
        raise SpecError(
            str(folder),
            f"expected an {KIND} model of version {VERSION}, got {card.kind} {card.version}",
        )
    return Decoder(folder, card)


class InfoVaeFamily(Family[InfoVaeModel]):
    """InfoVAEs of spectra."""

    version = VERSION
    needs_labels = False

    def check(self, settings: InfoVaeModel, survey: Survey) -> None:
        """See `Family.check`."""
        where = f"models.{settings.name}"
        if survey.spectra is None:
            raise SpecError(where, f"survey '{survey.name}' has no 'spectra'")
        if settings.targets is not None:
            raise SpecError(f"{where}.targets", f"an {KIND} model has none; leave it out")
        _check_redshift(settings, survey, where)
        low, high = settings.rest
        if rest_grid(low, high, settings.pixels).step < SDSS_STEP:
            most = int(np.log10(high / low) / SDSS_STEP)
            raise SpecError(
                f"{where}.pixels",
                f"expected at most {most} from {low:g} to {high:g} Angstrom, got {settings.pixels}",
                "a pixel must not be narrower than one of SDSS, 1e-4 dex",
            )
        nearest, farthest = (0.0, 0.0) if _is_at_rest(survey) else settings.redshifts
        first, last = survey.wavelengths[0], survey.wavelengths[-1]
        if low > last / (1 + nearest) or high < first / (1 + farthest):
            raise SpecError(
                f"{where}.rest",
                f"expected a range that spectra of {first:.0f} to {last:.0f} Angstrom have at "
                f"rest, got {low:g} to {high:g}",
            )

    def inputs(self, settings: InfoVaeModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        return RestReader(survey, settings).inputs

    def needed(self, settings: InfoVaeModel, survey: Survey) -> dict[str, str]:
        """The column of redshifts, of spectra as observed; see `Family.needed`."""
        return dict.fromkeys(_redshift_columns(survey, settings)[:1], "redshift")

    def training_bytes(self, settings: InfoVaeModel, survey: Survey) -> int:
        """See `Family.training_bytes`."""
        return 8 * 4 * settings.pixels

    def predicting_bytes(self, settings: InfoVaeModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return 4 * settings.latents + 64

    def batch_bytes(self, settings: InfoVaeModel, survey: Survey) -> int:
        """See `Family.batch_bytes`."""
        return _BATCH_BYTES

    def load(self, card: Card, folder: Path, settings: InfoVaeModel) -> InfoVae:
        """See `Family.load`."""
        return InfoVae(card, folder, settings)


def _check_redshift(settings: InfoVaeModel, survey: Survey, where: str) -> None:
    if settings.redshift is not None:
        check_redshift(settings.redshift, survey, where)
    elif not _is_at_rest(survey) and survey.labels.redshift is None:
        raise SpecError(
            where,
            f"the spectra of survey '{survey.name}' are as they were observed, and no column "
            "with their redshifts is known",
            "name it: 'redshift', or a label of the survey",
        )
