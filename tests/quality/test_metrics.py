"""Point statistics against hand numbers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, root_mean_squared_error

from galbatch.quality.metrics import (
    binned_statistics,
    bootstrap_errors,
    count,
    outlier_fraction,
    point_statistics,
    r2,
    redshift_residual,
    rmse,
    sigma_nmad,
    slope,
)


def test_by_hand() -> None:
    residual = redshift_residual([1.1, 0.5, 2.0], [1.0, 0.5, 0.5])
    np.testing.assert_allclose(residual, [0.05, 0.0, 1.0])
    assert sigma_nmad([1, 2, 3, 4, 100]) == pytest.approx(1.4826)
    assert outlier_fraction([0.0, 0.151, -0.151, 0.149]) == 0.5


def test_statistics_of_redshifts_by_hand() -> None:
    true = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    found = point_statistics([0.01, 0.02, 0.03, 0.5, 1.0], true, redshift=True)
    assert found.rows == 5
    assert found.bias == pytest.approx(0.02)
    assert found.mean == pytest.approx(0.112)
    assert found.sigma_nmad == pytest.approx(1.4826 * 0.01)
    assert found.outliers == pytest.approx(0.2)
    assert found.outliers_5sigma == pytest.approx(0.2)
    assert found.threshold == 0.15
    assert found.rms == pytest.approx(np.sqrt((0.01**2 + 0.02**2 + 0.03**2 + 0.25) / 5))


def test_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    true = random.normal(10, 1, 500)
    given = 0.8 * true + 2 + random.normal(0, 0.3, 500)
    line = LinearRegression().fit(true[:, None], given)
    assert slope(given, true) == pytest.approx(line.coef_[0])
    assert r2(given, true) == pytest.approx(r2_score(true, given))
    assert rmse(given, true) == pytest.approx(root_mean_squared_error(true, given))


def test_missing_values_do_not_count() -> None:
    true = np.array([1.0, np.nan, 2.0, 3.0])
    given = np.array([1.1, 2.0, np.nan, 2.9])
    found = point_statistics(given, true)
    assert found.rows == 2
    assert np.isnan(found.outliers)
    assert found.rmse == pytest.approx(0.1)


def test_nothing_gives_nan_and_null() -> None:
    found = point_statistics([], [])
    assert found.rows == 0
    assert found.to_json()["sigma_nmad"] is None
    assert np.isnan(slope([1.0, 2.0], [3.0, 3.0]))
    assert np.isnan(r2([1.0], [1.0]))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) predicted values for \(3,\)"):
        rmse([1, 2], [1, 2, 3])


def test_bootstrap_is_seeded_and_scales_with_the_rows() -> None:
    residual = np.random.default_rng(3).normal(0, 1, 60_000)
    assert bootstrap_errors(residual[:500], 5) == bootstrap_errors(residual[:500], 5)
    assert bootstrap_errors(residual[:500], 5) != bootstrap_errors(residual[:500], 6)
    median, width = bootstrap_errors(residual)
    # Asymptotic errors of a Gaussian's median and MAD.
    assert median == pytest.approx(1.2533 / np.sqrt(60_000), rel=0.2)
    assert width == pytest.approx(1.1664 / np.sqrt(60_000), rel=0.2)
    assert np.isnan(bootstrap_errors([1.0])).all()


def test_bins() -> None:
    values = np.concatenate((np.full(40, 1.5), np.full(5, 2.5), [3.0], [9.0], [np.nan]))
    residual = np.concatenate((np.full(20, 0.1), np.full(20, 0.3), np.zeros(8)))
    found = binned_statistics("magnitude", values, residual, [1, 2, 3])
    assert found.rows == (40, 6)
    assert found.centre == (1.5, 2.5)
    assert found.bias[0] == pytest.approx(0.2)
    assert found.outliers[0] == 0.5
    assert np.isnan(found.bias[1])
    assert found.to_json()["bias"][1] is None


def test_default_bins_hold_equally_many_rows() -> None:
    random = np.random.default_rng(1)
    found = binned_statistics("odds", random.random(800), random.normal(0, 0.1, 800))
    assert found.rows == (100,) * 8
    assert np.isfinite(found.sigma_nmad_error).all()


@pytest.mark.parametrize("values", [[], [2.0] * 30])
def test_bins_of_nothing_or_of_one_value(values: list[float]) -> None:
    found = binned_statistics("odds", values, np.zeros(len(values)))
    assert sum(found.rows) == len(values)


def test_histogram() -> None:
    found = count([0.5, 1.5, 1.6, np.nan, 7.0], [0, 1, 2])
    assert found.edges == (0, 1, 2)
    assert found.counts == (1, 2)
