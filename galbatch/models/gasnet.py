"""Subclass, class and redshift of spectra by what simulated ones have taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
from galbatch.models.runtime import Network, open_network
from galbatch.models.scan_shown import SHOWING
from galbatch.quality.calibration import SoftmaxScale
from galbatch.shown import NumberShown, Portrait, Showing
from galbatch.spec.spectral_models import GasnetModel, ScanningModel
from galbatch.spec.survey import Survey
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.network_input import NetworkInput
from galbatch.spectra.scan import ScanResult
from galbatch.spectra.subclasses import folded
from galbatch.values import PredictedColumn

VERSION = 1
NETWORK = "subclass"
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
        self._scale = SoftmaxScale.from_json(card.calibration["subclass"])
        self._networks: dict[str, Network] = {}

    @property
    def _scalars(self) -> tuple[PredictedColumn, ...]:
        return (*super()._scalars, *COLUMNS)

    def _values(
        self, flux: NDArray[np.float64], ivar: NDArray[np.float64], found: ScanResult
    ) -> dict[str, NDArray[Any]]:
        xp = worker_namespace()
        (inputs,) = upload(xp, self._input(flux, ivar, found.z))
        logits = to_numpy(self._network(xp)(inputs)).astype(np.float64)
        chances = self._scale.apply(logits)
        none = (found.flags & int(SpecFlag.NODATA)) != 0
        best = chances.argmax(axis=1)
        return {
            **super()._values(flux, ivar, found),
            "gas_subclass": np.where(none, "", self._names[best]),
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
        note = f"of {len(self._names)}, simulated spectra that taught nothing"
        return Portrait((NumberShown("subclasses right", right, note),))

    def subclasses(self, kind: NDArray[np.str_], subclass: NDArray[np.str_]) -> NDArray[np.str_]:
        """Those that the network tells apart; see `SubclassModel.subclasses`."""
        found = folded(kind, subclass)
        return np.where(np.isin(found, self._names), found, "")

    def told_subclasses(self, predictions: pa.Table) -> NDArray[np.str_]:
        """Those of the network; see `SubclassModel.told_subclasses`."""
        return words(predictions, "gas_subclass")

    def _network(self, xp: Any) -> Network:
        def built() -> Any:
            from galbatch.models.device import prepare_tensorflow

            prepare_tensorflow()
            from galbatch.models.gasnet_networks import build

            return build(self._own, self._input, len(self._names))

        key = xp.__name__
        if key not in self._networks:
            self._networks[key] = open_network(self._folder, NETWORK, partial(built), xp)
        return self._networks[key]


class GasnetFamily(ScanFamily):
    """Classes and redshifts that simulated spectra teach."""

    version = VERSION

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

    def load(self, card: Card, folder: Path, settings: ScanningModel) -> Gasnet:
        """See `Family.load`."""
        assert isinstance(settings, GasnetModel)
        return Gasnet(card, folder, settings)
