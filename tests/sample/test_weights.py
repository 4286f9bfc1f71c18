from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galbatch.models.heads import ClassesHead, PointHead
from galbatch.sample.weights import colours, match
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Survey
from galbatch.training.fit import train
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


@pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")
def test_brighter_labels_are_weighed_or_at_least_said(
    survey: Survey, sky: Callable[[int, int], pa.Table], tmp_path: Path
) -> None:
    table = sky(2500, 41)
    z = np.where(table["mag_i"].to_numpy() < 20, table["z_spec"].to_numpy(), np.nan)
    table = table.set_column(table.schema.get_field_index("z_spec"), "z_spec", pa.array(z))
    cards = {}
    for matched in (True, False):
        spec = PhotometricModel(
            kind="photometric", members=1, width=16, layers=1, epochs=1, match=matched,
            targets=("redshift", "log_mass"),
        )  # fmt: skip
        role = np.arange(table.num_rows) % 10 // 8
        cards[matched] = train(spec, survey, table, role, tmp_path / f"{matched}", lambda *_: None)
    done = cards[True].training["match"]
    assert set(done) == {"redshift"} and done["redshift"]["distance"] > 0.3
    assert done["redshift"]["effective_rows"] < sum(cards[True].rows["redshift"].values())
    assert not any("brighter" in words for words in cards[True].training["warnings"])
    assert "match" not in cards[False].training
    assert any("redshift labels are brighter" in one for one in cards[False].training["warnings"])
    assert cards[True].data != cards[False].data


def test_a_weight_is_a_row_more_in_the_loss() -> None:
    import tensorflow as tf

    from galbatch.models.network import HeadsLoss

    rng = np.random.default_rng(2)
    heads = (PointHead("log_mass", 0, 2), ClassesHead("star", 6, quasars=False))
    loss = HeadsLoss(heads, (1.0, 2.0))
    outputs = rng.normal(size=(3, 2, 7)).astype(np.float32)
    labels = np.array([[0.3, np.nan], [0.5, 1.0], [np.nan, 0.0]], np.float32)
    each = loss.call(tf.constant(labels), tf.constant(outputs)).numpy()
    alike = np.concatenate([labels, np.ones_like(labels)], axis=1)
    np.testing.assert_allclose(loss.call(tf.constant(alike), tf.constant(outputs)), each)
    weighed = np.concatenate([labels, np.array([[3, 9], [0, 1], [7, 0.5]], np.float32)], axis=1)
    found = loss.call(tf.constant(weighed), tf.constant(outputs)).numpy()
    np.testing.assert_allclose(found[0], 3 * each[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], 0.5 * each[2], rtol=1e-6)
    assert found[1] < each[1]
