from __future__ import annotations

import numpy as np

from galbatch.flux.noise import learn_noise
from galbatch.values import FluxBlock


def block(flux: np.ndarray, error: np.ndarray) -> FluxBlock:
    seen = np.ones(flux.shape, bool)
    detected = flux > 3 * error
    return FluxBlock(flux, error, seen, detected, np.zeros(len(flux), bool))


def test_the_terms_are_found() -> None:
    rng = np.random.default_rng(1)
    flux = rng.lognormal(2, 2, (20_000, 2)).astype(np.float32)
    sky, source, relative = np.array([0.5, 2.0]), np.array([0.05, 0.2]), np.array([4e-4, 1e-4])
    wanted = sky + flux * source + flux**2 * relative
    # Exposures differ, and some errors are nonsense.
    error = np.sqrt(wanted * rng.lognormal(0, 0.1, flux.shape))
    error[::50] *= 100
    noise = learn_noise(block(flux, error.astype(np.float32)))
    test = np.array([[0.1, 0.1], [10.0, 10.0], [1000.0, 1000.0]])
    expected = sky + test * source + test**2 * relative
    np.testing.assert_allclose(noise.variance(test), expected, rtol=0.1)
    np.testing.assert_allclose(noise.variance(np.full((1, 2), -50.0))[0], noise.sky)
    assert 3 <= noise.detection < 3.5


def test_a_band_that_nobody_saw() -> None:
    flux = np.ones((200, 2), np.float32)
    seen = np.tile([True, False], (200, 1))
    blind = FluxBlock(flux * seen, flux * seen, seen, seen, np.zeros(200, bool))
    noise = learn_noise(blind)
    np.testing.assert_allclose(noise.variance(np.ones((1, 2))), [[1.0, 0.0]], atol=1e-6)
