"""Class and redshift of spectra by the least chi-square over templates and redshifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.models.base import Card, Family, tabulate
from galbatch.spec.spectral_models import Chi2ScanModel, ScanningModel
from galbatch.spec.survey import Survey
from galbatch.spectra.clean import signal_to_noise
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.errors import from_json
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import ScanResult, ScanSettings, models, scan
from galbatch.spectra.templates import KINDS, Basis, read_templates
from galbatch.values import PredictedColumn, Target

VERSION = 2
BASES = "bases.npz"
_BATCH = 256
"""Rows that are read together."""
_BATCH_BYTES = 2**29
"""Of a batch's curves of chi-square, and of templates laid out for them."""
_ROW_BYTES = 512

_PROBABILITIES = tuple(f"prob_{kind.lower()}" for kind in KINDS)
_CLASSES = ", ".join(KINDS)
_Z_ERROR = "Its 1-sigma error"
COLUMNS: tuple[PredictedColumn, ...] = (
    PredictedColumn("spec_class", "string", "", "src.class", f"Class of the best fit: {_CLASSES}"),
    PredictedColumn("spec_subclass", "string", "", "src.class", "Template of the best fit"),
    *(
        PredictedColumn(
            name, "float32", "", "stat.probability;src.class",
            f"Probability of {kind}, if one of the templates is right: not calibrated",
        )
        for name, kind in zip(_PROBABILITIES, KINDS, strict=True)
    ),
    PredictedColumn("z_spec_model", "float64", "", "src.redshift", "Redshift of the best fit"),
    PredictedColumn("z_spec_err", "float32", "", "stat.error;src.redshift", _Z_ERROR),
    PredictedColumn(
        "chi2_dof", "float32", "", "stat.fit.chi2", "Chi-square of the best fit, reduced"
    ),
    PredictedColumn(
        "delta_chi2", "float32", "", "stat.fit.chi2",
        "How much worse the second minimum is, of another class or redshift; infinite without one",
    ),
    PredictedColumn(
        "d_score", "float32", "", "stat.fit.goodness",
        "D: the same as a part of the least chi-square; -1 without a second minimum",
    ),
    PredictedColumn("z_second", "float64", "", "src.redshift", "Redshift of the second minimum"),
    PredictedColumn("class_second", "string", "", "src.class", "Class of the second minimum"),
    PredictedColumn(
        "residual_peak", "float32", "", "stat.fit.residual;stat.max",
        "Largest mean of what the best fit leaves of 5 or 25 pixels side by side, in its errors",
    ),
    PredictedColumn(
        "spec_flags", "int32", "", "meta.code.qual",
        "Sum of bits, 0 for none: "
        + ", ".join(f"{flag.value} {flag.name}" for flag in SpecFlag),
    ),
)  # fmt: skip


class Chi2Scan:
    """Templates, ready to fit.

    Parameters
    ----------
    card : Card
    folder : Path
        With the templates.
    settings : ScanningModel
    """

    def __init__(self, card: Card, folder: Path, settings: ScanningModel) -> None:
        self.card = card
        self._settings = settings
        self._reader = SpectrumReader(Survey.model_validate(card.reading))
        self._bases = load_bases(folder, card.recipe["bases"])
        self._scan = ScanSettings(**card.recipe["scan"])
        self._errors = from_json(card.calibration["redshift_errors"])

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """What it predicts; see `Model.columns`."""
        if not self._settings.keep_model:
            return self._scalars
        shape, axis = (self._reader.grid.points,), ("spec_wavelength",)
        unit = self._reader.unit
        return (
            *self._scalars,
            PredictedColumn("spec_model", "float32", unit, "phot.flux.density;em.wl",
                            "The best fit", shape, axis),
            PredictedColumn("spec_residual", "float32", unit, "stat.fit.residual",
                            "Flux less the best fit; NaN where there are no data", shape, axis),
        )  # fmt: skip

    @property
    def _scalars(self) -> tuple[PredictedColumn, ...]:
        by = f"{_Z_ERROR}, calibrated on {self._calibrated_on}"
        return tuple(
            replace(one, description=by) if one.description == _Z_ERROR else one for one in COLUMNS
        )

    @property
    def _calibrated_on(self) -> str:
        rows = self.card.rows.get("redshift", {}).get("calibration", 0)
        return f"{rows} known redshifts" if rows else "simulated spectra of SDSS"

    def predict(self, table: pa.Table) -> pa.Table:
        """Predictions for a catalogue's rows; see `Model.predict`."""
        parts = [
            self._predict(table.slice(start, _BATCH))
            for start in range(0, max(table.num_rows, 1), _BATCH)
        ]
        return pa.concat_tables(parts).combine_chunks()

    def _predict(self, table: pa.Table) -> pa.Table:
        flux, ivar = self._reader.read(table)
        found = self._scanned(flux, ivar)
        values = self._values(flux, ivar, found)
        if self._settings.keep_model:
            fitted = models(found, self._reader.grid, self._bases)
            values["spec_model"] = fitted
            values["spec_residual"] = np.where(ivar > 0, flux - fitted, np.nan)
        return tabulate(self.columns, values)

    def _scanned(self, flux: NDArray[np.float64], ivar: NDArray[np.float64]) -> ScanResult:
        return scan(flux, ivar, self._reader.grid, self._bases, self._scan)

    def _values(
        self, flux: NDArray[np.float64], ivar: NDArray[np.float64], found: ScanResult
    ) -> dict[str, NDArray[Any]]:
        """Those of all columns but the arrays."""
        errors, seen = np.full(len(found.z), np.nan), signal_to_noise(flux, ivar)
        for kind, model in self._errors.items():
            rows = found.kind == kind
            errors[rows] = model.errors(found.z_err[rows], found.z[rows], seen[rows])
        return {
            "spec_class": found.kind,
            "spec_subclass": found.subclass,
            **dict(zip(_PROBABILITIES, found.probabilities.T, strict=True)),
            "z_spec_model": found.z,
            "z_spec_err": errors,
            "chi2_dof": found.chi2 / np.where(found.dof > 0, found.dof, np.nan),
            "delta_chi2": found.delta_chi2,
            "d_score": found.d_score,
            "z_second": found.z_second,
            "class_second": found.kind_second,
            "residual_peak": found.residual,
            "spec_flags": found.flags,
        }


