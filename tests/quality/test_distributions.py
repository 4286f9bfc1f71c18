"""Statistics of uncertainties against hand numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from galbatch.quality.distributions import (
    cde_loss,
    coverage,
    crps,
    distribution_statistics,
    pit,
    pulls,
)

LEVELS = np.array(
    [0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995]
)


def test_coverage_and_pulls_by_hand() -> None:
    true = [1.0, 2.0, 3.0, np.nan]
    low, high = [0.5, 2.5, 3.0, 0.0], [1.5, 3.5, 4.0, 9.0]
    assert coverage(true, low, high) == pytest.approx(2 / 3)
    np.testing.assert_allclose(pulls([1.25, 2.0, 3.5, 0.0], true, low, high)[:3], [0.5, 0, 1])
    assert np.isnan(pulls([1.0], [1.0], [2.0], [2.0])).all()


def test_pit_of_a_gaussian() -> None:
    quantiles = np.tile(0.5 + 0.1 * norm.ppf(LEVELS), (201, 1))
    true = np.linspace(0.1, 0.9, 201)
    found = pit(true, quantiles, LEVELS)
    np.testing.assert_allclose(found, norm.cdf(true, 0.5, 0.1), atol=0.012)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(pit(quantiles[0, :3], quantiles[:3], LEVELS), LEVELS[:3])


def test_pit_far_out_and_of_nothing() -> None:
    quantiles = np.tile(norm.ppf(LEVELS), (3, 1))
    found = pit([-1e9, 1e9, np.nan], quantiles, LEVELS)
    np.testing.assert_array_equal(found, [0, 1, np.nan])


def test_coinciding_quantiles_are_survived() -> None:
    found = pit([0.0, 1.0], np.full((2, 15), 0.5), LEVELS)
    assert np.isfinite(found).all()
    assert np.isfinite(cde_loss([0.0, 1.0], np.full((2, 15), 0.5), LEVELS)).all()


def test_crps_of_a_gaussian() -> None:
    true = np.array([0.0, 0.5, -1.0])
    quantiles = np.tile(norm.ppf(LEVELS), (3, 1))
    # Gneiting & Raftery (2007), eq. 5.
    exact = true * (2 * norm.cdf(true) - 1) + 2 * norm.pdf(true) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(true, quantiles, LEVELS), exact, atol=0.02)


def test_cde_loss_of_a_gaussian() -> None:
    true = norm.ppf((np.arange(400) + 0.5) / 400)
    quantiles = np.tile(norm.ppf(LEVELS), (400, 1))
    # The mean over Gaussian truth is -int p^2.
    found = cde_loss(true, quantiles, LEVELS).mean()
    assert found == pytest.approx(-1 / (2 * np.sqrt(np.pi)), abs=0.005)


def test_statistics_without_anything_to_judge() -> None:
    found = distribution_statistics([1.0], [1.0])
    assert np.isnan(found.coverage68)
    assert found.pit is None
    assert found.to_json()["crps"] is None


@pytest.mark.parametrize(
    ("quantiles", "levels", "message"),
    [
        (np.zeros((2, 3)), [0.1, 0.5], "shape"),
        (np.zeros((2, 2)), [0.5, 0.1], "ascend"),
        (np.zeros((2, 2)), [0.0, 0.5], "ascend"),
    ],
)
def test_wrong_quantiles_are_refused(
    quantiles: np.ndarray, levels: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pit([0.0, 0.0], quantiles, levels)
