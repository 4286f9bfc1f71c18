"""Numbers of models of spectra beside each other, which may be of other rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from galbatch.quality.spectra import KnownSpectra, spectral_statistics
from galbatch.report.data import OwnReport, ReportData
from galbatch.report.own import own_headlines, own_judged_on
from galbatch.shown import SpectralColumns

COLUMNS = SpectralColumns("k", "z", "e", "d", "D", "c", ("GALAXY", "QSO", "STAR"))


def own(rows: int, judged_on: str) -> OwnReport:
    """Of galaxies, the first of which is at another redshift than was found."""
    kind, none = np.full(rows, "GALAXY"), np.full(rows, "")
    z = np.linspace(0.1, 0.2, rows)
    known = KnownSpectra(
        kind, kind, none, none, z, z + np.where(np.arange(rows) == 0, 0.1, 0.0),
        np.full(rows, 1e-4), np.ones(rows), np.ones(rows),
    )  # fmt: skip
    return OwnReport(
        statistics=spectral_statistics(known, known, COLUMNS), known=known, judged_on=judged_on
    )


def test_each_model_s_number_is_told_with_its_rows(full_report: ReportData) -> None:
    first, second = full_report.models[:2]
    models = (
        replace(first, own=own(10, "On held-out rows.")),
        replace(second, own=own(50, "On all rows.")),
    )
    data = replace(full_report, models=models)
    lines = {str(one.label): one for one in own_headlines(data)}
    good = lines["good redshifts, GALAXY"]
    assert (good.value, good.detail) == ("90.0\u202f%", "within 0.001 (1 + z), of 10 rows")
    assert good.others == ((second.name, "98.0\u202f% of 50 rows"),)
    assert lines["classes"].others[0][1].endswith(" of 50 rows")
    said = own_judged_on(data)
    assert said == f"{first.name}: On held-out rows. {second.name}: On all rows."
    same = replace(data, models=tuple(replace(one, own=models[0].own) for one in models))
    assert own_judged_on(same) == "On held-out rows."
