"""Properties of groups are those of numpy, group by group."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from galbatch.maps.properties import properties_of


@given(st.integers(0, 200), st.integers(1, 9), st.integers(0, 2**16))
def test_they_are_those_of_a_plain_loop(rows: int, many: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(-1, many, rows)
    age = rng.normal(size=rows).round(1)
    age[rng.random(rows) < 0.2] = np.nan
    found = properties_of(groups, many, {"age": age, "z": np.full(rows, np.inf)})
    for group in range(many):
        values = age[(groups == group) & np.isfinite(age)]
        assert found.rows[group] == (groups == group).sum()
        assert np.isnan(found.median["z"][group])
        if len(values):
            low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
            np.testing.assert_allclose(found.median["age"][group], middle, atol=1e-12)
            np.testing.assert_allclose(found.spread["age"][group], (high - low) / 2, atol=1e-12)
        else:
            assert np.isnan(found.median["age"][group]) and np.isnan(found.spread["age"][group])


def test_json_has_no_nan() -> None:
    found = properties_of(np.array([0]), 2, {"age": np.array([3.0])}).to_json()
    assert json.dumps(found, allow_nan=False)
    assert found["median"]["age"] == [3.0, None] and found["rows"] == [1, 0]
