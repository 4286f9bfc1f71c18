"""From arrays to all numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import ndtri

from galbatch.quality.evaluation import evaluate
from galbatch.values import QSO, TARGETS

LEVELS = np.linspace(0.02, 0.98, 15)


@pytest.fixture
def truth() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    star = (random.random(1000) < 0.2).astype(float)
    return {
        "redshift": np.where(star == 0, random.uniform(0.1, 1.5, 1000), np.nan),
        "star": star,
        "log_mass": np.full(1000, np.nan),
    }


def test_everything(truth: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    z = np.nan_to_num(truth["redshift"]) + random.normal(0, 0.02, 1000)
    predictions = {
        "z_mode": z,
        "odds": random.random(1000),
        "z_quantiles": z[:, None] + 0.02 * ndtri(LEVELS),
        "z_err68_low": z - 0.02,
        "z_err68_high": z + 0.02,
        "prob_star": np.clip(truth["star"] + random.normal(0, 0.3, 1000), 0, 1),
        "log_mass": np.full(1000, 10.0),
    }
    found = evaluate(
        TARGETS, predictions, truth, random.uniform(18, 24, 1000), quantile_levels=LEVELS
    )
    assert found.rows == 1000
    assert [one.target for one in found.targets] == ["redshift", "star"]
    redshift = found.of("redshift")
    assert redshift is not None
    assert redshift.labelled == int(np.isfinite(truth["redshift"]).sum())
    assert redshift.missing == 0
    assert redshift.distribution is not None
    assert redshift.distribution.coverage68 == pytest.approx(0.683, abs=0.05)
    assert np.isnan(redshift.distribution.coverage95)
    assert [table.by for table in redshift.binned] == ["magnitude", "redshift", "odds"]
    star = found.of("star")
    assert star is not None
    assert star.classes is not None
    assert star.point is None
    (by_magnitude,) = star.binned_classes
    assert (by_magnitude.name, by_magnitude.against) == ("star", "galaxy")
    assert sum(by_magnitude.members) == star.classes.stars
    assert found.of("log_mass") is None
    json.dumps(found.to_json(), allow_nan=False)


def test_a_model_with_point_estimates_only(truth: dict[str, np.ndarray]) -> None:
    z = truth["redshift"].copy()
    z[:300] = np.nan
    found = evaluate(TARGETS, {"z_mode": z}, truth).of("redshift")
    assert found is not None
    assert found.distribution is None
    assert found.missing == int(np.isfinite(truth["redshift"][:300]).sum())
    assert found.point is not None
    assert found.point.rows == found.labelled - found.missing
    assert [table.by for table in found.binned] == ["redshift"]


def test_nothing_to_judge() -> None:
    assert evaluate(TARGETS, {}, {}).to_json() == {"rows": 0, "targets": []}


def test_magnitude_edges_are_used(truth: dict[str, np.ndarray]) -> None:
    magnitude = np.linspace(18, 24, 1000)
    found = evaluate(
        ["redshift"], {"z_mode": truth["redshift"]}, truth, magnitude, magnitude_edges=[18, 20, 24]
    )
    assert found.targets[0].binned[0].edges == (18, 20, 24)


def test_quasars_are_judged_apart(truth: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(2)
    star = truth["star"].copy()
    star[:50] = QSO
    z = np.where(np.isfinite(truth["redshift"]), truth["redshift"], 1.0)
    z[:50] = 2.0
    known = {"star": star, "redshift": np.where(star == 1, np.nan, z)}
    point = z + random.normal(0, 0.01, 1000)
    point[:10] += 1.0
    given = random.dirichlet([1, 1, 1], 1000)
    given[np.arange(1000), star.astype(int)] += 2
    given /= given.sum(axis=1, keepdims=True)
    predictions = {
        "z_mode": point,
        "prob_galaxy": given[:, 0],
        "prob_star": given[:, 1],
        "prob_qso": given[:, 2],
    }
    found = evaluate(TARGETS, predictions, known, np.linspace(18, 24, 1000))
    redshift, classes = found.of("redshift"), found.of("star")
    assert redshift is not None and redshift.point is not None and redshift.quasars is not None
    assert redshift.labelled == redshift.point.rows == np.sum(star == 0)
    assert redshift.point.outliers == 0
    assert redshift.quasars.rows == 50 and redshift.quasars.outliers == pytest.approx(0.2)
    assert classes is not None and classes.classes is not None and classes.multiclass is not None
    assert classes.labelled == 1000
    assert classes.classes.rows == 950
    assert [one.name for one in classes.binned_classes] == ["star", "galaxy", "qso"]
    assert sum(classes.binned_classes[2].members) == 50
    assert classes.multiclass.rows == (np.sum(star == 0), np.sum(star == 1), 50)
    json.dumps(found.to_json(), allow_nan=False)
    # A model that knows two classes is judged on those.
    two = evaluate(["star"], {"prob_star": given[:, 1]}, known).of("star")
    assert two is not None and two.classes is not None
    assert two.multiclass is None and two.classes.rows == 950
