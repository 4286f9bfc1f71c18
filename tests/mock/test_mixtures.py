"""Laws of what is done to mixtures of stellar populations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from galbatch.mock.attenuation import dust_transmission
from galbatch.mock.kinematics import broadened
from galbatch.mock.mixtures import Mixer, drawn_mixtures
from galbatch.mock.profiles import LIGHT
from galbatch.mock.sed_library import populations
from galbatch.spectra.components import to_rest
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_parameters import MixtureParameters, Mixtures

LIMITS = {
    "log_age": (-2.0, 1.1),
    "metallicity": (-0.6, 0.3),
    "velocity": (-400.0, 400.0),
    "dispersion": (50.0, 300.0),
    "extinction": (0.0, 0.4),
    "log_gas": (-1.0, 1.0),
}


def mixtures(rows: int = 40, own: bool = False) -> Mixtures:
    return drawn_mixtures(MixtureParameters(4, own, LIMITS, 0.05), rows, np.random.default_rng(1))


@pytest.fixture(scope="module")
def mixer() -> Mixer:
    return Mixer(populations())


def spectra(mixer: Mixer, made: Mixtures) -> np.ndarray:
    return mixer.at_rest(made, np.random.default_rng(2)).astype(np.float64)


def plain(made: Mixtures) -> Mixtures:
    """Without dust, and next to no gas."""
    return replace(
        made,
        extinction=np.zeros_like(made.extinction),
        log_gas=np.full_like(made.log_gas, -9.0),
        velocity=np.zeros_like(made.velocity),
    )


def test_a_shift_by_whole_pixels_moves_every_number() -> None:
    rng = np.random.default_rng(0)
    smooth = broadened(rng.random((3, 400)), np.full(3, 3.0))
    moved = broadened(smooth, np.zeros(3), np.array([5.0, -4.0, 0.0]))
    inner = slice(40, -40)
    for row, shift in enumerate((5, -4, 0)):
        np.testing.assert_allclose(moved[row, inner], np.roll(smooth[row], shift)[inner], atol=1e-8)


def test_shifts_add_up() -> None:
    smooth = broadened(np.random.default_rng(0).random((2, 400)), np.full(2, 3.0))
    none = np.zeros(2)
    twice = broadened(broadened(smooth, none, np.full(2, 1.3)), none, np.full(2, 2.7))
    once = broadened(smooth, none, np.full(2, 4.0))
    np.testing.assert_allclose(twice[:, 40:-40], once[:, 40:-40], atol=1e-4)


def test_broadening_keeps_the_flux_and_adds_in_squares() -> None:
    line = np.zeros((1, 401))
    line[0, 200] = 1.0
    wide = broadened(line, np.array([3.0]))
    assert wide.sum() == pytest.approx(1.0, abs=1e-12)
    wider = broadened(wide, np.array([4.0]))
    np.testing.assert_allclose(wider, broadened(line, np.array([5.0])), atol=1e-12)


def test_a_velocity_is_a_redshift(mixer: Mixer) -> None:
    made = mixtures()
    axis = LogGrid(3.6, 1e-4, 1500)
    speed = 10.0 ** (3 * axis.step) - 1.0
    still = replace(made, velocity=np.zeros_like(made.velocity))
    by_velocity, _ = mixer.observed(
        still.moved(np.full_like(made.velocity, LIGHT * speed)), axis, np.random.default_rng(2)
    )
    by_redshift, _ = mixer.observed(
        replace(still, redshift=np.full(len(made), speed)), axis, np.random.default_rng(2)
    )
    np.testing.assert_allclose(by_redshift * (1 + speed), by_velocity, rtol=2e-4, atol=2e-4)


def test_what_is_observed_comes_back_to_rest_with_the_velocity_that_is_said(mixer: Mixer) -> None:
    made = replace(mixtures(), redshift=np.random.default_rng(4).uniform(0, 0.3, 40))
    axis, rest = LogGrid(3.53, 1e-4, 5000), LogGrid(mixer.grid.first + 0.01, 1e-4, 2900)
    flux, seen = mixer.observed(made, axis, np.random.default_rng(2))
    back, known, offset = to_rest(flux, seen.astype(float), made.redshift, axis, rest)
    assert known.all() and np.abs(offset).max() <= 35
    speed = LIGHT * ((1 + made.velocity / LIGHT) * (1 + offset[:, None] / LIGHT) - 1)
    same, _ = mixer.observed(
        replace(made, redshift=np.zeros(40)).moved(speed), rest, np.random.default_rng(2)
    )
    np.testing.assert_allclose(back * (1 + made.redshift[:, None]), same, rtol=1e-3, atol=1e-3)


def test_dust_is_calzettis(mixer: Mixer) -> None:
    made = plain(mixtures())
    made = replace(made, dispersion=np.zeros_like(made.dispersion))
    dusty = replace(made, extinction=np.full_like(made.extinction, 0.3))
    ratio = spectra(mixer, dusty) / spectra(mixer, made)
    wanted = dust_transmission(mixer.grid.wavelengths, 0.3)
    np.testing.assert_allclose(ratio, np.broadcast_to(wanted, ratio.shape), rtol=1e-4)


def test_gas_has_the_equivalent_width_that_is_asked_for(mixer: Mixer) -> None:
    made = plain(mixtures())
    gas = replace(made, log_gas=np.full_like(made.log_gas, 1.0))
    line = spectra(mixer, gas) - spectra(mixer, made)
    near = np.abs(mixer.grid.wavelengths - 4862.7) < 45
    width = (line * np.diff(mixer.grid.edges))[:, near].sum(axis=1)
    level = spectra(mixer, made)[:, near].mean(axis=1)
    np.testing.assert_allclose(width / level, 10.0, rtol=0.05)


@pytest.mark.parametrize("own", [False, True])
def test_weights_sum_to_one_and_fall(mixer: Mixer, own: bool) -> None:
    made = mixtures(300, own)
    np.testing.assert_allclose(made.weight.sum(axis=1), 1.0)
    assert (np.diff(made.weight, axis=1) <= 0).all()
    assert made.weight[made.weight > 0].min() >= 0.05 - 1e-9
    none = made.weight == 0
    assert none.any()
    for kind in ("log_age", "metallicity"):
        np.testing.assert_array_equal(np.isnan(getattr(made, kind)), none)
    assert np.isfinite(spectra(mixer, made)).all()


def test_components_that_move_alike_are_one_that_moves(mixer: Mixer) -> None:
    shared = mixtures()
    wide = {
        name: np.repeat(getattr(shared, name), 4, axis=1)
        for name in ("velocity", "dispersion", "extinction", "log_gas")
    }
    np.testing.assert_allclose(
        spectra(mixer, replace(shared, **wide)), spectra(mixer, shared), rtol=2e-3, atol=2e-3
    )


def test_a_single_population_is_that_of_the_library(mixer: Mixer) -> None:
    made = plain(mixtures(1))
    library = mixer.library
    one = replace(
        made, weight=np.eye(1, 4), log_age=np.full((1, 4), library.ages[20]),
        metallicity=np.full((1, 4), library.metallicities[2]), dispersion=np.zeros((1, 1)),
    )  # fmt: skip
    wanted = np.exp(library.logarithms[2, 20])
    np.testing.assert_allclose(spectra(mixer, one)[0], wanted / wanted.mean(), rtol=1e-4)
