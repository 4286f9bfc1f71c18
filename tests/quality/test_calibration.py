"""Calibrations find what was put in, and survive a round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, ndtr, softmax

from galbatch.quality.calibration import (
    LogitScale,
    SigmaScale,
    SoftmaxScale,
    fit_logit_scale,
    fit_pit_scale,
    fit_softmax_scale,
)


def of_residuals(residual: np.ndarray, sigma: np.ndarray) -> SigmaScale:
    """The factor for Gaussian errors."""
    return fit_pit_scale(lambda scale: ndtr(residual / (scale * sigma)))


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_finds_the_factor_on_sigma(factor: float) -> None:
    random = np.random.default_rng(1)
    sigma = random.uniform(0.01, 0.2, 4000)
    residual = factor * sigma * random.normal(size=4000)
    found = of_residuals(residual, sigma)
    assert found.scale == pytest.approx(factor, rel=0.06)
    assert found.rows == 4000
    assert found.distance < 1e-3


def test_outliers_hardly_move_the_factor() -> None:
    random = np.random.default_rng(2)
    sigma = np.full(4000, 0.1)
    residual = sigma * random.normal(size=4000)
    residual[:120] = 1e6
    assert of_residuals(residual, sigma).scale == pytest.approx(1.0, abs=0.1)


def test_rows_that_are_not_finite_are_left_out() -> None:
    random = np.random.default_rng(3)
    sigma = np.full(300, 0.1)
    residual = 2 * sigma * random.normal(size=300)
    dirty = np.concatenate((residual, [np.nan, 1.0]))
    assert of_residuals(dirty, np.concatenate((sigma, [0.1, np.nan]))) == of_residuals(
        residual, sigma
    )


def test_too_few_rows_change_nothing() -> None:
    assert of_residuals(np.full(5, 0.1), np.full(5, 0.1)) == SigmaScale()
    assert of_residuals(np.empty(0), np.empty(0)) == SigmaScale()
    assert fit_pit_scale(lambda _: np.full(50, np.nan)) == SigmaScale()
    assert fit_logit_scale([1.0] * 5, [1.0] * 5) == LogitScale()
    assert fit_logit_scale(np.ones(100), np.ones(100)) == LogitScale()


def test_scale_of_a_mixture() -> None:
    random = np.random.default_rng(4)
    which = random.random(4000) < 0.3
    value = np.where(which, 1.0, 0.0) + 0.15 * random.normal(size=4000)
    found = fit_pit_scale(
        lambda scale: 0.3 * ndtr((value - 1) / (0.1 * scale)) + 0.7 * ndtr(value / (0.1 * scale))
    )
    assert found.scale == pytest.approx(1.5, rel=0.07)


def test_platt_finds_the_line() -> None:
    random = np.random.default_rng(5)
    logit = random.normal(0, 3, 20_000)
    label = (random.random(20_000) < expit(0.5 * logit + 0.7)).astype(float)
    label[:100] = np.nan
    found = fit_logit_scale(logit, label)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(0.7, abs=0.06)
    assert found.rows == 19_900
    assert fit_logit_scale(logit, label, intercept=False).intercept == 0


def test_separable_classes_keep_a_finite_positive_slope() -> None:
    logit = np.repeat([-5.0, 5.0], 50)
    assert 0 < fit_logit_scale(logit, logit > 0).slope < 3
    assert fit_logit_scale(-logit, logit > 0).slope > 0


def test_apply_keeps_dtype_and_never_overflows() -> None:
    logit = np.array([-1e30, 0.0, 1e30], np.float32)
    probability = LogitScale(2.0, 0.0, 9).apply(logit)
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability, [0, 0.5, 1])
    sigma = SigmaScale(1.5, 9).apply(np.ones((2, 3), np.float32))
    assert sigma.dtype == np.float32
    assert sigma.shape == (2, 3)


@pytest.fixture
def three_classes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are too steep and shifted, the right probabilities, and classes drawn by them."""
    random = np.random.default_rng(6)
    log = random.normal((1.0, 0.0, -2.0), 2, (20_000, 3))
    right = softmax(log, axis=1)
    label = (right.cumsum(axis=1) < random.random(20_000)[:, None]).sum(axis=1).astype(float)
    # A constant in a row means nothing.
    return 3 * log + [0.0, 1.0, 2.0] + random.normal(0, 5, (20_000, 1)), right, label


def test_several_classes_get_their_probabilities_back(
    three_classes: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    logits, right, label = three_classes
    label[:100] = np.nan
    found = fit_softmax_scale(logits, label)
    assert found.rows == 19_900
    assert found.slope == pytest.approx(1 / 3, rel=0.04)
    assert found.intercepts == pytest.approx((0.0, -1 / 3, -2 / 3), abs=0.1)
    assert np.abs(found.apply(logits) - right).max() < 0.03


def test_two_of_several_classes_are_platts_line() -> None:
    random = np.random.default_rng(7)
    logit = random.normal(0, 3, 5000)
    label = (random.random(5000) < expit(0.5 * logit + 0.7)).astype(float)
    line = fit_logit_scale(logit, label)
    found = fit_softmax_scale(np.stack([np.zeros(5000), logit], axis=1), label)
    assert found.slope == pytest.approx(line.slope, rel=1e-3)
    assert found.intercepts == pytest.approx((0.0, line.intercept), abs=1e-3)


def test_several_classes_that_separate_or_are_missing() -> None:
    place = np.repeat([0.0, 1.0, 2.0], 50)
    logits = 8.0 * (place[:, None] == np.arange(3))
    assert 0 < fit_softmax_scale(logits, place).slope < 3
    assert fit_softmax_scale(logits, np.minimum(place, 1)) == SoftmaxScale()
    assert fit_softmax_scale(logits[:10], place[:10]) == SoftmaxScale()


def test_probabilities_of_several_classes_never_overflow() -> None:
    logits = np.array([[1e30, 0.0, -1e30], [-1e30, 0.0, 1e30], [0.0, 0.0, 0.0]], np.float32)
    found = SoftmaxScale(2.0, (0.0, 0.0, 0.0), 9).apply(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found[:2], [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(
        SoftmaxScale().apply(logits[2:]), SoftmaxScale().apply(logits)[2:]
    )


@pytest.mark.parametrize(
    "value",
    [
        SigmaScale(1.25, 40, 0.001),
        LogitScale(0.8, -0.1, 55),
        SoftmaxScale(),
        SoftmaxScale(0.8, (0.0, -0.1, 2.0), 55),
    ],
)
def test_json_round_trip(value: SigmaScale | LogitScale | SoftmaxScale) -> None:
    assert type(value).from_json(json.loads(json.dumps(value.to_json()))) == value
