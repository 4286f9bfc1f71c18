"""Photometric noise and the model's own doubt, told apart."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.models.heads import CellsHead, ClassesHead, PointHead
from galbatch.models.monte_carlo import noise, scatter
from galbatch.quality.calibration import LogitScale
from galbatch.quality.recalibration import Calibration
from galbatch.values import FluxBlock

HEADS = (
    ClassesHead("star", 0, quasars=False),
    PointHead("log_mass", 1, 1, centre=10.0, scale=0.5, floor=0.01),
    CellsHead("redshift", 4, low=-1.0, high=4.0, bins=500),
)
CALIBRATION = {
    "redshift": Calibration().to_json(),
    "star": LogitScale().to_json(),
    "log_mass": Calibration().to_json(),
}
SLOPE = np.array([0.02, -0.01, 0.03])
CENTRES = np.linspace(-1, 4, 500, endpoint=False) + 0.005


def sky(rows: int) -> FluxBlock:
    rng = np.random.default_rng(1)
    flux = rng.uniform(5, 50, (rows, 3)).astype(np.float32)
    error = rng.uniform(0.1, 2, (rows, 3)).astype(np.float32)
    seen = rng.random((rows, 3)) > 0.1
    return FluxBlock(flux * seen, error * seen, seen, seen, np.zeros(rows, bool))


def linear(block: FluxBlock) -> np.ndarray:
    """Two networks whose every answer is linear in the fluxes; they differ by 0.04 in ln(1 + z)."""
    line = block.flux @ SLOPE.astype(np.float32)
    outputs = np.zeros((len(block), 2, 504), np.float32)
    for member, offset in enumerate((0.0, 0.04)):
        outputs[:, member, 0] = line
        outputs[:, member, 2] = line
        # A Gaussian over the cells, whose mean is the line.
        away = (CENTRES - (line + np.float32(offset))[:, None]) / 0.05
        outputs[:, member, 4:] = -0.5 * away**2
    return outputs


def test_noise_is_standard_in_every_band() -> None:
    found = noise(100, 24, 0)
    assert found.shape == (100, 24) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(found, noise(100, 24, 0))
    assert not np.array_equal(found, noise(100, 24, 1))


def test_scatter_of_a_linear_network_is_what_error_propagation_says() -> None:
    block = sky(400)
    outputs = linear(block)
    found = scatter(linear, block, outputs, HEADS, CALIBRATION, 256, 0)
    sigma = np.sqrt((block.error.astype(float) ** 2) @ SLOPE**2)
    zeta = outputs[:, 0, 0] + 0.02
    np.testing.assert_allclose(found["z_noise"], sigma * np.exp(zeta), rtol=0.1)
    np.testing.assert_allclose(found["log_mass_noise"], 0.5 * sigma, rtol=0.1)
    share = 1 / (1 + np.exp(-outputs[:, 0, 0].astype(float)))
    np.testing.assert_allclose(found["prob_star_noise"], share * (1 - share) * sigma, rtol=0.15)
    np.testing.assert_allclose(found["z_model"], 0.04 / np.sqrt(2) * np.exp(zeta), rtol=1e-3)
    np.testing.assert_allclose(found["log_mass_model"], 0, atol=1e-6)


def test_a_row_is_scattered_alike_in_any_company() -> None:
    block = sky(50)
    alone = FluxBlock(*(array[7:9] for array in vars(block).values()))
    all_ = scatter(linear, block, linear(block), HEADS, CALIBRATION, 16, 3)
    few = scatter(linear, alone, linear(alone), HEADS, CALIBRATION, 16, 3)
    for name, values in few.items():
        np.testing.assert_allclose(values, all_[name][7:9], rtol=1e-4, atol=1e-7)


def test_one_network_cannot_disagree_with_itself() -> None:
    block = sky(5)
    found = scatter(
        lambda fluxes: linear(fluxes)[:, :1], block, linear(block)[:, :1], HEADS, CALIBRATION, 8, 0
    )
    assert np.isnan(found["z_model"]).all() and np.isfinite(found["z_noise"]).all()


def test_unobserved_bands_add_no_noise() -> None:
    rows = 4
    dark = np.zeros((rows, 3), np.float32)
    block = FluxBlock(dark, dark, dark > 0, dark > 0, np.zeros(rows, bool))
    found = scatter(linear, block, linear(block), HEADS, CALIBRATION, 8, 0)
    assert found["z_noise"] == pytest.approx(0)