class ScanFamily(Family[ScanningModel]):
    """What families that fit templates to spectra share."""

    needs_labels = False
    streams = True

    @property
    def optional_columns(self) -> frozenset[str]:
        """The arrays of `keep_model`; see `Family.optional_columns`."""
        return frozenset({"spec_model", "spec_residual"})

    def check(self, settings: ScanningModel, survey: Survey) -> None:
        """See `Family.check`."""
        where = f"models.{settings.name}"
        if survey.spectra is None:
            raise SpecError(where, f"survey '{survey.name}' has no 'spectra'")
        if survey.spectra.frame == "rest":
            raise SpecError(
                where, f"the spectra of survey '{survey.name}' are at rest: there is no redshift",
                "correct 'frame' under 'spectra' if they are as they were observed",
            )  # fmt: skip
        if settings.targets is not None:
            raise SpecError(f"{where}.targets", f"a {settings.kind} model has none; leave it out")

    def inputs(self, settings: ScanningModel, survey: Survey) -> tuple[str, ...]:
        """See `Family.inputs`."""
        return SpectrumReader(survey).inputs

    def batch_bytes(self, settings: ScanningModel, survey: Survey) -> int:
        """See `Family.batch_bytes`."""
        return _BATCH_BYTES

    def predicting_bytes(self, settings: ScanningModel, survey: Survey) -> int:
        """See `Family.predicting_bytes`."""
        return _ROW_BYTES


class Chi2ScanFamily(ScanFamily):
    """Fits of templates to spectra."""

    version = VERSION

    def check(self, settings: ScanningModel, survey: Survey) -> None:
        """See `Family.check`: templates that are there can be read, too."""
        super().check(settings, survey)
        assert isinstance(settings, Chi2ScanModel)
        templates_of(settings, missing="left out")

    def teaching(self, rows: int, labelled: Mapping[Target, int]) -> int:
        """See `Family.teaching`: the errors of redshifts are calibrated where one is known."""
        return labelled.get("redshift", 0)

    def fit_bytes(self, settings: ScanningModel, survey: Survey) -> int:
        """See `Family.fit_bytes`: rows are scanned in batches, as predictions are made."""
        return 2 * _BATCH_BYTES

    def load(self, card: Card, folder: Path, settings: ScanningModel) -> Chi2Scan:
        """See `Family.load`."""
        return Chi2Scan(card, folder, settings)


def templates_of(
    settings: Chi2ScanModel, missing: Literal["refused", "left out"] = "refused"
) -> list[Basis]:
    """The templates that a model is to fit.

    Parameters
    ----------
    settings : Chi2ScanModel
    missing : {"refused", "left out"}
        What becomes of a file that is not there.

    Raises
    ------
    SpecError
        If one cannot be read.
    """
    found: list[Basis] = []
    for number, one in enumerate(settings.templates):
        if missing == "left out" and not Path(one.file).is_file():
            continue
        try:
            found += read_templates(Path(one.file), one.of, one.redshifts, one.vectors)
        except SpecError as error:
            where = f"models.{settings.name}.templates.{number}: {error.where}"
            raise SpecError(where, error.problem, error.hint) from error
    return found


def save_bases(folder: Path, bases: Sequence[Basis]) -> list[dict[str, Any]]:
    """Write the vectors of templates, and return the rest of them, JSON-ready."""
    arrays = {f"vectors_{place}": base.vectors for place, base in enumerate(bases)}
    np.savez(folder / BASES, allow_pickle=False, **arrays)
    return [
        {
            "name": base.name,
            "kind": base.kind,
            "subclass": base.subclass,
            "grid": asdict(base.grid),
            "redshifts": list(base.redshifts),
        }
        for base in bases
    ]


def load_bases(folder: Path, records: Sequence[Mapping[str, Any]]) -> tuple[Basis, ...]:
    """The inverse of `save_bases`."""
    with np.load(folder / BASES, allow_pickle=False) as arrays:
        return tuple(
            Basis(
                one["name"], one["kind"], one["subclass"], arrays[f"vectors_{place}"],
                LogGrid(**one["grid"]), (one["redshifts"][0], one["redshifts"][1]),
            )
            for place, one in enumerate(records)
        )  # fmt: skip
