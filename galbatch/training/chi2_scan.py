"""Templates for spectra: read, and their errors calibrated where redshifts are known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.errors import SpecError
from galbatch.models.base import Card, survey_record
from galbatch.models.chi2_scan import VERSION, save_bases
from galbatch.sample.labels import labels
from galbatch.sample.rows import columns_digest
from galbatch.sample.split import TEST
from galbatch.spec.spectral_models import Chi2ScanModel, TemplateFile
from galbatch.spec.survey import Survey
from galbatch.spectra.clean import signal_to_noise
from galbatch.spectra.columns import SpectrumReader
from galbatch.spectra.errors import SIMULATED, ErrorModel, calibrate, to_json
from galbatch.spectra.scan import ScanSettings, scan
from galbatch.spectra.templates import Basis, read_templates
from galbatch.training.base import OnEpoch, Trainer, TrainingData

_ROWS = 1024


class Chi2ScanTrainer(Trainer[Chi2ScanModel]):
    """Reads templates."""

    def train(
        self, settings: Chi2ScanModel, data: TrainingData, folder: Path, progress: OnEpoch
    ) -> Card:
        """See `Trainer.train`."""
        reader = SpectrumReader(data.survey)
        bases = [
            base.at_phase(reader.grid)
            for number, one in enumerate(settings.templates)
            for base in _read(one, f"models.{settings.name}.templates.{number}")
        ]
        asked = ScanSettings(degree=settings.polynomial)
        errors, rows = _calibrated(settings, data, reader, bases, asked, progress)
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


def _read(one: TemplateFile, where: str) -> list[Basis]:
    """The templates of a file.

    Raises
    ------
    SpecError
        If there is no such file, or it has none.
    """
    try:
        return read_templates(Path(one.file), one.of, one.redshifts, one.vectors)
    except SpecError as error:
        raise SpecError(f"{where}: {error.where}", error.problem, error.hint) from error


def _calibrated(
    settings: Chi2ScanModel,
    data: TrainingData,
    reader: SpectrumReader,
    bases: list[Basis],
    asked: ScanSettings,
    progress: OnEpoch,
) -> tuple[dict[str, ErrorModel], int]:
    """The errors by redshifts that are known, and how many these are."""
    truth = _known_redshifts(data.survey, data)
    rows = np.flatnonzero(np.isfinite(truth))
    if not len(rows):
        return dict(SIMULATED), 0
    found, seen = [], []
    # Its products are small: threads would wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, len(rows), _ROWS):
            some = data.table.take(rows[start : start + _ROWS])
            spectra = reader.read(some)
            found.append(scan(*spectra, reader.grid, bases, asked))
            seen.append(signal_to_noise(*spectra))
            progress(min(start + _ROWS, len(rows)), len(rows), "calibration")
    joined = [
        np.concatenate([getattr(part, name) for part in found]) for name in ("kind", "z", "z_err")
    ]
    kind, z, z_err = joined
    return calibrate(kind, z, z_err, truth[rows], np.concatenate(seen)), len(rows)


def _known_redshifts(survey: Survey, data: TrainingData) -> NDArray[np.float64]:
    """Of the rows, where there is a label and they are not held out; NaN elsewhere."""
    known = labels(survey, data.table).get("redshift")
    if known is None:
        return np.full(data.table.num_rows, np.nan)
    return np.where(np.asarray(data.roles) == TEST, np.nan, known)
