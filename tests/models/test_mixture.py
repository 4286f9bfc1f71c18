from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from galbatch.models.mixture import (
    QUANTILES,
    Mixture,
    cdf,
    density,
    density_of_quantiles,
    quantiles,
    redshift_statistics,
)
from galbatch.quality.distributions import pit


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
    assert np.quantile(off, 0.99) < 1e-5 and off.max() < 1e-4
    assert (np.diff(found, axis=1) >= -1e-6).all()


def test_quantiles_on_a_plateau_and_in_narrow_peaks() -> None:
    rng = np.random.default_rng(2)
    n, k = 400, 6
    mean = np.where(np.arange(k) < 3, 0.2, 1.4) + rng.normal(0, 0.01, (n, k))
    sigma = 10 ** rng.uniform(-3, -1.5, (n, k))
    weight = rng.dirichlet(np.full(k, 0.3), n)
    mixture = Mixture(*(array.astype(np.float32) for array in (weight, mean, sigma)))
    levels = (1e-3, *QUANTILES, 0.999)
    found = quantiles(mixture, levels)
    # A float32 redshift near 1.4 is told apart from the next in steps of 1e-7: 5e-5 of a peak.
    np.testing.assert_allclose(
        exact(mixture, found), np.broadcast_to(levels, found.shape), atol=1e-4
    )


@pytest.mark.parametrize("seed", [11, 12])
def test_redshift_statistics_against_brute_force(seed: int) -> None:
    """In float64, by bisection and by a grid, as slow as it takes."""
    mixture, width, highest = random_mixture(seed, n=80, k=20), 0.02, 4.0
    z = redshift_statistics(mixture, width, highest)
    top = np.log1p(highest)
    weight, mean, sigma = (a.astype(float) for a in (mixture.weight, mixture.mean, mixture.sigma))
    below, reached = exact(mixture, np.array([[0.0, top]]).repeat(80, 0)).T
    goal = below[:, None] + np.array(QUANTILES) * (reached - below)[:, None]
    low, high = np.zeros_like(goal), np.full_like(goal, top)
    for _ in range(50):
        middle = (low + high) / 2
        short = exact(mixture, middle) < goal
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    height = weight / sigma / np.sqrt(2 * np.pi)
    there = height[:, :, None] * np.exp(
        -0.5 * ((low[:, None] - mean[:, :, None]) / sigma[:, :, None]) ** 2
    )
    # What float32 leaves of a probability, over the density: a redshift's own uncertainty.
    allowed = (2e-6 + 1e-6 / there.sum(axis=1)) * (1 + np.expm1(low))
    off = np.abs(z.quantiles - np.expm1(low))
    assert (off < allowed).mean() > 0.99 and (off < 20 * allowed).all()

    def density(zeta: np.ndarray) -> np.ndarray:
        away = (zeta[:, None] - mean[:, :, None]) / sigma[:, :, None]
        return (height[:, :, None] * np.exp(-0.5 * away**2)).sum(axis=1) * np.exp(-zeta)

    peak = density(np.broadcast_to(np.linspace(0, top, 4001), (80, 4001))).max(axis=1)
    assert (density(np.log1p(z.mode[:, None]))[:, 0] > 0.999 * peak).all()
    tilted = weight * np.exp(mean + sigma**2 / 2)
    share = norm.cdf((top - mean - sigma**2) / sigma) - norm.cdf((-mean - sigma**2) / sigma)
    np.testing.assert_allclose(z.mean, (tilted * share).sum(1) / (reached - below) - 1, atol=1e-5)
    ends = np.log1p(z.mode[:, None].astype(float)) + np.log1p([-width, width])
    odds = np.diff(exact(mixture, np.clip(ends, 0, top)), axis=1)[:, 0] / (reached - below)
    np.testing.assert_allclose(z.odds, odds, atol=2e-5)


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_a_row_does_not_depend_on_its_neighbours(size: int) -> None:
    mixture = random_mixture(7, n=5000)
    whole = redshift_statistics(mixture, 0.02, 6.0)
    some = slice(0, 60 if size == 1 else None)
    rows = range(len(mixture))[some]
    for start in rows[::size]:
        part = slice(start, start + size)
        cut = Mixture(mixture.weight[part], mixture.mean[part], mixture.sigma[part])
        found = redshift_statistics(cut, 0.02, 6.0)
        for name, values in vars(found).items():
            np.testing.assert_array_equal(values, getattr(whole, name)[part], err_msg=name)


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


