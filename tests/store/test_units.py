"""Names of units: what is put into one comes out of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galbatch.store import units
from galbatch.store.layout import file_name

MODELS = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True)
PARTITIONS = st.one_of(
    st.builds("o{}-p{}".format, st.integers(0, 29), st.integers(0, 10**9)),
    st.builds("rows-{:06d}".format, st.integers(0, 10**7)),
)


@given(MODELS, PARTITIONS)
def test_a_prediction_says_its_version_and_its_partition(version: str, partition: str) -> None:
    unit = units.prediction_unit(version, partition)
    assert (units.version_of(unit), units.partition_of(unit)) == (version, partition)
    assert units.version_of(f"{file_name(unit)}.json") == version
    assert (units.version_of(version), units.partition_of(version)) == (version, "")


@given(MODELS, st.integers(1, 1000))
def test_a_version_says_its_number(model: str, number: int) -> None:
    assert units.version_number(units.version_unit(model, number), model) == number


@pytest.mark.parametrize("unit", ["net-deep", "net_v", "net_v2x", "another"])
def test_another_model_is_no_version(unit: str) -> None:
    assert units.version_number(unit, "net") is None


def test_predictions_of_one_version_are_no_others() -> None:
    values = {"a": 1, "a.o1-p2": 2, "a_v2.o1-p2": 3, "a_v2": 4, "b.rows-000001": 5}
    assert units.predictions_of(values, "a") == {"o1-p2": 2}
    assert units.predictions_of(values, "a_v2") == {"o1-p2": 3}
    assert units.versions_of(values) == ["a", "a_v2", "b"]


@given(st.sampled_from(["scan", "predict", units.REJECTED, units.REPEATED]), st.text(min_size=1))
def test_what_is_quarantined_says_its_kind(kind: str, unit: str) -> None:
    assert units.split_rejected(units.rejected_unit(kind, unit)) == (kind, unit)
    assert units.unit_that_failed(units.failed_task(kind, unit)) == unit


def test_a_unit_without_a_kind_has_none() -> None:
    assert units.split_rejected("o3-p7") == ("", "o3-p7")
    assert units.split_rejected("o3-p7.csv") == ("", "o3-p7.csv")
