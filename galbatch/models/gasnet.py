"""Subclass, class and redshift of spectra by what simulated ones have taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.arrays import to_numpy, upload, worker_namespace
from galbatch.columns import words
from galbatch.errors import SpecError
from galbatch.models.base import Card
from galbatch.models.chi2_scan import Chi2Scan, ScanFamily
from galbatch.models.gasnet_encoder import Encoder
from galbatch.models.gasnet_redshifts import COLUMNS as REDSHIFT_COLUMNS
from galbatch.models.gasnet_redshifts import NETWORK as REDSHIFTS
from galbatch.models.gasnet_redshifts import calibrated, extragalactic, redshifts, shown
from galbatch.models.runtime import KeptNetworks
from galbatch.models.scan_shown import SHOWING
from galbatch.quality.calibration import SoftmaxScale
from galbatch.shown import NumberShown, Portrait, Showing
from galbatch.spec.spectral_models import GasnetModel, ScanningModel
from galbatch.spec.survey import Survey
from galbatch.spectra import anomalies
from galbatch.spectra.anomalies import numbers_of, strangeness
from galbatch.spectra.clean import signal_to_noise
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.errors import from_json
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.scan import ScanResult
from galbatch.spectra.subclasses import folded
from galbatch.values import PredictedColumn, Target

Array = NDArray[np.float64]

VERSION = 2
NETWORK = "subclass"
STAR = "STAR"
_FIT_BYTES = 2**29
"""What networks make of a batch, and simulated spectra on their way."""
_AT_REST_BYTES = 2**19
"""Of a spectrum at rest while a basis is learned from it."""
_REDDEST = 7000.0
"""Angstrom: H alpha of near galaxies, which their subclass is told by."""

COLUMNS = (
    PredictedColumn(
        "gas_subclass", "string", "", "src.class",
        "Class and subclass by the network, the likeliest of 13; nothing without data",
    ),
    PredictedColumn(
        "gas_prob", "float32", "", "stat.probability;src.class", "Its probability, calibrated"
    ),
    PredictedColumn(
        "anomaly", "float32", "", "stat.probability;meta.code.qual",
        "Share of simulated spectra of its class, seen as well, that are as strange by chi-square, "
        "D or residual_peak: small where strange",
    ),
)  # fmt: skip


class Gasnet(Chi2Scan):
    """Learned templates, and the network beside them.

    Parameters
    ----------
    card : Card
    folder : Path
    settings : GasnetModel
    """

    def __init__(self, card: Card, folder: Path, settings: GasnetModel) -> None:
        super().__init__(card, folder, settings)
        self._folder, self._own = folder, settings
        self._input = NetworkInput(self._reader.grid)
        self._names = np.array(card.recipe["subclasses"])
        self._usual = anomalies.from_json(card.calibration["anomaly"])
        self._network_errors = from_json(card.calibration["network_errors"])
        self._scale = SoftmaxScale.from_json(card.calibration["subclass"])
        self._encoder: Encoder | None = None
        self._network = KeptNetworks(folder, self._built)

    @property
    def _calibrated_on(self) -> str:
        return "simulated spectra"

    @property
    def _scalars(self) -> tuple[PredictedColumn, ...]:
        more = REDSHIFT_COLUMNS if self._own.redshift_network else ()
        return (*super()._scalars, *COLUMNS, *more)

    def _values(
        self, flux: NDArray[np.float64], ivar: NDArray[np.float64], found: ScanResult
    ) -> dict[str, NDArray[Any]]:
        inputs = self._input(flux, ivar, found.z)
        chances = self._scale.apply(self._told(NETWORK, inputs))
        none = (found.flags & int(SpecFlag.NODATA)) != 0
        best = chances.argmax(axis=1)
        made, seen = super()._values(flux, ivar, found), signal_to_noise(flux, ivar)
        if self._own.redshift_network:
            made |= self._redshifts(inputs, best, found, seen)
        return {
            **made,
            "gas_subclass": np.where(none, "", self._names[best]),
            "anomaly": strangeness(self._usual, found.kind, seen, numbers_of(found)),
            "gas_prob": np.where(none, np.nan, chances.max(axis=1)),
        }

    @property
    def showing(self) -> Showing:
        """With subclasses by the network; see `ShowingModel.showing`."""
        return replace(SHOWING, counted=("spec_class", "gas_subclass"))

    def _beside(self, values: Mapping[str, NDArray[Any]], row: int) -> str:
        name, chance = values["gas_subclass"][row], values["gas_prob"][row]
        return f"The network says {name} (probability {chance:.2f})." if name else ""

    def portrait(self) -> Portrait:
        """How many subclasses of simulated spectra were right; see `ShowingModel.portrait`."""
        right = self.card.metrics["subclass"]["accuracy"]
        note = (
            f"of {len(self._names)}, simulated spectra that were held out; they ended the fit and "
            "calibrated the network, so that new ones may do worse"
        )
        return Portrait((NumberShown("subclasses right", right, note),))

    def subclasses(self, kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.str_]:
        """Those that the network tells apart; see `SubclassModel.subclasses`."""
        found = folded(kind, subclass)
        return np.where(np.isin(found, self._names), found, "")

    def told_subclasses(self, predictions: pa.Table) -> NDArray[np.str_]:
        """Those of the network; see `SubclassModel.told_subclasses`."""
        return words(predictions, "gas_subclass")

    def _scanned(self, flux: Array, ivar: Array) -> ScanResult:
        if self._own.coefficients == "solved":
            return super()._scanned(flux, ivar)
        if self._encoder is None:
            xp = worker_namespace()
            self._encoder = Encoder(self._folder, self._reader.grid, self._bases, self._scan, xp)
        return self._encoder.scan(flux, ivar)

    def _redshifts(
        self, inputs: NDArray[np.float32], best: NDArray[np.intp], found: ScanResult, seen: Array
    ) -> dict[str, Array]:
        """Of what neither the network nor the scan takes for a star."""
        told = self._told(REDSHIFTS, shown(inputs, self._input, np.zeros(len(inputs), np.intp)))
        z, error = redshifts(told, best, found.z, self._input)
        names = np.where(found.kind == STAR, "", self._names[best])
        error = calibrated(error, z, seen, names, self._network_errors)
        return {"z_network": np.where(np.isfinite(error), z, np.nan), "z_network_err": error}

    def _told(self, name: str, inputs: NDArray[np.float32]) -> Array:
        xp = worker_namespace()
        (given,) = upload(xp, inputs)
        return np.asarray(to_numpy(self._network(name, xp)(given)), np.float64)

    def _built(self, name: str) -> Any:
        from galbatch.models.gasnet_networks import build, build_redshifts

        if name == REDSHIFTS:
            return build_redshifts(self._input, len(extragalactic(self._names.tolist())))
        return build(self._own, self._input, len(self._names))


class GasnetFamily(ScanFamily):
    """Classes and redshifts that simulated spectra teach."""

    version = VERSION

    @property
    def optional_columns(self) -> frozenset[str]:
        """With those of `redshift_network`; see `Family.optional_columns`."""
        return super().optional_columns | {column.name for column in REDSHIFT_COLUMNS}

    def check(self, settings: ScanningModel, survey: Survey) -> None:
        """See `Family.check`."""
        super().check(settings, survey)
        if survey.wavelengths[-1] < _REDDEST:
            raise SpecError(
                f"models.{settings.name}",
                f"the spectra of survey '{survey.name}' end at {survey.wavelengths[-1]:.0f} "
                f"Angstrom, expected {_REDDEST:.0f} at least",
                "subclasses of galaxies are told by H alpha: a chi2_scan model needs none",
            )

    def teaching(self, rows: int, labelled: Mapping[Target, int]) -> int:
        """See `Family.teaching`: simulated spectra alone do."""
        return 0

    def fit_bytes(self, settings: ScanningModel, survey: Survey) -> int:
        """See `Family.fit_bytes`: simulated spectra, those at rest, and what networks make."""
        assert isinstance(settings, GasnetModel)
        inputs = NetworkInput(SpectrumReader(survey).grid).size
        # Two bytes each; a tenth ends the fit, in single precision, and is handed over once more.
        held = settings.mocks * inputs * 2 * 7 // 5
        return _FIT_BYTES + max(held, settings.at_rest * _AT_REST_BYTES)

    def load(self, card: Card, folder: Path, settings: ScanningModel) -> Gasnet:
        """See `Family.load`."""
        assert isinstance(settings, GasnetModel)
        return Gasnet(card, folder, settings)
