"""Statistical laws that the metrics must show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtri
from scipy.stats import laplace, norm

from galbatch.quality.calibration import fit_pit_scale
from galbatch.quality.classes import auc
from galbatch.quality.distributions import cde_loss, coverage, crps, distribution_statistics, pit
from galbatch.quality.metrics import sigma_nmad

LEVELS = np.array(
    [0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995]
)
ROWS = 20_000
numbers = arrays(float, st.integers(3, 40), elements=st.floats(-100, 100))


@pytest.fixture(scope="module")
def sky() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True values drawn from Gaussians of known centre and width."""
    random = np.random.default_rng(7)
    centre, width = random.uniform(0, 2, ROWS), random.uniform(0.01, 0.1, ROWS)
    return centre, width, random.normal(centre, width)


def _quantiles(centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    return centre[:, None] + width[:, None] * ndtri(LEVELS)


def test_the_true_distribution_is_honest(sky: tuple[np.ndarray, ...]) -> None:
    centre, width, true = sky
    found = distribution_statistics(
        centre,
        true,
        interval68=(centre - width, centre + width),
        interval95=(centre - 1.96 * width, centre + 1.96 * width),
        quantiles=_quantiles(centre, width),
        levels=LEVELS,
    )
    assert found.rows == ROWS
    assert found.coverage68 == pytest.approx(0.6827, abs=0.01)
    assert found.coverage95 == pytest.approx(0.95, abs=0.006)
    assert found.pull_width == pytest.approx(1, abs=0.03)
    assert found.pull_median == pytest.approx(0, abs=0.03)
    # The distribution is known by 15 quantiles only.
    assert found.pit_ks < found.pit_ks_5percent + 0.008
    assert found.pit is not None
    assert np.std(found.pit.counts) < 0.1 * np.mean(found.pit.counts)


@pytest.mark.parametrize(("factor", "shape"), [(0.5, 1), (2.0, -1)])
def test_pit_is_hollow_when_too_narrow_and_humped_when_too_wide(
    sky: tuple[np.ndarray, ...], factor: float, shape: int
) -> None:
    centre, width, true = sky
    values = pit(true, _quantiles(centre, factor * width), LEVELS)
    middle = np.mean(np.abs(values - 0.5) < 0.25)
    assert np.sign(0.5 - middle) == shape


@pytest.mark.parametrize("claimed", [0.7, 1.0, 1.4])
def test_pulls_of_a_peaked_distribution_are_as_wide_as_its_intervals_claim(claimed: float) -> None:
    random = np.random.default_rng(11)
    centre, scale = random.uniform(0, 2, ROWS), random.uniform(0.01, 0.1, ROWS)
    true = centre + scale * random.laplace(size=ROWS)
    half = claimed * scale * laplace.ppf(0.84)
    found = distribution_statistics(centre, true, interval68=(centre - half, centre + half))
    assert found.pull_width == pytest.approx(1 / claimed, rel=0.03)
    assert found.pull_width_error == pytest.approx(0.008 / claimed, rel=0.5)


@pytest.mark.parametrize("score", [crps, cde_loss])
@pytest.mark.parametrize(("shift", "factor"), [(0.5, 1), (-0.5, 1), (0, 0.6), (0, 1.6)])
def test_no_other_distribution_scores_better_than_the_true_one(
    sky: tuple[np.ndarray, ...], score: object, shift: float, factor: float
) -> None:
    centre, width, true = sky
    assert callable(score)
    best = score(true, _quantiles(centre, width), LEVELS).mean()
    assert score(true, _quantiles(centre + shift * width, factor * width), LEVELS).mean() > best


def test_scaled_errors_cover_what_they_claim() -> None:
    random = np.random.default_rng(8)
    sigma = random.uniform(0.01, 0.1, ROWS)
    residual = 1.8 * sigma * random.normal(size=ROWS)
    pull = (residual / sigma)[: ROWS // 2]
    scaled = fit_pit_scale(lambda scale: norm.cdf(pull / scale)).apply(sigma[ROWS // 2 :])
    assert coverage(residual[ROWS // 2 :], -scaled, scaled) == pytest.approx(0.6827, abs=0.015)


def test_nmad_is_the_standard_deviation_of_a_gaussian() -> None:
    assert sigma_nmad(np.random.default_rng(9).normal(3, 0.2, 50_000)) == pytest.approx(
        0.2, rel=0.02
    )


@given(numbers, st.floats(-50, 50), st.floats(0.1, 10))
def test_nmad_follows_the_scale_and_ignores_the_place(
    values: np.ndarray, place: float, scale: float
) -> None:
    assert sigma_nmad(place + scale * values) == pytest.approx(
        scale * sigma_nmad(values), rel=1e-6, abs=1e-9
    )


@given(arrays(float, 30, elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_auc_of_the_opposite_is_the_opposite(scores: np.ndarray, random: object) -> None:
    label = np.arange(30) % 3 == 0
    assert auc(scores, label) + auc(-scores, label) == pytest.approx(1)
    assert auc(scores, label) + auc(scores, ~label) == pytest.approx(1)
    assert 0 <= auc(scores, label) <= 1


@given(st.integers(1, 30), st.integers(0, 2**31))
def test_pit_is_a_probability_that_grows_with_the_truth(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    quantiles = np.sort(random.normal(0, 1, (1, 15)), axis=1).repeat(rows, axis=0)
    true = np.sort(random.normal(0, 3, rows))
    found = pit(true, quantiles, LEVELS)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= -1e-12).all()
