"""Star/galaxy statistics against hand numbers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from galbatch.quality.classes import auc, class_statistics, reliability, roc_curve


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    label = (random.random(2000) < 0.2).astype(float)
    score = np.clip(0.5 * label + random.normal(0.25, 0.2, 2000), 0, 1).round(2)
    return score, label


def test_agrees_with_scikit_learn(sample: tuple[np.ndarray, np.ndarray]) -> None:
    score, label = sample
    found = class_statistics(score, label)
    called = score >= 0.5
    assert found.accuracy == pytest.approx(reference.accuracy_score(label, called))
    assert found.auc == pytest.approx(reference.roc_auc_score(label, score))
    assert found.brier == pytest.approx(reference.brier_score_loss(label, score))
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    assert found.log_loss == pytest.approx(reference.log_loss(label, clipped))
    assert found.star_purity == pytest.approx(reference.precision_score(label, called))
    assert found.star_completeness == pytest.approx(reference.recall_score(label, called))
    assert (
        (found.galaxies_as_galaxies, found.galaxies_as_stars),
        (found.stars_as_galaxies, found.stars_as_stars),
    ) == tuple(map(tuple, reference.confusion_matrix(label, called)))
    false, true, _ = reference.roc_curve(label, score, drop_intermediate=False)
    np.testing.assert_allclose(np.stack(roc_curve(score, label)), np.stack((false, true)))


def test_thinned_curve_keeps_its_ends(sample: tuple[np.ndarray, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    found = class_statistics(random.random(5000), random.integers(0, 2, 5000))
    assert len(found.false_positive_rate) == len(found.true_positive_rate) <= 200
    assert (found.false_positive_rate[0], found.true_positive_rate[0]) == (0, 0)
    assert (found.false_positive_rate[-1], found.true_positive_rate[-1]) == (1, 1)


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.05, 0.05, 0.95, 0.95])
    label = np.array([0.0, 1.0, 1.0, 1.0])
    mean, fraction, rows = reliability(probability, label)
    np.testing.assert_allclose(mean, [0.05, 0.95])
    np.testing.assert_allclose(fraction, [0.5, 1])
    np.testing.assert_array_equal(rows, [2, 2])
    assert class_statistics(probability, label).calibration_error == pytest.approx(0.25)


def test_one_class_and_nothing() -> None:
    found = class_statistics([0.2, 0.9, np.nan], [0.0, 0.0, 1.0])
    assert (found.rows, found.stars, found.galaxies) == (2, 0, 2)
    assert np.isnan(found.auc)
    assert np.isnan(found.star_completeness)
    assert class_statistics([], []).to_json()["accuracy"] is None
    assert np.isnan(auc([0.5], [1.0]))
