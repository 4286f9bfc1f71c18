"""Corrections of whole distributions: what they undo, and where they keep out of the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import kstest, norm

from galbatch.quality.recalibration import (
    Calibration,
    Straightening,
    Warp,
    fit_straightening,
    fit_warp,
)

ROWS = 6_000


def wrong(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """PITs of a model that is biased, and too narrow for faint objects; and magnitudes."""
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(18, 25, rows)
    shift = np.interp(magnitude, [18, 25], [0.3, -0.3])
    width = np.interp(magnitude, [18, 25], [0.7, 1.6])
    normal = shift + width * rng.standard_normal(rows)
    lost = rng.random(rows) < 0.02
    normal[lost] = 6 * rng.standard_normal(int(lost.sum()))
    return ndtr(normal), magnitude


def test_a_fitted_warp_makes_new_rows_uniform_at_every_magnitude() -> None:
    warp = fit_warp(*wrong(0))
    pit, magnitude = wrong(1)
    assert kstest(pit, "uniform").pvalue < 1e-6
    better = warp.apply(pit, magnitude)
    assert kstest(better, "uniform").pvalue > 0.01
    for low in (18, 20, 22, 24):
        inside = (magnitude >= low) & (magnitude < low + 1)
        assert kstest(pit[inside], "uniform").pvalue < 1e-3 or low == 20
        assert kstest(better[inside], "uniform").pvalue > 1e-3


def test_levels_invert_the_warp() -> None:
    warp = fit_warp(*wrong(0))
    magnitude = np.linspace(17, 26, 50, dtype=np.float32)
    wanted = (0.025, 0.05, 0.16, 0.5, 0.84, 0.95, 0.975)
    levels = warp.levels(wanted, magnitude)
    assert levels.dtype == np.float32 and levels.shape == (7, 50)
    assert (np.diff(levels, axis=0) > 0).all()
    back = warp.apply(levels, magnitude)
    np.testing.assert_allclose(back, np.array(wanted)[:, None].repeat(50, 1), atol=1e-4)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_a_warp_keeps_order_and_ends(values: list[float]) -> None:
    warp = fit_warp(*wrong(2))
    ordered = np.sort(np.array(values, np.float32))
    found = warp.apply(ordered, np.full(len(ordered), 22.0))
    assert (np.diff(found) >= -1e-6).all() and found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(warp.apply(np.float32([0, 1]), np.full(2, 22.0)), [0, 1])


def test_an_unknown_magnitude_gets_the_middle_correction() -> None:
    warp = fit_warp(*wrong(0))
    middle = warp.magnitude[len(warp.magnitude) // 2]
    pit = np.float32([0.1, 0.4])
    np.testing.assert_array_equal(
        warp.apply(pit, np.full(2, np.nan)), warp.apply(pit, np.full(2, middle))
    )


def test_few_rows_change_nothing() -> None:
    pit, magnitude = wrong(0, 19)
    assert fit_warp(pit, magnitude) == Warp()
    assert not Warp().changes
    assert fit_warp(np.full(1000, np.nan), np.full(1000, 20.0)) == Warp()
    assert fit_straightening(pit, pit).given == ()


def test_rows_without_a_magnitude_get_one_correction() -> None:
    pit, magnitude = wrong(0)
    warp = fit_warp(pit, np.full_like(magnitude, np.nan))
    assert len(warp.magnitude) == 1
    assert kstest(warp.apply(pit, magnitude), "uniform").pvalue > 0.01


def test_a_trend_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(10, 1, ROWS)
    predicted = 10 + 0.6 * (true - 10) + 0.2 * rng.standard_normal(ROWS)
    found = fit_straightening(predicted, true)
    assert found.slope_before > 1.3 and found.slope_after == pytest.approx(1, abs=0.05)
    assert found.error_after < found.error_before
    assert (np.diff(found.apply(np.sort(predicted))) > 0).all()


def test_values_that_a_correction_pools_still_differ() -> None:
    rng = np.random.default_rng(5)
    predicted = rng.uniform(0, 1.5, ROWS)
    true = np.where(predicted < 1, np.minimum(0.6 * predicted, 0.3), 1.5 * predicted - 1.2)
    found = fit_straightening(predicted, true + 0.01 * rng.normal(size=ROWS))
    assert found.given
    edges = found.apply(np.linspace(0, 1.5, 2001, dtype=np.float32))
    assert edges.dtype == np.float32 and (np.diff(edges) > 1e-6).all()
    assert np.interp(0.75, found.given, found.wanted) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("rows", [40, 150, 290])
def test_a_few_rows_are_enough_for_one_shift_and_width(rows: int) -> None:
    rng = np.random.default_rng(6)
    inside = []
    for _ in range(40):
        pit = norm.cdf(0.35 * rng.normal(size=(2, rows)))
        warp = fit_warp(pit[0], np.full(rows, 20.0))
        assert warp.rows == rows and len(warp.magnitude) == 1
        inside.append(np.abs(warp.apply(pit[1], np.full(rows, 20.0)) - 0.5) < 0.34)
    assert np.mean(inside) == pytest.approx(0.68, abs=0.05)


def test_what_is_straight_is_left_alone() -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(10, 1, 2_000)
    predicted = true + 1e-3 * rng.standard_normal(2_000)
    found = fit_straightening(predicted, true)
    assert found.given == () and found.slope_after == found.slope_before
    assert found.apply(predicted) is predicted


def test_json_round_trip() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(0, 1, ROWS)
    calibration = Calibration(
        fit_straightening(0.5 * true + 0.1 * rng.standard_normal(ROWS), true),
        warp=fit_warp(*wrong(0)),
    )
    assert calibration.straightening != Straightening()
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
