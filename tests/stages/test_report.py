"""The rows that are judged: no more than asked for, whatever the size of the survey."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pandas.util import hash_array

from galbatch.stages.held_out import JudgedRows, Sample


def part(first: int, rows: int, below: np.uint64) -> JudgedRows:
    ids = np.arange(first, first + rows)
    rank = hash_array(ids, categorize=False)
    kept = rank < below
    table = pa.table({"id": ids[kept]})
    return JudgedRows(rank[kept], {"redshift": ids[kept] / 1000}, ids[kept] / 10.0, {"m": table})


def sampled(at_most: int, sizes: list[int]) -> tuple[Sample, np.ndarray]:
    sample, first = Sample(at_most), 0
    for rows in sizes:
        sample.add(part(first, rows, sample.below))
        first += rows
    kept = [one.predicted["m"]["id"].to_numpy() for one in sample.parts()]
    return sample, np.concatenate(kept)


def test_few_rows_are_all_judged() -> None:
    sample, ids = sampled(100, [40, 60])
    assert not sample.thinned
    np.testing.assert_array_equal(ids, np.arange(100))


def test_many_rows_are_a_sample_that_does_not_depend_on_the_partitions() -> None:
    sample, ids = sampled(100, [150, 1_000, 20, 3_000, 830])
    assert sample.thinned and sample.rows == len(ids) == 100
    _, others = sampled(100, [2_500, 2_500])
    np.testing.assert_array_equal(ids, others)
    # Drawn from everywhere, not from where the reading ended.
    assert 1_500 < ids.mean() < 3_500


def test_columns_stay_together_and_memory_is_bounded() -> None:
    sample, first = Sample(100), 0
    for _ in range(200):
        sample.add(part(first, 150, sample.below))
        first += 150
        assert sample.rows <= 350
    for one in sample.parts():
        ids = one.predicted["m"]["id"].to_numpy()
        np.testing.assert_array_equal(one.truth["redshift"], ids / 1000)
        np.testing.assert_array_equal(one.magnitude, ids / 10.0)
