from __future__ import annotations

import json

import numpy as np
import pytest

from galbatch.models.thesis import Transform, thesis_inputs
from galbatch.spec import load_survey


@pytest.mark.parametrize("power", [1.0, 0.1])
def test_targets_come_back(power: float) -> None:
    transform = Transform(-24.0, -12.0, power)
    values = np.linspace(-24, -12, 25)
    learnt = transform.forward(values)
    assert learnt.min() == 0 and learnt.max() == 1
    np.testing.assert_allclose(transform.back(learnt), values, atol=1e-9)
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform


def test_an_output_below_zero_is_the_lowest_redshift() -> None:
    assert Transform(0.01, 1.5, 0.1).back(np.array([-0.3]))[0] == 0.01


def test_the_polynomial_stays_where_it_was_fitted() -> None:
    # x -> 2x + 1 of the value mapped to (-1, 1).
    transform = Transform(0.0, 1.0, polynomial=(1.0, 2.0))
    np.testing.assert_allclose(transform.corrected(np.array([0.0, 0.5, 1.0, 9.0])), [-1, 1, 3, 3])


def test_the_75_inputs() -> None:
    assert len(thesis_inputs(load_survey("alhambra"))) == 75
    other = thesis_inputs(load_survey("zcosmos"))
    assert other[:3] == ("id_zcosmos", "alpha", "delta") and len(other) == 3 + 24
