"""A simulated catalogue of spectra: the same rows however it is cut into batches and parts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import SpecError
from galbatch.mock.sky import sky_batches
from galbatch.mock.spectra import CHUNK
from galbatch.spec import load_survey
from galbatch.spec.survey import Survey


def table(batch_rows: int, first: int = 0, rows: int = 2 * CHUNK + 40) -> pa.Table:
    return pa.concat_tables(sky_batches(load_survey("sdss_spectra"), rows, 3, batch_rows, first))


def test_rows_do_not_depend_on_batches_or_parts() -> None:
    whole = table(100_000)
    assert whole.num_rows == 2 * CHUNK + 40
    assert table(90).equals(whole)
    assert table(300, CHUNK).equals(whole.slice(CHUNK).combine_chunks())


def test_columns_are_the_survey_s() -> None:
    found, survey = table(300, rows=300), load_survey("sdss_spectra")
    assert found.column_names == [column.name for column in survey.columns]
    assert set(found["CLASS"].to_pylist()) == {"GALAXY", "QSO", "STAR"}
    assert set(found["ZWARNING"].to_pylist()) == {0} and found["Z_ERR"].null_count == 300
    z = found["Z"].to_numpy()
    star = np.array(found["CLASS"].to_pylist()) == "STAR"
    assert (np.abs(z[star]) < 0.004).all() and (z[~star] > 0).all()
    ids = set(zip(*(found[name].to_pylist() for name in survey.id.parts), strict=True))
    assert len(ids) == 300
    assert (np.abs(found["dec"].to_numpy()) <= 90).all()


def test_another_axis_cannot_be_simulated() -> None:
    words = load_survey("sdss_spectra").model_dump(mode="json", exclude_unset=True)
    words["axes"][0]["step"] = 2e-4
    with pytest.raises(SpecError, match="even in the logarithm"):
        sky_batches(Survey.model_validate(words), 10, 1, 10)
