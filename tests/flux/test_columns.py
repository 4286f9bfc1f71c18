from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from galbatch.errors import DataError
from galbatch.flux.columns import numbers, photometry_inputs, raw_photometry, vectors
from galbatch.spec import load_survey


def test_a_whole_float_column_is_not_copied() -> None:
    held = np.arange(5.0)
    assert np.shares_memory(numbers(pa.table({"a": held}), "a"), held)


def test_nulls_and_integers() -> None:
    table = pa.table({"a": pa.array([1, None, 3], pa.int16()), "b": [True, False, None]})
    np.testing.assert_array_equal(numbers(table, "a"), [1, np.nan, 3])
    np.testing.assert_array_equal(numbers(table, "b"), [1, 0, np.nan])


def test_chunks_and_slices_of_vectors() -> None:
    kind = pa.list_(pa.float32(), 2)
    column = pa.chunked_array(
        [pa.array([[1, 2], [3, 4]], kind), pa.array([[5, 6], None, [9, None]], kind)]
    )
    table = pa.table({"v": column})
    np.testing.assert_array_equal(
        vectors(table, "v", 2), [[1, 2], [3, 4], [5, 6], [np.nan, np.nan], [9, np.nan]]
    )
    np.testing.assert_array_equal(vectors(table.slice(1, 2), "v", 2), [[3, 4], [5, 6]])
    np.testing.assert_array_equal(vectors(table.slice(0, 0), "v", 2), np.empty((0, 2)))


def test_lists_of_any_length() -> None:
    table = pa.table({"v": pa.array([[1.0, 2.0], None, [], [3.0, 4.0]])})
    np.testing.assert_array_equal(
        vectors(table, "v", 2), [[1, 2], [np.nan, np.nan], [np.nan, np.nan], [3, 4]]
    )
    with pytest.raises(DataError, match="expected 3 values in a row, not 2"):
        vectors(table, "v", 3)


@pytest.mark.parametrize("column", ["text", "absent"])
def test_what_holds_no_numbers(column: str) -> None:
    with pytest.raises(DataError, match=column):
        numbers(pa.table({"text": ["a"]}), column)


def test_a_band_of_a_vector_survey() -> None:
    survey = load_survey("jpas")
    columns = survey.photometry.vectors
    assert columns is not None
    b = len(survey.bands)
    kind = pa.list_(pa.float32(), b)
    made = {
        name: pa.array([list(range(b))], kind)
        for name in photometry_inputs(survey, survey.band_names)
        if survey.column[name].shape
    }
    others = [n for n in photometry_inputs(survey, survey.band_names) if n not in made]
    table = pa.table(made | {name: [0.0] for name in others})
    raw = raw_photometry(table, survey, [survey.band_names[7], survey.band_names[2]])
    np.testing.assert_array_equal(raw.value, [[7, 2]])
    if columns.mask:
        assert raw.mask is not None and raw.mask.all()


def test_bands_with_columns_of_their_own() -> None:
    survey = load_survey("zcosmos")
    assert photometry_inputs(survey, ["k", "u"]) == (
        "k_photzi25",
        "ek_photzi25",
        "u_photzi25",
        "eu_photzi25",
    )


def test_what_need_not_be_there_is_none() -> None:
    survey = load_survey("jpas")
    b = len(survey.bands)
    kind = pa.list_(pa.float32(), b)
    bands = {name: pa.array([[20.0] * b], kind) for name in ("MAG_AUTO", "MAG_ERR_AUTO")}
    raw = raw_photometry(pa.table(bands), survey, survey.band_names, reddening=True)
    assert raw.mask is None and raw.reddening is None
    whole = bands | {"MASK_FLAGS": pa.array([[1] * b], kind), "EBV": [0.1]}
    raw = raw_photometry(pa.table(whole), survey, survey.band_names)
    assert raw.mask is not None and raw.mask.all()
    # It is read where it is asked for.
    assert raw.reddening is None and "EBV" not in photometry_inputs(survey, ["rSDSS"])
    assert "EBV" in photometry_inputs(survey, ["rSDSS"], reddening=True)
    raw = raw_photometry(pa.table(whole), survey, ["rSDSS"], reddening=True)
    assert raw.reddening == [0.1]
    with pytest.raises(DataError, match="'MAG_AUTO': is not in the table"):
        raw_photometry(pa.table({"EBV": [0.1]}), survey, ["rSDSS"])
    alhambra = load_survey("alhambra")
    columns = {name: [20.0] for name in alhambra.photometry_columns}
    assert raw_photometry(pa.table(columns), alhambra, alhambra.band_names).saturated is None
