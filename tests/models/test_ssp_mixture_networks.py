"""The invertible network, and what its draws become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from galbatch.models.device import prepare_tensorflow
from galbatch.models.ssp_mixture import known_quantiles, normal_numbers
from galbatch.spec.population_models import SspMixtureModel


@pytest.fixture(scope="module")
def couplings() -> Any:
    prepare_tensorflow()
    from galbatch.models.ssp_mixture_networks import Couplings

    layer = Couplings(15, 8)
    layer([np.zeros((1, 15), np.float32), np.zeros((1, 64), np.float32)])
    rng = np.random.default_rng(0)
    layer.set_weights([0.05 * rng.standard_normal(one.shape) for one in layer.get_weights()])
    layer.mean.assign(rng.standard_normal(15))
    layer.scale.assign(rng.uniform(0.5, 2, 15))
    return layer


def given() -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((200, size)).astype(np.float32) for size in (15, 64)]


def test_couplings_and_their_inverse(couplings: Any) -> None:
    values, condition = given()
    normal, _ = couplings([values, condition])
    assert np.abs(np.asarray(normal) - values).max() > 0.1
    back = np.asarray(couplings([normal, condition], inverse=True))
    assert np.abs(back - values).max() < 1e-5


def test_the_stretch_is_the_logarithm_of_the_determinant(couplings: Any) -> None:
    import tensorflow as tf

    values, condition = (tf.constant(one[:3]) for one in given())
    with tf.GradientTape() as tape:
        tape.watch(values)
        normal, stretch = couplings([values, condition])
    slopes = tape.batch_jacobian(normal, values).numpy().astype(np.float64)
    np.testing.assert_allclose(
        np.asarray(stretch)[:, 0], np.linalg.slogdet(slopes)[1], rtol=1e-4, atol=1e-4
    )


def test_one_network_has_as_many_weights_as_one_for_each_kind() -> None:
    prepare_tensorflow()
    from galbatch.models.ssp_mixture_networks import build_quantiles

    counts = (4, 5, 5, 1, 1, 1, 1)
    sizes = []
    for network in ("single", "separate"):
        settings = SspMixtureModel(kind="ssp_mixture", network=network)
        model = build_quantiles(settings, 200, counts)
        assert model.output_shape == (None, 18, 5)
        sizes.append(model.count_params())
        some = np.asarray(model(np.random.default_rng(0).standard_normal((9, 200))))
        assert (np.diff(some, axis=2) > 0).all()
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_quantiles_of_what_is_known() -> None:
    values = np.random.default_rng(0).standard_normal((3, 101, 2))
    values[1, :50, 0] = np.nan
    values[2, :, 1] = np.nan
    found = known_quantiles(values)
    np.testing.assert_allclose(found[0, 0, 2], np.median(values[0, :, 0]))
    np.testing.assert_allclose(found[1, 0, 2], np.nanmedian(values[1, :, 0]))
    assert np.isnan(found[2, 1]).all() and np.isfinite(found[2, 0]).all()


def test_normal_numbers_are_always_the_same() -> None:
    numbers = normal_numbers(200, 15)
    np.testing.assert_array_equal(numbers, normal_numbers(200, 15))
    assert np.abs(numbers.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(numbers.std(axis=0), 1, atol=0.1)
