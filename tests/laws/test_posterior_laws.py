"""Laws that the exact posterior of the simulated sky must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from galbatch.errors import SpecError
from galbatch.flux.clean import clean
from galbatch.flux.columns import numbers, raw_photometry
from galbatch.mock.galaxies import Galaxies
from galbatch.mock.observe import SOURCE_NOISE, mock_batches
from galbatch.mock.posterior import Effort, GalaxyPosterior
from galbatch.spec import load_survey
from galbatch.spec.job import StandardClean
from galbatch.spec.survey import Survey
from galbatch.values import FluxBlock

EFFORT = Effort(bank=60_000, candidates=4096, particles=128, moves=3, rounds=24)
EDGES = np.expm1(np.arange(0.0, 1.65, 0.001))
ROWS = 160


def galaxies(survey: Survey, truth: str, seed: int, rows: int) -> tuple[FluxBlock, np.ndarray]:
    """Cleaned photometry of simulated galaxies, and their redshifts."""
    table = next(mock_batches(survey, 4096, seed, 4096))
    raw = raw_photometry(table, survey, survey.band_names)
    with np.errstate(invalid="ignore"):
        block = clean(
            raw.value, raw.error, survey.photometry, survey.bands, StandardClean(extinction=False),
            mask=raw.mask, saturated=raw.saturated,
        )  # fmt: skip
    redshift = numbers(table, truth)
    wanted = np.flatnonzero((redshift > 0) & ~block.saturated)[:rows]
    return FluxBlock(*(array[wanted] for array in vars(block).values())), redshift[wanted]


@pytest.fixture(scope="module")
def alhambra() -> GalaxyPosterior:
    return GalaxyPosterior(load_survey("alhambra"), effort=EFFORT)


def transform(posterior: GalaxyPosterior, block: FluxBlock, true: np.ndarray) -> np.ndarray:
    found = posterior.redshift(block, EDGES)
    below = np.array(
        [np.interp(z, EDGES, row) for z, row in zip(true, found.cumulative, strict=True)]
    )
    assert np.mean(found.converged) > 0.9
    return below


def test_the_truth_is_anywhere_in_the_posterior(alhambra: GalaxyPosterior) -> None:
    block, true = galaxies(load_survey("alhambra"), "zb_1", 21, ROWS)
    assert kstest(transform(alhambra, block, true), "uniform").pvalue > 0.02


def test_understated_errors_show(alhambra: GalaxyPosterior) -> None:
    block, true = galaxies(load_survey("alhambra"), "zb_1", 21, ROWS // 2)
    certain = replace(block, error=0.35 * block.error)
    assert kstest(transform(alhambra, certain, true), "uniform").pvalue < 1e-3


def test_what_has_no_photometry_has_no_posterior(alhambra: GalaxyPosterior) -> None:
    block, _ = galaxies(load_survey("alhambra"), "zb_1", 21, 4)
    block.observed[1], block.detected[1], block.saturated[2] = False, False, True
    found = alhambra.redshift(block, EDGES)
    assert list(np.isnan(found.density).all(axis=1)) == [False, True, True, False]
    assert list(np.isfinite(found.disagreement)) == [True, False, False, True]
    assert found.cumulative[[0, 3], -1] == pytest.approx(1.0)
    with pytest.raises(SpecError, match="ascending"):
        alhambra.redshift(block, EDGES[::-1])


def test_a_sample_of_the_sky_weighted_by_its_likelihood_says_the_same() -> None:
    """Galaxies from the generator itself, with the likelihood written out once more.

    In so bad a seeing that all galaxies are points, so that the noise says nothing of their size.
    """
    survey = load_survey("lsst_dc2")
    assert survey.mock is not None
    mock = survey.mock.model_copy(update={"seeing": 50.0, "magnitudes": (22.0, 25.3)})
    survey = survey.model_copy(update={"mock": mock})
    block, _ = galaxies(survey, "redshift", 5, 40)
    found = GalaxyPosterior(survey, effort=EFFORT).redshift(block, EDGES)
    at = survey.band_names.index(survey.reference_band)
    sky = Galaxies(survey.bands, at, mock.magnitudes).draw(np.random.default_rng(3), 300_000)
    point = 10 ** (0.4 * (23.9 - np.array([band.depth for band in survey.bands]))) / 5.0
    zeta, true = np.log1p(sky.redshift), sky.flux.astype(np.float64)
    compared = 0
    for row in range(len(block)):
        if not block.detected[row].all():
            continue
        flux, error = block.flux[row].astype(float), block.error[row].astype(float)
        own = point / (5.0 * SOURCE_NOISE)
        sky_noise = error**2 - flux * own - (mock.calibration * flux) ** 2
        variance = sky_noise + true * own + (mock.calibration * true) ** 2
        like = -0.5 * ((flux - true) ** 2 / variance + np.log(variance)).sum(axis=1)
        weight = np.exp(like - like.max())
        weight /= weight.sum()
        enough = 1.0 / np.square(weight).sum()
        if enough < 150:
            continue
        mean = weight @ zeta
        width = np.sqrt(weight @ (zeta - mean) ** 2)
        middle = np.log1p(0.5 * (EDGES[1:] + EDGES[:-1]))
        share = found.density[row] * np.diff(EDGES)
        # Both are Monte Carlo integrals: of `enough` draws, and of a few hundred particles.
        assert abs(share @ middle - mean) < 4.0 * width * np.sqrt(1.0 / enough + 1.0 / 100.0)
        assert np.sqrt(share @ (middle - share @ middle) ** 2) == pytest.approx(width, rel=0.45)
        compared += 1
    assert compared >= 5
