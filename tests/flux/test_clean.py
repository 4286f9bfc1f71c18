from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from galbatch.errors import SpecError
from galbatch.flux.clean import (
    clean,
    flux_from_magnitude,
    magnitude_from_flux,
    microjansky,
    thesis_clean,
)
from galbatch.spec.job import StandardClean, ThesisClean
from galbatch.spec.survey import Band, Photometry, Sentinel
from galbatch.values import FluxBlock

BANDS = (
    Band(name="g", wavelength=4800, width=1400),
    Band(name="r", wavelength=6200, width=1400, depth=25.0),
)
ALHAMBRA = Photometry(
    sentinels=(
        Sentinel(value=99, meaning="not_detected", error_is_limit=True),
        Sentinel(value=-99, meaning="not_observed"),
        Sentinel(value=-88, meaning="saturated"),
    )
)


def cleaned(
    value: Any,
    error: Any,
    photometry: Photometry = ALHAMBRA,
    recipe: StandardClean | None = None,
    **words: Any,
) -> FluxBlock:
    return clean(
        np.atleast_2d(np.asarray(value, float)),
        np.atleast_2d(np.asarray(error, float)),
        photometry,
        BANDS,
        recipe or StandardClean(),
        **words,
    )


def test_magnitudes_become_microjansky() -> None:
    # AB 23.9 is 1 microjansky, five magnitudes brighter is a hundred times as much.
    block = cleaned([23.9, 18.9], [0.1, 0.01])
    np.testing.assert_allclose(block.flux, [[1.0, 100.0]], rtol=1e-6)
    np.testing.assert_allclose(block.error, [[0.0921034, 0.921034]], rtol=1e-5)
    assert block.detected.all() and block.observed.all() and not block.saturated.any()
    assert block.flux.dtype == block.error.dtype == np.float32


def test_not_detected_has_the_flux_of_its_limit_as_error() -> None:
    block = cleaned([99.0, 20.0], [26.4, 0.1])
    assert block.observed.all() and not block.detected[0, 0]
    assert block.flux[0, 0] == 0
    assert block.error[0, 0] == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("limit", [np.nan, 0.0, 99.0, -99.0, np.inf])
def test_a_limit_that_is_none_falls_back_on_the_depth(limit: float) -> None:
    block = cleaned([99.0, 99.0], [limit, limit])
    assert not block.observed[0, 0]
    # r has a 5-sigma depth of 25: 0.3631 microjansky.
    assert block.observed[0, 1] and block.error[0, 1] == pytest.approx(0.363078 / 5, rel=1e-5)


def test_sentinels_that_hide_a_value() -> None:
    block = cleaned([[-99.0, 20.0], [-88.0, 20.0], [-99.0, -99.0]], np.full((3, 2), 0.1))
    np.testing.assert_array_equal(block.observed, [[False, True], [False, True], [False, False]])
    np.testing.assert_array_equal(block.saturated, [False, True, False])


@pytest.mark.parametrize("error", [0.0, -0.1, np.nan, np.inf, -99.0])
def test_a_value_without_an_error_is_not_observed(error: float) -> None:
    assert not cleaned([20.0, 20.0], [error, 0.1]).observed[0, 0]


def test_an_error_floor_gives_a_rounded_error_a_size() -> None:
    floor = StandardClean(error_floor=0.02)
    block = cleaned([18.9, 18.9], [0.0, np.nan], recipe=floor)
    np.testing.assert_array_equal(block.observed, [[True, False]])
    assert block.error[0, 0] == pytest.approx(2.0, rel=1e-5)
    both = cleaned([18.9, 18.9], [0.1, 0.1], recipe=floor)
    assert both.error[0, 0] == pytest.approx(np.hypot(9.21034, 2.0), rel=1e-5)


def test_masks_and_flags() -> None:
    block = cleaned(
        [20.0, 20.0], [0.1, 0.1], mask=np.array([[True, False]]), saturated=np.array([True])
    )
    np.testing.assert_array_equal(block.observed, [[False, True]])
    assert block.saturated.all()


