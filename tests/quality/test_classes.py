"""Star/galaxy statistics against hand numbers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from galbatch.quality.classes import (
    auc,
    auc_error,
    binned_class,
    class_statistics,
    multiclass_statistics,
    reliability,
    roc_curve,
    star_against_galaxy,
)
from galbatch.values import CLASSES, QSO


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


@pytest.fixture
def three() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    probability = random.dirichlet([1.0, 0.4, 0.1], 3000)
    label = (probability.cumsum(axis=1) < random.random(3000)[:, None]).sum(axis=1).astype(float)
    return probability, label


def test_three_classes_agree_with_scikit_learn(three: tuple[np.ndarray, np.ndarray]) -> None:
    probability, label = three
    found = multiclass_statistics(probability, label, CLASSES)
    called = probability.argmax(axis=1)
    assert found.confusion == tuple(map(tuple, reference.confusion_matrix(label, called)))
    assert found.accuracy == pytest.approx(reference.accuracy_score(label, called))
    assert found.completeness == pytest.approx(reference.recall_score(label, called, average=None))
    assert found.purity == pytest.approx(reference.precision_score(label, called, average=None))
    clipped = np.maximum(probability, 1e-7)
    clipped /= clipped.sum(axis=1, keepdims=True)
    assert found.log_loss == pytest.approx(reference.log_loss(label, clipped), rel=1e-3)
    for place, area in enumerate(found.auc):
        assert area == pytest.approx(reference.roc_auc_score(label == place, probability[:, place]))
    assert found.of("qso", "auc") == found.auc[QSO]


def test_honest_probabilities_of_three_classes(three: tuple[np.ndarray, np.ndarray]) -> None:
    probability, label = three
    honest = multiclass_statistics(probability, label, CLASSES)
    sharp = probability**3 / (probability**3).sum(axis=1, keepdims=True)
    boasting = multiclass_statistics(sharp, label, CLASSES)
    assert max(*honest.calibration_error, honest.top_calibration_error) < 0.03
    assert boasting.top_calibration_error > 0.08
    assert boasting.log_loss > honest.log_loss and boasting.brier > honest.brier
    assert boasting.accuracy == honest.accuracy


def test_three_classes_by_hand() -> None:
    probability = [[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1], [np.nan] * 3]
    found = multiclass_statistics(probability, [0, 0, 1, 2], CLASSES)
    assert found.rows == (2, 1, 0)
    assert found.confusion == ((1, 0, 1), (0, 1, 0), (0, 0, 0))
    assert found.completeness[:2] == (0.5, 1.0) and np.isnan(found.completeness[2])
    assert found.purity == (1.0, 1.0, 0.0)
    assert found.to_json()["completeness"] == [0.5, 1.0, None]
    assert multiclass_statistics(np.zeros((0, 3)), [], CLASSES).to_json()["log_loss"] is None


def test_stars_against_galaxies_as_if_there_were_no_quasars() -> None:
    label = [0.0, 1.0, 2.0, np.nan]
    predictions = {"prob_star": [0.1, 0.3, 0.0, 0.5], "prob_galaxy": [0.1, 0.1, 0.0, 0.5]}
    probability, truth = star_against_galaxy(predictions, label)
    np.testing.assert_allclose(probability, [0.5, 0.75, 0.5, 0.5])
    np.testing.assert_array_equal(truth, [0, 1, np.nan, np.nan])
    probability, _ = star_against_galaxy({"prob_star": [0.1, 0.3, 0.0, 0.5]}, label)
    np.testing.assert_array_equal(probability, [0.1, 0.3, 0.0, 0.5])


def test_classes_by_magnitude(sample: tuple[np.ndarray, np.ndarray]) -> None:
    score, label = sample
    magnitude = np.random.default_rng(3).uniform(18, 22, 2000)
    magnitude[0], label[1] = np.nan, np.nan
    found = binned_class("star", "galaxy", magnitude, score, label, [18, 20, 22, 23])
    assert found.rows[2] == 0 and np.isnan(found.auc[2])
    assert sum(found.rows) == 1998
    inside = (magnitude < 20) & np.isfinite(label)
    assert found.rows[0] == inside.sum() and found.members[0] == label[inside].sum()
    assert found.auc[0] == pytest.approx(auc(score[inside], label[inside]))
    assert found.calibration_error[0] == pytest.approx(
        class_statistics(score[inside], label[inside]).calibration_error
    )
    assert len(binned_class("star", "galaxy", magnitude, score, label).rows) == 8
    assert binned_class("star", "galaxy", [], [], []).to_json()["auc"] == [None]


def test_error_of_the_area_is_its_scatter() -> None:
    random = np.random.default_rng(5)
    label = np.repeat([0.0, 1.0], [300, 60])
    areas = [auc(random.exponential(1 + 3 * label), label) for _ in range(400)]
    assert auc_error(float(np.mean(areas)), 60, 300) == pytest.approx(np.std(areas), rel=0.12)
    assert np.isnan(auc_error(0.5, 0, 10))
