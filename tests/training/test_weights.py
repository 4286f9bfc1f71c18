from __future__ import annotations

import numpy as np
import pytest

from galbatch.training.weights import colours, match
from galbatch.values import FluxBlock


def catalogue(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and two colours that redden with it, and something that depends on both."""
    rng = np.random.default_rng(seed)
    magnitude = 25 - rng.exponential(1.5, rows)
    colour = np.stack([0.1 * (magnitude - 20), np.zeros(rows)], axis=1)
    colour += 0.3 * rng.standard_normal((rows, 2))
    return np.column_stack([magnitude, colour]), magnitude - 20 + colour[:, 0]


def test_weighted_labels_stand_for_the_catalogue() -> None:
    points, value = catalogue(20_000, 1)
    others, _ = catalogue(20_000, 2)
    chance = 1 / (1 + np.exp(1.5 * (points[:, 0] - 23)))
    known = np.random.default_rng(3).random(len(points)) < chance
    found = match(points, known, others, seed=0)
    assert found is not None
    np.testing.assert_array_equal(found.weights[~known], 1)
    assert abs(found.weights[known].mean() - 1) < 1e-3
    assert found.effective < 0.8 * known.sum()
    plain = value[known].mean() - value.mean()
    weighted = np.average(value[known], weights=found.weights[known]) - value.mean()
    assert abs(weighted) < 0.35 * abs(plain)
    again = match(points, known, others, seed=0)
    assert again is not None
    np.testing.assert_array_equal(again.weights, found.weights)


@pytest.mark.parametrize("case", ["random", "fainter", "few"])
def test_labels_that_need_no_weights_get_none(case: str) -> None:
    points, _ = catalogue(5000, 1)
    others, _ = catalogue(5000, 2)
    rng = np.random.default_rng(3)
    known = {
        "random": rng.random(5000) < 0.3,
        "fainter": points[:, 0] > 23,
        "few": np.arange(5000) < 10,
    }[case]
    assert match(points, known, others, seed=0) is None


def test_unknown_colours_are_told_from_known_ones() -> None:
    rng = np.random.default_rng(0)
    flux = rng.lognormal(1, 0.5, (500, 8)).astype(np.float32)
    seen = np.ones(flux.shape, bool)
    seen[:20, :4] = False
    seen[20:30] = False
    block = FluxBlock(flux * seen, 0.1 * seen, seen, seen, np.zeros(500, bool))
    magnitude = np.where(seen.any(axis=1), 20.0, np.nan)
    found = colours(block, np.linspace(4000, 9000, 8), magnitude)
    assert found.shape == (500, 5)
    assert np.isnan(found[:20]).any(axis=1).all() and np.isnan(found[20:30, 1:]).all()
    assert np.isfinite(found[30:]).all()
