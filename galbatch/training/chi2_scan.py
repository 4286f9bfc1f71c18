"""Templates for spectra: read, and their errors calibrated where redshifts are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.models.base import Card, survey_record
from galbatch.models.chi2_scan import VERSION, save_bases, templates_of
from galbatch.sample.labels import labels
from galbatch.sample.rows import columns_digest
from galbatch.spec.spectral_models import Chi2ScanModel
from galbatch.spec.survey import Survey
from galbatch.spectra.clean import signal_to_noise
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.errors import SIMULATED, ErrorModel, calibrate, to_json
from galbatch.spectra.scan import ScanSettings, scan
from galbatch.spectra.templates import Basis
from galbatch.training.base import OnEpoch, Trainer, TrainingData

_ROWS = 256


class Chi2ScanTrainer(Trainer[Chi2ScanModel]):
    """Reads templates."""

    def train(
        self, settings: Chi2ScanModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        reader = SpectrumReader(data.survey)
        bases = [base.at_phase(reader.grid) for base in templates_of(settings)]
        asked = ScanSettings(degree=settings.polynomial)
        errors, rows = _calibrated(data, reader, bases, asked, progress)
        card = Card(
            settings.name, settings.kind, VERSION, data.survey.name, (), reader.inputs, (), {},
            columns_digest(data.table, ()).hexdigest(), {"redshift": {"calibration": rows}},
            {"bases": save_bases(folder, bases), "scan": asdict(asked)},
            {"redshift_errors": to_json(errors)}, {},
            settings.training_settings(), survey_record(data.survey),
            training={"lineage": [dict(data.origin)] if data.origin else []},
        ).sealed([base.vectors for base in bases])  # fmt: skip
        card.save(folder)
        return card


def _calibrated(
    data: TrainingData,
    reader: SpectrumReader,
    bases: list[Basis],
    asked: ScanSettings,
    progress: OnEpoch,
) -> tuple[dict[str, ErrorModel], int]:
    """The errors by redshifts that are known, and how many these are."""
    found: list[_Known] = []
    # Its products are small: threads would wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        for number, part in enumerate(data.parts):
            for table, _ in part():
                found += _scanned(data.survey, table, reader, bases, asked)
            progress(number + 1, len(data.parts), "calibration")
    if not found:
        return dict(SIMULATED), 0
    kind, z, z_err, truth, seen = (np.concatenate(values) for values in zip(*found, strict=True))
    return calibrate(kind, z, z_err, truth, seen), len(truth)


class _Known(NamedTuple):
    """Rows whose redshift is known: what the scan says of them, and their signal to noise."""

    kind: NDArray[np.str_]
    z: NDArray[np.float64]
    z_err: NDArray[np.float64]
    truth: NDArray[np.float64]
    seen: NDArray[np.float64]


def _scanned(
    survey: Survey,
    table: pa.Table,
    reader: SpectrumReader,
    bases: list[Basis],
    asked: ScanSettings,
) -> Iterator[_Known]:
    known = labels(survey, table).get("redshift")
    if known is None:
        return
    rows = np.flatnonzero(np.isfinite(known))
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        spectra = reader.read(table.take(some))
        one = scan(*spectra, reader.grid, bases, asked)
        yield _Known(one.kind, one.z, one.z_err, known[some], signal_to_noise(*spectra))
