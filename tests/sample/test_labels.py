from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from galbatch.sample.labels import labels
from galbatch.spec.labels import StarLabel
from galbatch.spec.survey import Survey


def test_what_is_a_label(survey: Survey) -> None:
    table = pa.table(
        {
            "z_spec": [0.5, 0.5, 9.0, None, 0.5],
            "secure": [1, 0, 1, 1, 1],
            "kind": [0.0, 0.5, None, 0.0, 1.0],
            "mass": [1e10, -1.0, 0.0, float("inf"), 1e10],
            "type": [1, 6, 0, 7, 3],
        }
    )
    found = labels(survey, table)
    # Of the last, a star, nothing is known that is of galaxies; m_b has no column.
    expected = {
        "redshift": [0.5, np.nan, np.nan, np.nan, np.nan],
        "star": [0, np.nan, np.nan, 0, 1],
        "log_mass": [10, np.nan, np.nan, np.nan, np.nan],
        "spectral_type": [1, 6, np.nan, np.nan, np.nan],
        "abs_mag_b": [np.nan] * 5,
    }
    assert list(found) == list(expected)
    for target, values in expected.items():
        np.testing.assert_array_equal(found[target], values, err_msg=target)  # type: ignore[index]


def test_the_table_is_left_as_it_was(survey: Survey) -> None:
    z = np.array([0.5, 0.7])
    table = pa.table({"z_spec": z, "secure": [1, 1], "kind": [1, 0]})
    assert np.isnan(labels(survey, table)["redshift"][0])
    np.testing.assert_array_equal(z, [0.5, 0.7])


def test_a_range_of_galaxies() -> None:
    from galbatch.spec import load_survey

    found = labels(load_survey("zcosmos"), pa.table({"zpec": [0.0, 0.0005, 0.4, None]}))
    np.testing.assert_array_equal(found["star"], [1, np.nan, 0, np.nan])
    np.testing.assert_array_equal(found["redshift"], [np.nan, np.nan, 0.4, np.nan])


@pytest.mark.parametrize("kept", [False, True])
def test_quasars(survey: Survey, kept: bool) -> None:
    assert survey.labels.star is not None
    star = survey.labels.star.model_copy(update={"qso": (2.0, 3.0), "qso_redshifts": kept})
    told = survey.model_copy(update={"labels": survey.labels.model_copy(update={"star": star})})
    table = pa.table(
        {
            "z_spec": [0.5, 0.0, 2.0, 2.5],
            "secure": [1, 1, 1, 0],
            "kind": [0.0, 1.0, 2.0, 3.0],
            "mass": [1e10] * 4,
        }
    )
    found = labels(told, table)
    np.testing.assert_array_equal(found["star"], [0, 1, 2, 2])
    np.testing.assert_array_equal(found["redshift"], [0.5, np.nan, 2.0 if kept else np.nan, np.nan])
    np.testing.assert_array_equal(found["log_mass"], [10, np.nan, np.nan, np.nan])
    # Without the word, such a row is of an unknown class, and nothing else changes.
    np.testing.assert_array_equal(labels(survey, table)["star"], [0, 1, np.nan, np.nan])
    assert labels(survey, table)["log_mass"][2] == 10


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"qso": [1]}, "the value 1 cannot mean two classes"),
        ({"qso_redshifts": True}, "'qso' .values. must say which rows are quasars"),
    ],
)
def test_what_a_star_label_cannot_say(words: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        StarLabel.model_validate({"column": "kind", "galaxy": [0], "star": [1], **words})


def test_a_column_that_some_files_lack(survey: Survey) -> None:
    """In the catalogue their rows say nothing; a column that no file has asks nothing."""
    z = pa.array([0.5, 0.5, 0.5])
    secure = pa.array([1.0, None, -1.0])
    found = labels(survey, pa.table({"z_spec": z, "secure": secure}))
    np.testing.assert_array_equal(found["redshift"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(labels(survey, pa.table({"z_spec": z}))["redshift"], z)
    assert all(np.isnan(values).all() for values in labels(survey, pa.table({"x": z})).values())
