"""How strange fits are among simulated ones."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from galbatch.spectra.anomalies import from_json, learn_strangeness, strangeness, to_json
from galbatch.spectra.doubts import residual_peaks


def fits(seed: int, rows: int) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Chi-square is larger where more is seen, as what templates do not know is."""
    rng = np.random.default_rng(seed)
    seen = 10 ** rng.uniform(0, 1.5, rows)
    reduced = 1 + 0.02 * rng.standard_normal(rows) + seen / 30
    numbers = np.stack([reduced, -0.02 * seen * rng.exponential(1, rows), rng.gumbel(4, 0.4, rows)])
    return np.where(rng.random(rows) < 0.6, "GALAXY", "QSO"), seen, numbers


def test_shares_of_usual_fits_are_even_and_strange_ones_are_small() -> None:
    model = from_json(json.loads(json.dumps(to_json(learn_strangeness(*fits(1, 6000))))))
    kind, seen, numbers = fits(2, 6000)
    share = strangeness(model, kind, seen, numbers)
    for limit in (0.01, 0.1, 0.5):
        assert abs((share <= limit).mean() - limit) < 0.03 + 0.1 * limit
    for low, high in ((1, 4), (15, 32)):
        part = (seen > low) & (seen < high)
        assert 0.06 < (share[part] <= 0.1).mean() < 0.15
    for place, value in ((0, 3.5), (1, 0.1), (2, 15.0)):
        strange = numbers.copy()
        strange[place] = value
        assert strangeness(model, kind, seen, strange).max() < 0.01
    assert np.isnan(strangeness(model, np.array(["STAR", ""]), seen[:2], numbers[:, :2])).all()


def test_pixels_that_are_off_together_stand_out() -> None:
    rng = np.random.default_rng(3)
    left, weights = rng.standard_normal((3, 4000)), np.ones((3, 4000))
    left[1, 1000:1025] += 3.0
    left[2, 1000] += 9.0
    left[:, 2000:2100], weights[:, 2000:2100] = 1e3, 0.0
    peaks = residual_peaks(left, weights)
    assert 3 < peaks[0] < 5 and peaks[1] > 12 and peaks[2] < 6
    np.testing.assert_allclose(residual_peaks(1e9 * left, 1e-18 * weights), peaks, rtol=1e-6)
    assert residual_peaks(left, 0.0 * weights).tolist() == [0, 0, 0]
