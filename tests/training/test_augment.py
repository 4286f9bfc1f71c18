"""Bright rows made faint: what the catalogue would say of them, and what is learnt from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from galbatch.models.families import load_model
from galbatch.spec.job import PhotometricModel
from galbatch.spec.survey import Photometry, Survey
from galbatch.training.augment import Fainter, learn_fainter, with_noise, without_bands
from galbatch.training.fit import train
from galbatch.values import FluxBlock

BANDS = 4
MAGNITUDES = Photometry.model_validate(
    {"sentinels": [{"value": 99, "meaning": "not_detected", "error_is_limit": True}]}
)
FLUXES = Photometry.model_validate({"quantity": "flux", "unit": "uJy"})


def variance(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.25 + 0.02 * np.maximum(flux, 0) + 1e-4 * np.maximum(flux, 0) ** 2


def observe(true: NDArray[np.float64], rng: np.random.Generator, limits: bool) -> FluxBlock:
    flux = true + np.sqrt(variance(true)) * rng.standard_normal(true.shape)
    error = np.sqrt(variance(flux))
    lost = limits & (flux < error)
    flux, error = np.where(lost, 0.0, flux), np.where(lost, 0.5, error)
    seen = rng.random(true.shape) > 0.1
    return FluxBlock(
        np.where(seen, flux, 0).astype(np.float32),
        np.where(seen, error, 0).astype(np.float32),
        seen,
        seen & ~lost,
        np.zeros(len(true), bool),
    )


def sample(limits: bool) -> dict[str, Any]:
    """A catalogue of 16 < m < 24 of which the bright part has classes."""
    rng = np.random.default_rng(3)
    magnitude = 24 - rng.exponential(2.0, 30_000).clip(0, 8)
    odds = np.exp(-1.0 - 0.7 * (magnitude - 21))
    star = (rng.random(magnitude.size) < odds / (1 + odds)).astype(float)
    true = 10 ** (0.4 * (23.9 - magnitude))[:, None] * np.where(star[:, None], 1.0, [1, 2, 3, 4])
    return {
        "block": observe(true, rng, limits),
        "shapes": np.stack([magnitude, rng.random(magnitude.size)], axis=1),
        "magnitude": magnitude,
        "star": star,
        "classes": np.where(magnitude < 21, star, np.nan),
        "true": true,
    }


def learnt(found: dict[str, Any], photometry: Photometry) -> Fainter:
    fainter = learn_fainter(
        found["block"],
        found["shapes"],
        found["magnitude"],
        found["magnitude"],
        found["classes"],
        photometry,
    )
    assert fainter is not None
    return fainter


def part(block: FluxBlock, rows: Any) -> FluxBlock:
    return FluxBlock(*(array[rows] for array in vars(block).values()))


@pytest.mark.parametrize("limits", [True, False])
def test_a_copy_is_what_the_survey_would_have_seen(limits: bool) -> None:
    found = sample(limits)
    fainter = learnt(found, MAGNITUDES if limits else FLUXES)
    assert 20.9 < fainter.limit < 21
    rng = np.random.default_rng(5)
    rows = np.flatnonzero(found["magnitude"] < 20)
    models = fainter.models(found["star"][rows], rng)
    copies, shapes = fainter.seen(part(found["block"], rows), found["magnitude"][rows], models, rng)
    to = fainter.magnitude[models]
    assert to.min() > fainter.limit
    np.testing.assert_array_equal(shapes[:, 0], to)
    true = found["true"][rows] * 10 ** (-0.4 * (to - found["magnitude"][rows]))[:, None]
    detected = copies.detected
    assert not np.any(detected & ~copies.observed)
    np.testing.assert_array_equal(copies.flux[~copies.observed], 0)
    np.testing.assert_array_equal(copies.error[~copies.observed], 0)
    # A copy lacks the bands that the row or its model lacks.
    assert abs(copies.observed.mean() - 0.81) < 0.01
    if limits:
        lost = copies.observed & ~detected
        assert lost.sum() > 100
        np.testing.assert_array_equal(copies.flux[lost], 0)
        np.testing.assert_allclose(copies.error[lost], 0.5, rtol=0.25)
        assert (copies.flux[detected] > 0.9 * copies.error[detected]).all()
    else:
        np.testing.assert_array_equal(detected, copies.observed)
        pulls = (copies.flux - true)[detected] / np.sqrt(variance(true))[detected]
        assert abs(pulls.mean()) < 0.03 and abs(pulls.std() - 1) < 0.03
        assert kstest(pulls[:4000], "norm").pvalue > 1e-3
        np.testing.assert_allclose(
            copies.error[detected], np.sqrt(variance(copies.flux))[detected], rtol=0.25
        )


def test_classes_are_as_frequent_as_their_counts_foretell() -> None:
    found = sample(limits=True)
    fainter = learnt(found, MAGNITUDES)
    beyond = found["magnitude"] > fainter.limit
    bright = found["star"][~beyond].mean()
    rng = np.random.default_rng(0)
    usable = np.ones(found["star"].size, bool)
    rows = fainter.sources(found["magnitude"], found["classes"], usable, 20_000, rng)
    assert found["magnitude"][rows].max() <= fainter.limit
    star = found["classes"][rows]
    # Within 0.02 of what is true, where the bright rows' share is off by 0.2.
    assert abs(star.mean() - found["star"][beyond].mean()) < 0.02 < abs(bright - star.mean()) / 5
    to = fainter.magnitude[fainter.models(star, rng)]
    for low in (21, 22, 23):
        there = (to >= low) & (to < low + 1)
        true = (found["magnitude"] >= low) & (found["magnitude"] < low + 1) & beyond
        assert abs(star[there].mean() - found["star"][true].mean()) < 0.03, low


def test_labels_that_reach_as_far_need_no_copies() -> None:
    found = sample(limits=True)
    arguments = (found["block"], found["shapes"], found["magnitude"], found["magnitude"])
    assert learn_fainter(*arguments, found["star"], MAGNITUDES) is None
    assert learn_fainter(*arguments, np.full(30_000, np.nan), MAGNITUDES) is None
    one = np.where(np.isfinite(found["classes"]), 0.0, np.nan)
    assert learn_fainter(*arguments, one, MAGNITUDES) is None


def test_bands_are_dropped_but_never_all() -> None:
    block = sample(limits=True)["block"]
    dropped = without_bands(block, 0.3, np.random.default_rng(1))
    seen = block.observed.any(axis=1)
    assert dropped.observed[seen].any(axis=1).all()
    assert not np.any(dropped.observed & ~block.observed)
    gone = block.observed & ~dropped.observed
    assert abs(gone.sum() / block.observed.sum() - 0.3) < 0.02
    assert not dropped.detected[gone].any() and not dropped.flux[gone].any()
    kept = dropped.observed
    np.testing.assert_array_equal(dropped.flux[kept], block.flux[kept])


def test_noise_is_in_units_of_the_errors() -> None:
    block = sample(limits=False)["block"]
    moved = with_noise(block, 0.5, np.random.default_rng(1))
    change = (moved.flux - block.flux)[block.observed] / block.error[block.observed]
    assert abs(change.std() - 0.5) < 0.01
    np.testing.assert_array_equal(moved.flux[~block.observed], 0)


@pytest.mark.filterwarnings("ignore:::(tensorflow|keras|tf2onnx)")
def test_what_no_label_reaches_is_less_of_a_guess(
    survey: Survey, sky: Callable[[int, int], pa.Table], tmp_path: Path
) -> None:
    table = faint_stars_hidden(sky(8000, 11))
    fresh = sky(6000, 12)
    hidden = fresh["mag_i"].to_numpy() > LABELLED_TO
    hidden &= (fresh["mag_i"].to_numpy() < 90) & (fresh["kind"].to_numpy() != 0.5)
    star = fresh["kind"].to_numpy()[hidden]
    assert hidden.sum() > 500
    loss = {}
    for fainter in (0.0, 2.0):
        spec = PhotometricModel(
            kind="photometric", members=2, width=32, layers=2, epochs=15, batch=64,
            learning_rate=0.005, targets=("redshift", "star"), fainter=fainter,
        )  # fmt: skip
        role = np.arange(table.num_rows) % 10 // 8
        folder = tmp_path / f"{fainter}"
        card = train(spec, survey, table, role, folder, lambda *_: None)
        assert ("fainter" in card.training) == (fainter > 0)
        said = (
            load_model(folder).predict(fresh)["prob_star"].to_numpy()[hidden].clip(1e-6, 1 - 1e-6)
        )
        loss[fainter] = -np.mean(np.log(np.where(star == 1, said, 1 - said)))
    assert loss[2.0] < 0.8 * loss[0.0], loss


LABELLED_TO = 19.9


def faint_stars_hidden(table: pa.Table) -> pa.Table:
    kind = np.where(table["mag_i"].to_numpy() < LABELLED_TO, table["kind"].to_numpy(), 0.5)
    return table.set_column(table.schema.get_field_index("kind"), "kind", pa.array(kind))