UNEVEN = np.concatenate([np.arange(0, 1, 0.004), np.arange(1, 6.01, 0.02)])


@pytest.mark.parametrize("grid", [np.linspace(0, 3, 301), UNEVEN, np.array([0.2, 0.3, 1.5])])
def test_densities_integrate_to_one(grid: np.ndarray) -> None:
    mixture = random_mixture(3, n=300)
    z = redshift_statistics(mixture, 0.02, 7.0)
    for found in (density(mixture, grid), density_of_quantiles(z.quantiles, QUANTILES, grid)):
        assert found.dtype == np.float32 and found.shape == (300, len(grid))
        np.testing.assert_allclose(np.trapezoid(found.astype(float), grid, axis=1), 1, atol=2e-6)
        assert (found >= 0).all()


def test_density_is_that_of_the_mixture_in_redshift() -> None:
    mixture = random_mixture(4, n=30)
    grid = np.arange(0, 8, 5e-4)
    zeta = np.log1p(grid)
    sought = np.zeros((30, len(grid)))
    for weight, mean, sigma in zip(
        mixture.weight.T, mixture.mean.T, mixture.sigma.T.astype(float), strict=True
    ):
        sought += weight[:, None] * norm.pdf(zeta, mean[:, None], sigma[:, None]) / (1 + grid)
    sought /= np.trapezoid(sought, grid, axis=1)[:, None]
    found = density(mixture, grid)
    off = np.abs(found - sought) / sought.max(axis=1, keepdims=True)
    assert off[:, 1:-1].max() < 5e-3
    moment = np.trapezoid(found * grid, grid, axis=1)
    np.testing.assert_allclose(moment, redshift_statistics(mixture, 0.02, 8.0).mean, atol=2e-3)


def test_a_peak_narrower_than_a_step_is_not_lost() -> None:
    parts = ([[0.3, 0.7]], [[0.1, 0.4052]], [[1e-3, 1e-3]])
    narrow = Mixture(*(np.array(part, np.float32) for part in parts))
    found = density(narrow, np.linspace(0, 2, 41))[0]
    assert found[:5].sum() * 0.05 == pytest.approx(0.3, abs=1e-4)
    assert found[8:13].sum() * 0.05 == pytest.approx(0.7, abs=1e-4)


def test_density_of_rows_beyond_the_grid_and_without_photometry() -> None:
    mean = np.array([[-3.0], [3.0], [np.nan]], np.float32)
    rows = Mixture(np.ones((3, 1), np.float32), mean, np.full((3, 1), 0.01, np.float32))
    grid = np.linspace(0, 2, 21)
    found = density(rows, grid)
    np.testing.assert_allclose(found[:2, [0, -1]], [[20, 0], [0, 20]], rtol=1e-5)
    assert not found[:2, 1:-1].any() and np.isnan(found[2]).all()
    levels = np.array([[0.1] * 15, [np.nan] * 15, [-50.0] * 15, [50.0] * 15], np.float32)
    found = density_of_quantiles(levels, QUANTILES, grid)
    np.testing.assert_allclose(np.trapezoid(found, grid)[[0, 2, 3]], 1, rtol=1e-6)
    assert np.isnan(found[1]).all() and found[2, 0] > 0 and found[3, -1] > 0
    with pytest.raises(ValueError, match="ascending"):
        density(rows, grid[::-1])


def test_density_of_quantiles_is_the_one_that_quality_judges() -> None:
    mixture = random_mixture(6)
    z = redshift_statistics(mixture, 0.02, 7.0)
    grid = np.linspace(-2, 9, 20001)
    found = density_of_quantiles(z.quantiles, QUANTILES, grid).astype(float)
    reached = np.cumsum(found, axis=1) * (grid[1] - grid[0])
    for point in (4000, 4500, 5500):
        edge = np.full(len(mixture), (grid[point] + grid[point + 1]) / 2)
        np.testing.assert_allclose(reached[:, point], pit(edge, z.quantiles, QUANTILES), atol=2e-3)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_both_densities_put_the_same_probability_in_the_same_place(seed: int) -> None:
    mixture = random_mixture(seed, n=20)
    z = redshift_statistics(mixture, 0.02, 7.0)
    grid = np.linspace(0, 7, 701)
    of_mixture, of_quantiles = (
        np.cumsum(found.astype(float), axis=1) * 0.01
        for found in (density(mixture, grid), density_of_quantiles(z.quantiles, QUANTILES, grid))
    )
    assert np.abs(of_mixture - of_quantiles).mean() < 0.02
