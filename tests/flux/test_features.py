from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from galbatch.errors import SpecError
from galbatch.flux.features import FeatureRecipe, features, learn_features
from galbatch.spec.survey import Band
from galbatch.values import FluxBlock

# Not in the order of wavelength: red, blue, green.
BANDS = tuple(
    Band(name=name, wavelength=wavelength, width=1000)
    for name, wavelength in (("r", 6500), ("b", 4500), ("g", 5500))
)


def sky(n: int = 500) -> tuple[FluxBlock, NDArray[np.float64]]:
    rng = np.random.default_rng(3)
    flux = np.exp(rng.normal(1, 1, (n, 3))).astype(np.float32)
    error = np.full_like(flux, 0.2)
    observed = rng.random((n, 3)) > 0.1
    detected = observed & (rng.random((n, 3)) > 0.1)
    block = FluxBlock(
        np.where(detected, flux, 0).astype(np.float32),
        np.where(observed, error, 0).astype(np.float32),
        observed,
        detected,
        np.zeros(n, bool),
    )
    shapes = rng.lognormal(0, 1, (n, 1))
    shapes[::10] = np.nan
    return block, shapes


def test_names_and_numbers() -> None:
    block, shapes = sky()
    recipe = learn_features(block, BANDS, shapes, ("size",))
    matrix = features(recipe, block, shapes)
    assert matrix.shape == (500, len(recipe.columns)) and matrix.dtype == np.float32
    assert matrix.flags.c_contiguous and np.isfinite(matrix).all() and np.abs(matrix).max() <= 4
    assert {"asinh r", "colour b - g", "colour g - r", "shape size"} <= set(recipe.columns)
    # The errors are all the same: they tell nothing and are left out.
    assert not [name for name in recipe.columns if name.startswith("error")]
    column = dict(zip(recipe.columns, matrix.T, strict=True))
    np.testing.assert_array_equal(column["observed r"], np.where(block.observed[:, 0], 1, -1))
    limit = block.observed[:, 1] & ~block.detected[:, 1]
    np.testing.assert_array_equal(column["limit b"], np.where(limit, 1, -1))
    np.testing.assert_array_equal(column["asinh r"][~block.observed[:, 0]], 0)
    np.testing.assert_array_equal(column["shape size"][::10], 0)
    # Median 0, robust width about 1 before the bend.
    known = column["asinh g"][block.observed[:, 2]]
    assert abs(np.median(known)) < 1e-6
    assert np.percentile(known, 84) - np.percentile(known, 16) == pytest.approx(2, abs=0.2)


def test_the_asinh_magnitude_by_hand() -> None:
    block, shapes = sky()
    recipe = learn_features(block, BANDS, shapes, ("size",))
    assert recipe.softening == pytest.approx((0.2, 0.2, 0.2))
    k = recipe.names.index("asinh r")
    v = (np.arcsinh(block.flux[:, 0] / 0.4) - recipe.centre[k]) / recipe.scale[k]
    bent = np.where(block.observed[:, 0], v / np.sqrt(1 + (v / 4) ** 2), 0)
    made = features(recipe, block, shapes)[:, recipe.columns.index("asinh r")]
    np.testing.assert_allclose(made, bent, atol=1e-5)


def test_the_recipe_survives_json() -> None:
    block, shapes = sky()
    recipe = learn_features(block, BANDS, shapes, ("size",))
    again = FeatureRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    np.testing.assert_array_equal(features(again, block, shapes), features(recipe, block, shapes))


def test_each_row_stands_alone() -> None:
    block, shapes = sky()
    recipe = learn_features(block, BANDS, shapes, ("size",))
    some = FluxBlock(*(array[40:50] for array in vars(block).values()))
    np.testing.assert_array_equal(
        features(recipe, some, shapes[40:50]), features(recipe, block, shapes)[40:50]
    )


def test_a_negative_flux_is_a_measurement() -> None:
    block, shapes = sky()
    recipe = learn_features(block, BANDS, shapes, ("size",))
    low = FluxBlock(-block.flux, block.error, block.observed, block.detected, block.saturated)
    column = recipe.columns.index("asinh g")
    below, above = features(recipe, low, shapes)[:, column], features(recipe, block, shapes)
    seen = block.detected[:, 2]
    assert (below[seen] < above[seen, column]).all()


def test_nothing_to_learn_from() -> None:
    still = np.ones((200, 3), np.float32)
    yes = np.ones((200, 3), bool)
    with pytest.raises(SpecError, match="no band varies"):
        learn_features(FluxBlock(still, still, yes, yes, yes[:, 0]), BANDS, np.empty((200, 0)), ())
