"""Spectra as components of others: what chi-square makes of noise that is next to none."""

from __future__ import annotations

import numpy as np

from galbatch.spectra.components import FINEST, SpectralComponents
from galbatch.spectra.grids import LogGrid

GRID = LogGrid(3.6, 1e-4, 400)


def test_noise_that_is_next_to_none_is_taken_for_some() -> None:
    rng = np.random.default_rng(1)
    places = np.linspace(-1, 1, GRID.points)
    spectra = (1 + 0.2 * rng.normal(size=(50, 1)) * places).astype(np.float32)
    components = SpectralComponents.of(spectra, GRID, 2)
    flux = 3e5 * (spectra[:4] + 0.02 * np.sin(40 * places))
    finest = (FINEST / (components.level(flux, flux > 0)[:, None] * components.mean)) ** 2
    found = components(flux, finest)
    assert (found.chi2 > 2).all() and (found.chi2 < 16).all()
    np.testing.assert_allclose(components(flux, np.ones_like(flux)).chi2, found.chi2, rtol=0.01)
    np.testing.assert_allclose(components(flux, finest * 1e6).chi2, found.chi2, rtol=1e-3)
    assert (components(flux, finest / 4).chi2 < found.chi2).all()
    made, error = components.nearest(flux, finest)
    chi2 = (((flux - made) / error) ** 2).mean(axis=1)
    np.testing.assert_allclose(chi2, found.chi2, rtol=1e-3)
