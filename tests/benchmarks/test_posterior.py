from __future__ import annotations

import numpy as np
import pytest
from limit.posterior import GalaxyPosterior, RedshiftPosterior, noise_factor
from limit.prior import MAGNITUDE, ZETA, GalaxyPrior

from galbatch.errors import SpecError
from galbatch.mock.galaxies import Galaxies
from galbatch.mock.image import detection_image
from galbatch.mock.noise import NoiseLaw
from galbatch.mock.observe import _Telescope
from galbatch.spec import load_survey
from galbatch.values import FluxBlock


@pytest.fixture(scope="module")
def model() -> Galaxies:
    survey = load_survey("lsst_dc2")
    return Galaxies(survey.bands, survey.band_names.index("i"), (20.0, 25.0))


def test_the_bank_weighted_is_the_sky(model: Galaxies) -> None:
    prior = GalaxyPrior(model)
    bank = prior.bank(np.random.default_rng(2), 60_000)
    assert (np.diff(bank.points.x[MAGNITUDE]) >= 0).all()
    weight = np.exp(bank.described.log_density - bank.log_density)
    drawn = model.draw(np.random.default_rng(3), 60_000)
    magnitude = 23.9 - 2.5 * np.log10(drawn.flux[:, model.reference])
    for ours, theirs in (
        (bank.points.x[ZETA], np.log1p(drawn.redshift)),
        (bank.described.log_mass, drawn.log_mass),
        (bank.points.x[MAGNITUDE], magnitude),
    ):
        order = np.argsort(ours)
        cumulative = np.cumsum(weight[order]) / weight.sum()
        levels = np.quantile(theirs, [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
        reached = np.interp(levels, ours[order], cumulative)
        assert reached == pytest.approx([0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98], abs=0.012)


def test_a_bank_galaxy_has_its_magnitude_and_mass(model: Galaxies) -> None:
    bank = GalaxyPrior(model).bank(np.random.default_rng(4), 2000)
    flux = bank.described.flux[:, model.reference]
    assert 23.9 - 2.5 * np.log10(flux) == pytest.approx(bank.points.x[MAGNITUDE], abs=1e-4)
    assert np.isfinite(bank.described.log_density).mean() > 0.999


def test_the_stated_errors_tell_the_noise_factor() -> None:
    telescope = _Telescope(load_survey("alhambra"))
    rng = np.random.default_rng(8)
    objects = telescope.population.draw(rng, 2000)
    at = telescope.reference
    ratio = objects.flux[:, at] / telescope.sky_noise[at]
    weight = np.ones(2000)
    image = detection_image(rng, objects, ratio, weight, telescope.mock.seeing)
    seen = telescope._expose(rng, objects.flux, image, weight)
    detected = seen.observed & (seen.flux > 0)
    block = FluxBlock(
        np.where(detected, seen.flux, 0), np.where(detected, seen.error, seen.sky), seen.observed,
        detected, seen.saturated,
    )  # fmt: skip
    law = NoiseLaw(telescope.sky_noise.astype(float), telescope.mock.calibration)
    found = noise_factor(block, law)
    assert found == pytest.approx(image.noise_factor, rel=2e-3)


def test_quantiles_and_mode() -> None:
    edges = np.linspace(0.0, 4.0, 401)
    density = np.array([np.full(400, 0.25), np.full(400, np.nan), np.zeros(400)])
    density[2, 100:110] = 8.0
    density[2, 300:310] = 2.0
    found = RedshiftPosterior(edges, density, np.array([0.0, np.nan, 0.5]))
    assert found.quantiles([0.1, 0.5])[0] == pytest.approx([0.4, 2.0])
    assert np.isnan(found.quantiles([0.5])[1]).all()
    assert found.quantiles([0.4, 0.9])[2] == pytest.approx([1.05, 3.05])
    assert 1.0 < found.mode[2] < 1.1
    assert list(found.converged) == [True, False, False]


def test_what_a_user_may_get_wrong() -> None:
    survey = load_survey("alhambra")
    assert survey.mock is not None
    blind = survey.mock.model_copy(update={"detection": 60.0})
    with pytest.raises(SpecError, match="nothing reaches"):
        GalaxyPosterior(survey.model_copy(update={"mock": blind}))
    with pytest.raises(SpecError, match="no 'mock' section"):
        GalaxyPosterior(load_survey("zcosmos").model_copy(update={"mock": None}))
