"""Errors of redshifts are as wide as redshifts scatter."""

from __future__ import annotations

import json

import numpy as np
import pytest

from galbatch.spectra.clean import signal_to_noise
from galbatch.spectra.errors import FEWEST, SIMULATED, calibrate, from_json, to_json


@pytest.mark.parametrize(("scale", "floor"), [(1.0, 0.0), (2.5, 0.0), (1.0, 1e-3), (1.5, 3e-4)])
def test_what_was_left_out_is_found(scale: float, floor: float) -> None:
    rng = np.random.default_rng(1)
    truth, curvature = rng.uniform(0.5, 3, 4000), 10 ** rng.uniform(-5, -3, 4000)
    wide = np.hypot(scale * curvature, floor * (1 + truth))
    z = truth + wide * rng.normal(size=4000)
    z[::50] += 0.5  # other minima
    kind = np.full(4000, "QSO")
    seen = 10 ** rng.uniform(0, 1.5, 4000)
    models = calibrate(kind, z, curvature, truth, seen)
    found = from_json(json.loads(json.dumps(to_json(models))))["QSO"].errors(curvature, z, seen)
    np.testing.assert_allclose(np.median(found / wide), 1.0, atol=0.08)
    pull = ((z - truth) / found)[np.abs(z - truth) < 0.01 * (1 + truth)]
    assert 0.95 < 1.4826 * np.median(np.abs(pull - np.median(pull))) < 1.05
    assert models["GALAXY"] == SIMULATED["GALAXY"]


def test_errors_follow_signal_to_noise_and_redshift() -> None:
    rng = np.random.default_rng(2)
    rows = 3000
    truth, curvature = rng.uniform(0.3, 3, rows), 10 ** rng.uniform(-5, -4, rows)
    seen = 10 ** rng.uniform(0, 1.5, rows)
    # Narrow lines until 1.2, broad ones beyond; both are better known where more is seen.
    wide = (1 + truth) * np.where(truth < 1.2, 2e-4, 1e-3) * seen**-0.3
    z = truth + wide * rng.normal(size=rows)
    kind = np.full(rows, "QSO")
    half = np.arange(rows) % 2 == 0
    parts = (kind[half], z[half], curvature[half], truth[half], seen[half])
    model = calibrate(*parts)["QSO"]
    pull = np.abs(z - truth) / model.errors(curvature, z, seen)
    for low, high in ((1, 3), (3, 10), (10, 32)):
        for near in (truth < 0.7, truth > 1.7):
            some = ~half & near & (seen >= low) & (seen < high)
            assert 0.8 < np.quantile(pull[some], 0.6827) < 1.25
    few = calibrate(*(part[:60] for part in parts))["QSO"]
    assert np.abs([value for factor in few.factors.values() for value in factor.values]).max() < 1.5


def test_signal_to_noise_is_that_of_the_pixels_with_data() -> None:
    flux = np.array([[2.0, 2.0, 99.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    ivar = np.array([[4.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(signal_to_noise(flux, ivar), [4.0, 0.0])


def test_too_few_are_not_fitted() -> None:
    rows = FEWEST - 1
    z = np.full(rows, 0.1)
    models = calibrate(np.full(rows, "STAR"), z, np.full(rows, 1e-4), z + 1e-4, np.ones(rows))
    assert models == SIMULATED
