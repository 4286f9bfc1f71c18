"""Spectra of rows as models read them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from galbatch.columns import arrow_type, from_numpy
from galbatch.spec import load_survey
from galbatch.spectra.columns import SpectrumReader


def test_a_row_without_a_mask_has_no_bad_pixel() -> None:
    survey = load_survey("sdss_spectra")
    points = len(survey.wavelengths)
    mask = np.zeros((3, points), np.int32)
    mask[1, 50], mask[2] = 1 << 24, np.iinfo(np.int32).min  # which the store fills it with
    ones = np.ones((3, points), np.float32)
    kinds = {one.name: arrow_type(one.kind, one.shape, one.axes) for one in survey.arrays}
    values = {"flux": ones, "ivar": ones, "and_mask": mask}
    table = pa.table({name: from_numpy(rows, kinds[name]) for name, rows in values.items()})
    _, ivar = SpectrumReader(survey).read(table)
    lost = (ivar == 0).sum(axis=1)
    assert lost[0] == lost[2] and lost[1] == lost[0] + 1


def test_a_row_without_a_spectrum_has_no_data_once_rows_are_filtered() -> None:
    survey = load_survey("sdss_spectra")
    points = len(survey.wavelengths)
    ones, none = np.ones((3, points), np.float32), np.array([False, True, False])
    kinds = {one.name: arrow_type(one.kind, one.shape, one.axes) for one in survey.arrays}
    table = pa.table(
        {
            "flux": from_numpy(ones, kinds["flux"], none),
            "ivar": from_numpy(ones, kinds["ivar"]),
            "and_mask": from_numpy(np.zeros((3, points), np.int32), kinds["and_mask"]),
        }
    )
    for rows in (table, table.filter(pa.array([False, True, True])).combine_chunks()):
        _, ivar = SpectrumReader(survey).read(rows)
        place = 1 if rows.num_rows == 3 else 0
        assert not ivar[place].any() and ivar[place + 1].any()
