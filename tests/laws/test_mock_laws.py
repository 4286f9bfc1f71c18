"""Laws of the simulated sky's noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from galbatch.mock.observe import _Photometry, _Telescope
from galbatch.mock.population import BLOCK_ROWS
from galbatch.spec import load_survey

SURVEYS = ("alhambra", "lsst_dc2")


@pytest.fixture(scope="module", params=SURVEYS)
def exposed(request: pytest.FixtureRequest) -> tuple[_Telescope, np.ndarray, _Photometry]:
    from galbatch.mock.image import detection_image

    telescope = _Telescope(load_survey(request.param))
    rng = np.random.default_rng(11)
    objects = telescope.population.draw(rng, BLOCK_ROWS)
    weight = np.ones(BLOCK_ROWS)
    at = telescope.reference
    ratio = objects.flux[:, at] / telescope.sky_noise[at]
    image = detection_image(rng, objects, ratio, weight, telescope.mock.seeing)
    return telescope, objects.flux, telescope._expose(rng, objects.flux, image, weight)


def test_pulls_are_normal(exposed: tuple[_Telescope, np.ndarray, _Photometry]) -> None:
    """(measured - true) / stated error ~ N(0, 1), over everything that is not saturated."""
    _, true, seen = exposed
    pulls = ((seen.flux - true) / seen.error)[~seen.saturated]
    assert abs(pulls.mean()) < 0.03
    assert abs(pulls.std() - 1.0) < 0.02
    # Errors are estimated from the measured flux, so this is not exact: ask for closeness.
    assert stats.kstest(pulls.ravel(), "norm").statistic < 0.015
    for band in range(pulls.shape[1]):
        assert stats.kstest(pulls[:, band], "norm").statistic < 0.03


def test_bands_are_independent(exposed: tuple[_Telescope, np.ndarray, _Photometry]) -> None:
    _, true, seen = exposed
    pulls = ((seen.flux - true) / seen.error)[~seen.saturated]
    correlation = np.corrcoef(pulls.T)
    off = correlation[~np.eye(len(correlation), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(BLOCK_ROWS)


def test_depth_is_where_a_point_source_has_five_sigma(
    exposed: tuple[_Telescope, np.ndarray, _Photometry],
) -> None:
    telescope, _, seen = exposed
    for band, noise in enumerate(telescope.sky_noise):
        # The sky's noise of the smallest objects; larger ones have more.
        depth = 23.9 - 2.5 * np.log10(5.0 * np.percentile(seen.sky[:, band], 1))
        assert depth == pytest.approx(telescope.survey.bands[band].depth, abs=0.02)
        assert (seen.sky[:, band] >= 0.999 * noise).all()


def test_non_detections_rise_with_magnitude(
    exposed: tuple[_Telescope, np.ndarray, _Photometry],
) -> None:
    telescope, true, seen = exposed
    magnitude = 23.9 - 2.5 * np.log10(true[:, telescope.reference])
    faintest = telescope.mock.magnitudes[1]
    lost = [
        (
            seen.flux[(magnitude > faintest - step) & (magnitude <= faintest - step + 1.0), 0] <= 0
        ).mean()
        for step in (4.0, 3.0, 2.0, 1.0)
    ]
    assert (np.diff(lost) > -0.01).all()
    assert lost[0] < 0.15
    assert lost[-1] > lost[0] + 0.02
