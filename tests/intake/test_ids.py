"""Ids, exactly as their files hold them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from galbatch.intake.ids import (
    as_wanted,
    beyond,
    id_type,
    integers,
    made_id,
    no_ids,
    refused_parts,
)
from galbatch.spec import Survey, load_survey
from galbatch.spec.columns import Column


def column(values: object, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1237648720000000001", " 7", "", "-3", "12.0"], pa.int64()),
        (["9223372036854775807"], pa.int64()),
        (["18446744073709551615", "1"], pa.uint64()),
        (["007", "8"], pa.string()),
        (["SDSS J1", "8"], pa.string()),
        (["1.5"], pa.int64()),
        (["1.00033E+18", "3"], pa.int64()),
        (["1.5", "x"], pa.string()),
        (["", ""], pa.int64()),
        ([], pa.int64()),
    ],
)
def test_text_formats_are_looked_at(values: list[str], expected: pa.DataType) -> None:
    assert id_type(Column(name="id"), None, column(values, pa.string())) == expected


def test_the_survey_s_word_wins_and_binary_integers_stay() -> None:
    assert id_type(Column(name="id", dtype="string"), pa.int32(), None) == pa.string()
    assert id_type(Column(name="id"), pa.uint16(), None) == pa.uint16()
    assert id_type(Column(name="id"), pa.float64(), None) == pa.int64()
    assert id_type(Column(name="id"), pa.large_string(), None) == pa.string()


def with_parts(parts: list[str], **dtypes: str) -> Survey:
    raw = load_survey("lsst_dc2").model_dump(exclude_unset=True)
    del raw["mock"]
    raw["id"] = {"column": "made", "parts": parts}
    raw["columns"] = [
        *raw["columns"],
        {"name": "made"},
        *({"name": part, "dtype": dtypes.get(part)} for part in parts),
    ]
    return Survey.model_validate(raw)


def test_two_integers_are_one_number() -> None:
    survey = with_parts(["high", "low"])
    high = column([2, 2**31 - 1, 2**31, -1, 0], pa.int64())
    low = column([7, 2**32 - 1, 0, 0, 2**32], pa.int64())
    assert refused_parts(survey, "high", high)[1].tolist() == [False, False, True, True, False]
    expected, bad = refused_parts(survey, "low", low)
    assert bad.tolist() == [False, False, False, False, True]
    assert expected == "a whole number from 0 to 4294967295, a part of the id"
    assert made_id(survey, [high, low]).to_pylist()[:2] == [2 * 2**32 + 7, 2**63 - 1]


def test_a_part_that_is_no_integer_is_refused() -> None:
    assert refused_parts(with_parts(["high", "low"]), "low", column([1.0, 2.5]))[1].all()


def test_three_parts_and_text_make_text() -> None:
    survey = with_parts(["tile", "field", "number"])
    parts = [column([1, 1]), column([23, 2]), column([4, 34])]
    assert made_id(survey, parts).to_pylist() == ["1-23-4", "1-2-34"]
    survey = with_parts(["tile", "number"], tile="string")
    assert made_id(survey, [column(["a", "b"]), column([1, 2])]).to_pylist() == ["a-1", "b-2"]
    assert refused_parts(survey, "tile", column(["a-1", "b"]))[1].tolist() == [True, False]
    assert refused_parts(survey, "number", column([-1, 1]))[1].tolist() == [True, False]


def test_an_id_cannot_be_a_float() -> None:
    raw = load_survey("alhambra").model_dump(exclude_unset=True)
    raw["columns"] = [{"name": "ID", "dtype": "float64"}, *raw["columns"][1:]]
    with pytest.raises(ValueError, match="an id cannot be float64, which rounds long ones"):
        Survey.model_validate(raw)


def test_ids_take_the_type_that_the_survey_says() -> None:
    whole = column([-1, 7], pa.int64())
    assert beyond(Column(name="id", dtype="uint64"), whole).tolist() == [True, False]
    large = column([2**63, 7], pa.uint64())
    assert beyond(Column(name="id", dtype="int64"), large).tolist() == [True, False]
    assert not beyond(Column(name="id", dtype="string"), large).any()
    text = as_wanted(Column(name="id", dtype="string"), large)
    assert text.to_pylist() == ["9223372036854775808", "7"]
    assert as_wanted(Column(name="id"), large) is large


def test_words_for_nothing_are_no_ids() -> None:
    words = column(["None", " ", "\\N", "--", None, "N/A", "nan", "J1", "0"])
    assert no_ids(words).to_pylist() == [True] * 7 + [False] * 2


def test_text_becomes_the_integers_that_the_first_ids_are() -> None:
    text = column([" 12", "+7", "3.0", "0000001", "x", "", None, "9223372036854775808", "-5"])
    found, bad = integers(text, pa.int64())
    assert found.to_pylist() == [12, 7, 3, None, None, None, None, None, -5]
    assert np.flatnonzero(bad).tolist() == [3, 4, 7]
    found, bad = integers(text, pa.uint64())
    assert found.to_pylist()[7] == 2**63
    assert np.flatnonzero(bad).tolist() == [3, 4, 8]
