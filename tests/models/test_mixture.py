from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from galbatch.models.mixture import QUANTILES, Mixture, cdf, quantiles, redshift_statistics


def random_mixture(seed: int, n: int = 60, k: int = 12) -> Mixture:
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.full(k, 0.5), n)
    mean = rng.uniform(0.1, 1.0, (n, 1)) + rng.normal(0, 0.05, (n, k))
    mean += (rng.random((n, k)) < 0.2) * rng.normal(0, 0.3, (n, k))
    sigma = np.exp(rng.uniform(np.log(0.003), np.log(0.2), (n, k)))
    return Mixture(*(array.astype(np.float32) for array in (weight, np.abs(mean), sigma)))


def exact(mixture: Mixture, points: np.ndarray) -> np.ndarray:
    away = (points[:, None, :] - mixture.mean[:, :, None]) / mixture.sigma[:, :, None]
    return (mixture.weight[:, :, None] * norm.cdf(away.astype(float))).sum(axis=1)


def test_cumulative_against_scipy() -> None:
    mixture = random_mixture(1)
    points = np.linspace(-0.5, 2, 101, dtype=np.float32)[None].repeat(len(mixture), 0)
    np.testing.assert_allclose(cdf(mixture, points), exact(mixture, points), atol=3e-6)


def test_one_gaussian_has_textbook_quantiles() -> None:
    one = Mixture(*(np.full((3, 1), value, np.float32) for value in (1.0, 2.0, 0.5)))
    np.testing.assert_allclose(
        quantiles(one, QUANTILES), norm.ppf(QUANTILES, 2, 0.5)[None].repeat(3, 0), atol=2e-5
    )


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_quantiles_invert_the_cumulative(seed: int) -> None:
    mixture = random_mixture(seed)
    found = quantiles(mixture, QUANTILES)
    reached = exact(mixture, found)
    off = np.abs(reached - QUANTILES)
    assert np.quantile(off, 0.99) < 1e-4 and off.max() < 1e-2
    assert (np.diff(found, axis=1) >= -1e-6).all()


def test_redshift_statistics_against_a_fine_grid() -> None:
    mixture = random_mixture(5)
    z = redshift_statistics(mixture, odds_width=0.03, highest=12.0)
    grid = np.arange(0, 12, 2e-4)
    zeta = np.log1p(grid)
    for i in range(len(mixture)):
        away = (zeta - mixture.mean[i][:, None]) / mixture.sigma[i][:, None].astype(float)
        density = (mixture.weight[i] / mixture.sigma[i]) @ np.exp(-(away**2) / 2) / (1 + grid)
        share = density / density.sum()
        reached = np.cumsum(share) - share / 2  # at the middle of a step
        assert np.interp(z.mode[i], grid, density) > 0.995 * density.max()
        assert z.mean[i] == pytest.approx((share * grid).sum(), abs=2e-3)
        np.testing.assert_allclose(np.interp(z.quantiles[i], grid, reached), QUANTILES, atol=6e-3)
        near = np.abs(grid - z.mode[i]) <= 0.03 * (1 + z.mode[i])
        assert z.odds[i] == pytest.approx(share[near].sum(), abs=6e-3)
    np.testing.assert_array_equal(z.median, z.quantiles[:, QUANTILES.index(0.5)])


def test_nothing_lies_in_front_of_us() -> None:
    # Half of the mass at 0, and all of it below.
    mean = np.array([[0.0], [-0.5]], np.float32)
    z = redshift_statistics(
        Mixture(np.ones((2, 1), np.float32), mean, np.full((2, 1), 0.1, np.float32)), 0.02, 7.0
    )
    for values in (z.mode, z.mean, z.quantiles, z.odds):
        assert np.isfinite(values).all() and (values >= 0).all()
    # What is left of a Gaussian cut at its mean: its median is the 75 % point.
    assert np.log1p(z.median[0]) == pytest.approx(0.1 * norm.ppf(0.75), abs=1e-4)
    assert (z.odds <= 1).all()


def test_no_redshift_is_beyond_the_highest() -> None:
    mean = np.array([[2.0], [9.0], [1.0], [1.0]], np.float32)
    sigma = np.array([[0.1], [0.1], [40.0], [1e-3]], np.float32)
    z = redshift_statistics(Mixture(np.ones((4, 1), np.float32), mean, sigma), 0.02, 6.0)
    for values in (z.mode, z.mean, z.quantiles):
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 6.0001).all()
    assert z.mean[3] == pytest.approx(np.e - 1, abs=1e-3)


def test_no_rows() -> None:
    empty = np.empty((0, 4), np.float32)
    assert redshift_statistics(Mixture(empty, empty, empty), 0.02, 7.0).quantiles.shape == (0, 15)
