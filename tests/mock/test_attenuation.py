"""Dust and intergalactic gas absorb what the papers say."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.mock.attenuation import (
    R_V_CALZETTI,
    calzetti_curve,
    dust_transmission,
    igm_transmission,
)


def test_calzetti_curve_is_normalised_continuous_and_falls() -> None:
    wave = np.geomspace(912.0, 30000.0, 5000)
    curve = calzetti_curve(wave)
    assert calzetti_curve(5500.0) == pytest.approx(R_V_CALZETTI, abs=0.02)
    # k(B) - k(V) is 1 by the definition of E(B-V), for a curve meant for broad bands.
    assert calzetti_curve(4400.0) - calzetti_curve(5500.0) == pytest.approx(1.0, abs=0.1)
    # The paper's two branches miss each other by 0.026 at 6300 A.
    assert np.diff(curve).max() < 0.03
    assert np.abs(np.diff(curve)).max() < 0.06
    assert (curve >= 0.0).all()


def test_dust_transmission_broadcasts_over_galaxies() -> None:
    wave = np.array([1500.0, 5500.0, 20000.0])
    transmission = dust_transmission(wave, np.array([0.0, 0.3]))
    assert transmission.shape == (2, 3)
    np.testing.assert_array_equal(transmission[0], 1.0)
    a_v = -2.5 * np.log10(transmission[1, 1])
    assert a_v == pytest.approx(0.3 * R_V_CALZETTI, rel=0.01)
    assert (np.diff(transmission[1]) > 0.0).all()


def test_igm_is_transparent_redward_of_lyman_alpha() -> None:
    for redshift in (0.0, 1.0, 3.0, 6.0):
        wave = np.linspace(1216.0, 3000.0, 50) * (1.0 + redshift)
        np.testing.assert_array_equal(igm_transmission(wave, redshift), 1.0)


def test_igm_forest_agrees_with_measured_effective_depth() -> None:
    # Faucher-Giguere et al. (2008), ApJ 681, 831: tau = 0.0018 (1+z)**3.92, from z = 2 to 4.2.
    z_absorber = np.array([2.2, 2.6, 3.0, 3.4, 3.8, 4.1])
    wave = 1215.67 * (1.0 + z_absorber)
    transmission = np.array(
        # Just above the absorber, so that Lyman beta has not been crossed.
        [igm_transmission(np.array([w]), z + 0.1) for w, z in zip(wave, z_absorber, strict=True)]
    )[:, 0]
    expected = np.exp(-0.0018 * (1.0 + z_absorber) ** 3.92)
    np.testing.assert_allclose(transmission, expected, atol=0.06)


def test_igm_decrement_grows_with_redshift_and_closes_at_the_limit() -> None:
    redshift = np.arange(0.5, 6.6, 0.5)
    forest = np.array(
        [igm_transmission(np.linspace(1050.0, 1170.0, 40) * (1.0 + z), z).mean() for z in redshift]
    )
    assert (np.diff(forest) < 0.0).all()
    limit = igm_transmission(np.array([650.0]) * 4.5, 3.5)
    assert limit < 0.1


def test_igm_broadcasts_over_galaxies() -> None:
    wave = np.linspace(3000.0, 9000.0, 200)
    redshift = np.array([0.3, 1.15, 2.5, 4.0, 5.0])
    together = igm_transmission(wave, redshift)
    assert together.shape == (5, 200)
    for row, z in zip(together, redshift, strict=True):
        np.testing.assert_allclose(row, igm_transmission(wave, z))
    assert (together >= 0.0).all()
    assert (together <= 1.0).all()
