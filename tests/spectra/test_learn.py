"""Bases that are learned from simulated spectra."""

from __future__ import annotations

import numpy as np
import pytest

from galbatch.errors import SpecError
from galbatch.mock.at_rest import galaxies_at_rest, quasars_at_rest, stars_at_rest
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.learn import learned_basis, principal_vectors, residual

RNG = np.random.default_rng(5)


def test_galaxies_that_were_held_out_are_fitted_to_a_hundredth() -> None:
    galaxies = galaxies_at_rest(800, (1,))
    taught, held = galaxies.part(slice(0, 640)), galaxies.part(slice(640, None))
    basis = learned_basis("galaxies", "GALAXY", taught.flux, taught.seen, taught.grid, 30)
    left = residual(basis, held.flux, held.seen)
    old = held.subclass == ""
    assert old.sum() > 10 and np.median(left[old]) < 0.01
    fewer = learned_basis("galaxies", "GALAXY", taught.flux, taught.seen, taught.grid, 4)
    assert (residual(fewer, held.flux, held.seen) > left).all()


def test_missing_pixels_do_not_bend_the_vectors() -> None:
    axes = np.stack([np.ones(200), np.linspace(-1, 1, 200), np.sin(np.arange(200) / 9.0)])
    spectra = np.column_stack([RNG.uniform(2, 3, 300), RNG.normal(0, 1, (300, 2))]) @ axes
    start = RNG.integers(0, 51, (300, 1))
    seen = (np.arange(200) >= start) & (np.arange(200) < start + 150)
    found = principal_vectors(np.where(seen, spectra, 1e9), seen, 3)
    left = axes - axes @ np.linalg.pinv(found) @ found
    assert np.abs(left).max() < 0.001
    np.testing.assert_allclose(found @ found.T / 200, np.eye(3), atol=1e-6)
    assert found.sum(axis=1)[0] > 0


def test_what_is_at_rest_is_where_its_lines_are() -> None:
    quasars = quasars_at_rest(40, (2,))
    at = np.searchsorted(quasars.grid.wavelengths, [1500.0, 1549.5, 1610.0])
    seen = quasars.seen[:, at].all(axis=1)
    mean = quasars.flux[seen].mean(axis=0)
    assert seen.sum() > 5 and mean[at[1]] > 1.3 * max(mean[at[0]], mean[at[2]])
    stars = stars_at_rest(2, (3,))
    hot = stars.flux[stars.subclass == "A0"].mean(axis=0)
    at = np.searchsorted(stars.grid.wavelengths, [4290.0, 4341.7, 4395.0])
    assert hot[at[1]] < 0.8 * min(hot[at[0]], hot[at[2]])
    np.testing.assert_allclose(np.square(stars.flux).mean(axis=1), 1.0, rtol=1e-3)


def test_too_few_are_refused() -> None:
    with pytest.raises(SpecError, match="expected 12 spectra at least for 6 vectors"):
        learned_basis(
            "few", "GALAXY", np.ones((5, 9)), np.ones((5, 9), bool), LogGrid(3.6, 1e-4, 9), 6
        )