def test_fluxes_in_other_units() -> None:
    # 1e-19 erg/s/cm2/A at 4800 A, times lambda^2 / c: 7.6853e-31 erg/s/cm2/Hz = 0.076853 uJy.
    lambda_ = Photometry(quantity="flux", unit="1e-19 erg / (s cm2 Angstrom)", error="relative")
    block = cleaned([[10.0, -10.0]], [[0.1, 0.1]], lambda_)
    assert block.flux[0, 0] == pytest.approx(0.76853, rel=1e-4)
    assert block.flux[0, 1] < 0 and block.detected.all()
    np.testing.assert_allclose(block.error, 0.1 * np.abs(block.flux), rtol=1e-6)
    nano = cleaned([[5.0, 5.0]], [[1.0, 1.0]], Photometry(quantity="flux", unit="nJy"))
    np.testing.assert_allclose(nano.flux, 0.005)
    np.testing.assert_allclose(nano.error, 0.001)


def test_a_unit_that_is_none() -> None:
    with pytest.raises(SpecError, match="unit of flux density"):
        microjansky("km", 5000.0, "band g")


def test_extinction_brightens() -> None:
    recipe = StandardClean(extinction=True)
    words = {"value": [20.0, 20.0], "error": [0.1, 0.1]}
    plain = cleaned(**words)
    for reddening, factor in ((0.1, 10 ** (0.4 * 0.1 * 2.58)), (np.nan, 1.0), (-1.0, 1.0)):
        block = cleaned(**words, recipe=recipe, reddening=np.array([reddening]))
        assert block.flux[0, 1] / plain.flux[0, 1] == pytest.approx(factor, rel=5e-3)
        np.testing.assert_allclose(block.flux / block.error, plain.flux / plain.error, rtol=1e-5)
    with pytest.raises(SpecError, match=r"E\(B-V\)"):
        cleaned(**words, recipe=recipe)


def test_what_does_not_fit_is_not_observed() -> None:
    block = cleaned([[-120.0, 400.0]], [[0.1, 0.1]])
    assert not block.observed.any()


def test_thesis_recipe() -> None:
    raw = np.array([[-99.0, 99.0, 23.5, -3.0, 81441112345.0, np.nan]])
    np.testing.assert_array_equal(
        thesis_clean(raw, ThesisClean()), np.float32([[27, 27, 23.5, 0, 27, 27]])
    )


@given(hnp.arrays(np.float64, 20, elements=st.floats(5.0, 35.0)))
def test_magnitude_round_trip(magnitude: np.ndarray) -> None:
    np.testing.assert_allclose(magnitude_from_flux(flux_from_magnitude(magnitude)), magnitude)
    assert np.isnan(magnitude_from_flux(np.array([0.0, -1.0]))).all()


_ANYTHING = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([99.0, -99.0, -88.0, 0.0, 23.9, 26.0]),
)


@settings(max_examples=200)
@given(
    hnp.arrays(np.float64, (6, 2), elements=_ANYTHING),
    hnp.arrays(np.float64, (6, 2), elements=_ANYTHING),
    st.sampled_from(
        [ALHAMBRA, Photometry(quantity="flux", unit="uJy"), Photometry(error="relative")]
    ),
)
def test_whatever_a_catalogue_says(
    value: np.ndarray, error: np.ndarray, photometry: Photometry
) -> None:
    block = cleaned(value, error, photometry, StandardClean(error_floor=0.01))
    assert np.isfinite(block.flux).all() and np.isfinite(block.error).all()
    assert not (block.detected & ~block.observed).any()
    assert (block.error[block.observed] > 0).all()
    assert (block.flux[~block.detected] == 0).all() and (block.error[~block.observed] == 0).all()
    again = cleaned(value, error, photometry, StandardClean(error_floor=0.01))
    np.testing.assert_array_equal(again.flux, block.flux)
