"""Mixtures as numbers and back, their components' noise, and least squares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galbatch.errors import SpecError
from galbatch.mock.mixtures import Mixer, drawn_mixtures
from galbatch.mock.sed_library import populations
from galbatch.quality.intervals import QuantileScale, quantile_factors
from galbatch.spectra.components import SpectralComponents
from galbatch.spectra.mixture_parameters import KINDS, LEVELS, MixtureParameters
from galbatch.spectra.nonnegative import nonnegative_weights
from galbatch.spectra.populations import read_populations

LIMITS = {
    "log_age": (-2.0, 1.1),
    "metallicity": (-0.6, 0.3),
    "velocity": (-400.0, 400.0),
    "dispersion": (50.0, 300.0),
    "extinction": (0.0, 0.4),
    "log_gas": (-1.0, 1.0),
}


@pytest.mark.parametrize("own", [False, True])
def test_mixtures_become_numbers_and_come_back(own: bool) -> None:
    parameters = MixtureParameters(4, own, LIMITS, 0.05)
    rng = np.random.default_rng(0)
    made = drawn_mixtures(parameters, 500, rng)
    numbers = parameters.encode(made, rng)
    assert numbers.shape == (500, parameters.numbers) and np.isfinite(numbers).all()
    back = parameters.decode(numbers)
    same = (back.weight > 0) == (made.weight > 0)
    assert same.mean() > 0.99
    rows = same.all(axis=1)
    for kind in KINDS:
        given, found = getattr(made, kind)[rows], getattr(back, kind)[rows]
        given = np.where(made.weight[rows] > 0, given, np.nan) if given.shape[1] > 1 else given
        size = 1.0 if kind == "weight" else np.ptp(LIMITS[kind])
        near = np.abs(found - given) < 0.05 * size
        assert near[np.isfinite(given)].all()


def test_a_component_without_weight_has_no_parameters() -> None:
    parameters = MixtureParameters(4, True, LIMITS, 0.05)
    made = drawn_mixtures(parameters, 200, np.random.default_rng(0))
    values = dict(zip(parameters.names, parameters.quantities(made).T, strict=True))
    none = values["weight_3"] == 0
    assert none.any() and (~none).any()
    for kind in KINDS[1:]:
        np.testing.assert_array_equal(np.isnan(values[f"{kind}_3"]), none)
    light = (made.weight * np.nan_to_num(made.log_age)).sum(axis=1)
    np.testing.assert_allclose(values["light_log_age"], light)


def test_least_squares_find_a_mixture_without_noise() -> None:
    library = populations()
    templates = np.exp(library.logarithms[:, ::8]).reshape(-1, library.grid.points)[:, ::4]
    templates /= templates.mean(axis=1, keepdims=True)
    wanted = np.zeros((2, len(templates)))
    wanted[0, [1, 7, 15]] = 0.5, 0.3, 0.2
    wanted[1, [3, 18]] = 0.9, 0.1
    flux = wanted @ templates
    for ivar in (np.ones_like(flux), np.random.default_rng(0).random(flux.shape)):
        found, chi2 = nonnegative_weights(flux, ivar, templates)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert (chi2 < 1e-6).all()


def test_the_noise_of_components_is_that_of_noisy_spectra() -> None:
    mixer = Mixer(populations())
    parameters = MixtureParameters(4, False, LIMITS, 0.05)
    rng = np.random.default_rng(0)
    flux = mixer.at_rest(drawn_mixtures(parameters, 300, rng), rng)
    components = SpectralComponents.of(flux, mixer.grid, 6)
    row = np.repeat(flux[:1] / components.level(flux[:1], flux[:1] > 0), 2000, axis=0)
    ivar = np.full(row.shape, 400.0)
    ivar[:, 500:900] = 0
    noisy = row + rng.standard_normal(row.shape) / 20.0
    found = components(noisy, ivar)
    np.testing.assert_allclose(found.scores.std(axis=0), found.noise[0], rtol=0.1)
    factor = components.noise_factor(np.full(row.shape[1], 1 / 400.0), ivar[0] > 0)
    covariance = np.cov(found.scores.T)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=0.12 * covariance.max())
    assert found.seen[0].min() < 0.3 and found.good.all()
    light = 20 * np.median(components.mean)
    assert np.median(found.signal_to_noise) == pytest.approx(light, rel=0.1)


def test_intervals_become_honest() -> None:
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((4000, 1))
    known = centre + np.exp(rng.standard_normal((4000, 1)))
    narrow = centre[:, :, None] + np.array([-0.5, -0.3, 1.0, 1.3, 1.5])
    scale = QuantileScale((0.0,), (quantile_factors(narrow, known, LEVELS),))
    found = QuantileScale.from_json(scale.to_json()).apply(narrow, np.zeros(4000))
    below = (known[:, :, None] < found).mean(axis=(0, 1))
    np.testing.assert_allclose(below[[3, 4]], np.array(LEVELS)[[3, 4]], atol=1e-3)


def library(folder: Path, rows: slice = slice(None), pixels: int = 800) -> Path:
    """A library of 2 metallicities and 3 ages with a line at 5000 Angstrom in air."""
    wavelengths = np.linspace(4800, 5200, pixels)
    metallicity, age = (one.ravel() for one in np.meshgrid([-0.5, 0.0], [1.0, 3.0, 9.0]))
    line = np.exp(-0.5 * ((wavelengths - 5000) / 2) ** 2)
    flux = (1 + 0.1 * metallicity[:, None]) * (1 - 0.3 * line)
    table = pa.table({
        "metallicity": metallicity[rows], "age_gyr": age[rows], "flux": list(flux[rows]),
    })  # fmt: skip
    pq.write_table(table, folder / "ssp.parquet")
    np.save(folder / "wavelength.npy", wavelengths)
    return folder / "ssp.parquet"


def test_a_library_comes_to_vacuum_once(tmp_path: Path) -> None:
    file = library(tmp_path)
    for medium, wanted in (("air", 5001.39), ("vacuum", 5000.0)):
        found = read_populations(file, medium)
        assert found.logarithms.shape[:2] == (2, 3)
        deep = 1 - np.exp(found.logarithms[1, 1])
        centre = (deep * found.grid.wavelengths).sum() / deep.sum()
        assert centre == pytest.approx(wanted, abs=0.1)


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="2 metallicities and 3 ages, at least 2 of both, got 5"):
        read_populations(library(tmp_path, slice(5)))
    np.save(tmp_path / "wavelength.npy", np.linspace(4800, 5200, 700))
    with pytest.raises(SpecError, match="expected spectra of 700 pixels, got 800"):
        read_populations(tmp_path / "ssp.parquet")
    with pytest.raises(SpecError, match="there is no such file"):
        read_populations(tmp_path / "other.parquet")


def test_the_library_of_miles() -> None:
    data = os.environ.get("GALBATCH_DATA")
    file = Path(data or "") / "ssp_miles/ssp_miles_156.parquet"
    if data is None or not file.is_file():
        pytest.skip("GALBATCH_DATA has no ssp_miles")
    found = read_populations(file)
    assert found.logarithms.shape[:2] == (6, 26)
    # The same stars as those of the library that is shipped, which is in vacuum.
    ours = populations()
    shared = slice(200, 2800)
    age = int(np.abs(ours.ages - found.ages[20]).argmin())
    shift = round((found.grid.first - ours.grid.first) / found.grid.step)
    lines = [np.diff(np.exp(one)) / np.exp(one[1:]) for one in (
        found.logarithms[4, 20, shared],
        ours.logarithms[2, age, shared.start + shift : shared.stop + shift],
    )]  # fmt: skip
    inner = slice(9, -9)
    moved = [np.roll(lines[1], move)[inner] for move in range(-4, 5)]
    tried = [np.corrcoef(lines[0][inner], one)[0, 1] for one in moved]
    assert int(np.argmax(tried)) == 4 and max(tried) > 0.95
