from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from galbatch.models.mixture import Mixture, cdf, quantiles
from galbatch.models.pdf import QUANTILES


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


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_a_row_does_not_depend_on_its_neighbours(size: int) -> None:
    mixture = random_mixture(7, n=5000)
    whole = quantiles(mixture, QUANTILES)
    some = slice(0, 60 if size == 1 else None)
    rows = range(len(mixture))[some]
    for start in rows[::size]:
        part = slice(start, start + size)
        cut = Mixture(mixture.weight[part], mixture.mean[part], mixture.sigma[part])
        np.testing.assert_array_equal(quantiles(cut, QUANTILES), whole[part])


def test_no_rows() -> None:
    empty = np.empty((0, 4), np.float32)
    assert quantiles(Mixture(empty, empty, empty), QUANTILES).shape == (0, 15)
