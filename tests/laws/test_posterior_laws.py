"""Laws that the exact posterior of the simulated sky must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from limit.posterior import Effort, GalaxyPosterior, RedshiftPosterior
from scipy.stats import kstest

from galbatch.errors import SpecError
from galbatch.flux.clean import clean
from galbatch.flux.columns import numbers, raw_photometry
from galbatch.mock.galaxies import Galaxies
from galbatch.mock.noise import SOURCE_NOISE
from galbatch.mock.observe import mock_batches
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


def transform(found: RedshiftPosterior, true: np.ndarray) -> np.ndarray:
    """Probability below the truth."""
    rows = zip(true, found.cumulative, strict=True)
    return np.array([np.interp(redshift, EDGES, row) for redshift, row in rows])


def test_the_truth_is_anywhere_in_the_posterior(alhambra: GalaxyPosterior) -> None:
    block, true = galaxies(load_survey("alhambra"), "zb_1", 21, ROWS)
    found = alhambra.redshift(block, EDGES)
    assert np.mean(found.converged) > 0.95
    assert kstest(transform(found, true), "uniform").pvalue > 0.02


def test_understated_errors_show(alhambra: GalaxyPosterior) -> None:
    block, true = galaxies(load_survey("alhambra"), "zb_1", 21, ROWS // 2)
    found = alhambra.redshift(replace(block, error=0.35 * block.error), EDGES)
    assert kstest(transform(found, true), "uniform").pvalue < 1e-3


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
    mock = survey.mock.model_copy(update={"seeing": 50.0, "magnitudes": (24.0, 25.3)})
    survey = survey.model_copy(update={"mock": mock})
    block, _ = galaxies(survey, "redshift", 5, 60)
    at = survey.band_names.index(survey.reference_band)
    sky = Galaxies(survey.bands, at, mock.magnitudes).draw(np.random.default_rng(3), 200_000)
    own = 10 ** (0.4 * (23.9 - np.array([band.depth for band in survey.bands]))) / 5.0
    own /= 5.0 * SOURCE_NOISE
    true = sky.flux.astype(np.float64)
    order = np.argsort(sky.redshift)
    levels = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    rows, expected = [], []
    for row in np.flatnonzero(block.detected.all(axis=1)):
        flux, error = block.flux[row].astype(float), block.error[row].astype(float)
        sky_noise = error**2 - flux * own - (mock.calibration * flux) ** 2
        variance = sky_noise + true * own + (mock.calibration * true) ** 2
        like = -0.5 * ((flux - true) ** 2 / variance + np.log(variance)).sum(axis=1)
        weight = np.exp(like - like.max())
        if weight.sum() ** 2 > 200 * np.square(weight).sum():
            cumulative = np.cumsum(weight[order]) / weight.sum()
            rows.append(row)
            expected.append(np.interp(levels, cumulative, sky.redshift[order]))
    assert len(rows) >= 10
    chosen = FluxBlock(*(array[rows] for array in vars(block).values()))
    found = GalaxyPosterior(survey, effort=EFFORT.more(2)).redshift(chosen, EDGES)
    reached = [np.interp(z, EDGES, row) for z, row in zip(expected, found.cumulative, strict=True)]
    # Both are Monte Carlo integrals, of a few hundred draws that count.
    apart = np.array(reached) - levels
    assert np.abs(apart).max() < 0.25
    assert np.sqrt(np.mean(apart**2)) < 0.07
    assert np.abs(apart.mean(axis=0)).max() < 0.04
