"""Errors of redshifts are as wide as redshifts scatter."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.spectra.errors import FEWEST, SIMULATED, calibrate, from_json, to_json


@pytest.mark.parametrize(("scale", "floor"), [(1.0, 0.0), (2.5, 0.0), (1.0, 1e-3), (1.5, 3e-4)])
def test_what_was_left_out_is_found(scale: float, floor: float) -> None:
    rng = np.random.default_rng(1)
    truth, curvature = rng.uniform(0.5, 3, 4000), 10 ** rng.uniform(-5, -3, 4000)
    wide = np.hypot(scale * curvature, floor * (1 + truth))
    z = truth + wide * rng.normal(size=4000)
    z[::50] += 0.5  # other minima
    kind = np.full(4000, "QSO")
    models = calibrate(kind, z, curvature, truth)
    found = from_json(to_json(models))["QSO"].errors(curvature, z)
    np.testing.assert_allclose(np.median(found / wide), 1.0, atol=0.08)
    pull = ((z - truth) / found)[np.abs(z - truth) < 0.01 * (1 + truth)]
    assert 0.95 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.05
    assert models["GALAXY"] == SIMULATED["GALAXY"]


def test_too_few_are_not_fitted() -> None:
    rows = FEWEST - 1
    z = np.full(rows, 0.1)
    models = calibrate(np.full(rows, "STAR"), z, np.full(rows, 1e-4), z + 1e-4)
    assert models == SIMULATED
