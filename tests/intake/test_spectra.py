"""Spectra of any grid come onto the survey's axis, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from galbatch.columns import to_numpy
from galbatch.intake.spectra import SpectralPlan, on_axis
from galbatch.spec.survey import Survey
from galbatch.spectra.medium import vacuum_wavelengths

FIRST, STEP, PIXELS = 3.56, 1e-4, 400
AXIS = 10 ** (FIRST + STEP * np.arange(PIXELS))


def survey(**spectra: Any) -> Survey:
    arrays = [
        {"name": name, "shape": [PIXELS], "dimensions": ["wavelength"], "dtype": dtype}
        for name, dtype in (("flux", "float32"), ("ivar", "float32"), ("mask", "int32"))
    ]
    axis = {"name": "wavelength", "start": FIRST, "step": STEP, "points": PIXELS, "scale": "log10"}
    return Survey.model_validate(
        {
            "name": "spectra",
            "title": "Spectra",
            "id": {"column": "id"},
            "spectra": {"flux": "flux", "ivar": "ivar", "mask": "mask", "wavelength": "lam"}
            | spectra,
            "columns": [{"name": "id"}, *arrays],
            "axes": [axis],
        }
    )


def table(grids: Sequence[NDArray[np.float64]], **changed: Sequence[Any]) -> pa.Table:
    """A spectrum for each grid: flux is the number of the pixel, ivar one more than that."""
    columns = {
        "flux": [np.arange(len(grid), dtype=np.float32) for grid in grids],
        "ivar": [np.arange(len(grid), dtype=np.float32) + 1 for grid in grids],
        "mask": [np.zeros(len(grid), np.int32) for grid in grids],
        "lam": grids,
    } | changed
    return pa.table(
        {
            name: rows if isinstance(rows, pa.Array) else pa.array([*rows])
            for name, rows in columns.items()
        }
    )


def taken(
    grids: Sequence[NDArray[np.float64]], plan: SpectralPlan | None = None, **words: Any
) -> tuple[dict[str, NDArray[Any]], list[tuple[list[int], str]]]:
    spectra = words.pop("spectra", {})
    found, problems = on_axis(
        survey(**spectra), plan or SpectralPlan("lam"), table(grids, **words), "lam"
    )
    assert "lam" not in found.column_names
    arrays = {name: to_numpy(found[name]) for name in found.column_names}
    return arrays, [(rows.tolist(), reason) for rows, reason in problems if len(rows)]


def test_the_same_grid_is_placed_and_no_number_changes() -> None:
    grids = [AXIS, AXIS[30:200], 10 ** (FIRST + STEP * np.arange(-50, 500))]
    arrays, problems = taken(grids)
    assert not problems
    flux, ivar = arrays["flux"], arrays["ivar"]
    assert flux.dtype == np.float32
    np.testing.assert_array_equal(flux[0], np.arange(PIXELS))
    np.testing.assert_array_equal(flux[1, 30:200], np.arange(170))
    assert np.isnan(flux[1, :30]).all() and np.isnan(flux[1, 200:]).all()
    assert (ivar[1, :30] == 0).all() and (ivar[1, 200:] == 0).all()
    np.testing.assert_array_equal(flux[2], np.arange(50, 450))
    np.testing.assert_array_equal(ivar[2], np.arange(51, 451))


def test_logarithms_of_float32_as_sdss_writes_them_are_placed() -> None:
    grid = np.log10(AXIS[7:]).astype(np.float32).astype(np.float64)
    arrays, problems = taken([grid], spectra={"scale": "log10"})
    assert not problems
    np.testing.assert_array_equal(arrays["flux"][0, 7:], np.arange(PIXELS - 7))


@pytest.mark.parametrize(
    ("words", "plan", "numbers"),
    [
        ({"scale": "ln"}, SpectralPlan("lam"), np.log),
        ({}, SpectralPlan("lam", "nm"), lambda lam: lam / 10),
        ({}, SpectralPlan("lam", "um"), lambda lam: lam / 1e4),
    ],
)
def test_other_units_are_the_same_wavelengths(
    words: Any, plan: SpectralPlan, numbers: Callable[[Any], Any]
) -> None:
    arrays, problems = taken([numbers(AXIS)], plan, spectra=words)
    assert not problems
    np.testing.assert_array_equal(arrays["flux"][0], np.arange(PIXELS))


def test_from_the_longest_to_the_shortest_is_turned_round() -> None:
    arrays, problems = taken([AXIS[::-1]])
    assert not problems
    np.testing.assert_array_equal(arrays["flux"][0], np.arange(PIXELS)[::-1])


def test_air_is_made_vacuum() -> None:
    """82 km/s, more than a pixel: what is a line in the file is one in the store."""
    lines = np.zeros(PIXELS, np.float32)
    lines[200] = 1
    arrays, problems = taken(
        [AXIS], SpectralPlan("lam", medium="air"), flux=[lines], ivar=[np.ones(PIXELS, np.float32)]
    )
    assert not problems
    flux = np.nan_to_num(arrays["flux"][0])
    centre = (flux * AXIS).sum() / flux.sum()
    (wanted,) = vacuum_wavelengths(AXIS[200:201])
    assert centre == pytest.approx(wanted, abs=0.1)
    assert wanted - AXIS[200] > 1.0


def test_a_linear_grid_conserves_flux_and_variance() -> None:
    grid = np.arange(AXIS[0] - 5, AXIS[-1] + 5, 1.3)
    rng = np.random.default_rng(1)
    flux = rng.normal(10, 1, len(grid)).astype(np.float32)
    arrays, problems = taken(
        [grid], flux=[flux], ivar=[np.full(len(grid), 4, np.float32)],
    )  # fmt: skip
    assert not problems
    edges = np.concatenate([[2 * AXIS[0] - AXIS[1]], AXIS, [2 * AXIS[-1] - AXIS[-2]]])
    widths = (edges[2:] - edges[:-2]) / 2
    inside = (grid > AXIS[0]) & (grid < AXIS[-1])
    assert (arrays["flux"][0] * widths).sum() == pytest.approx(flux[inside].sum() * 1.3, rel=1e-2)
    assert np.isfinite(arrays["flux"]).all()
    # No pixel of the file counts twice, though the axis has pixels half as wide.
    assert arrays["ivar"].sum() == pytest.approx(4 * (AXIS[-1] - AXIS[0]) / 1.3, rel=1e-2)


def test_a_pixel_without_data_leaves_its_neighbours_alone() -> None:
    grid = np.arange(AXIS[0] - 5, AXIS[-1] + 5, 1.3)
    flux, ivar = np.ones(len(grid), np.float32), np.ones(len(grid), np.float32)
    mask = np.zeros(len(grid), np.int32)
    flux[100], ivar[120], mask[140] = np.nan, 0, 5
    arrays, problems = taken([grid], flux=[flux], ivar=[ivar], mask=[mask])
    assert not problems
    lost = arrays["ivar"][0] == 0
    for pixel in (100, 120):
        touched = np.abs(AXIS - grid[pixel]) < 1.08
        assert lost[touched].all()
    assert 2 <= lost.sum() <= 8 and np.isfinite(arrays["flux"]).all()
    assert set(np.unique(arrays["mask"])) == {0, 5}


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (AXIS / 10, "expected wavelengths from 3631 to 3980 Angstrom, got 363.08 to 398.02"),
        (AXIS / 1e4, "expected wavelengths in Angstrom, got 0.36308"),
        (np.log10(AXIS), "expected wavelengths in Angstrom, got 3.56 to"),
        (np.insert(np.delete(AXIS, 9), 9, AXIS[8]), "at pixels 9 and 10"),
        (np.insert(np.delete(AXIS, 9), 9, np.nan), "expected a wavelength for each pixel"),
        (AXIS + 5000, "expected wavelengths from 3631"),
    ],
)
def test_what_is_no_grid_is_refused(grid: NDArray[np.float64], reason: str) -> None:
    arrays, problems = taken([AXIS, grid])
    ((rows, said),) = problems
    assert rows == [1] and reason in said
    np.testing.assert_array_equal(arrays["flux"][0], np.arange(PIXELS))


def test_columns_of_several_lengths_are_refused() -> None:
    short = np.ones(PIXELS - 3, np.float32)
    whole = np.ones(PIXELS, np.float32)
    _, problems = taken([AXIS, AXIS, AXIS], ivar=[short, None, whole], flux=[whole] * 3)
    assert problems == [
        ([1], "expected a spectrum, there is none"),
        ([0], "column 'ivar': 397 pixels, there are wavelengths 400"),
    ]


def test_numbers_that_would_be_rounded_are_refused() -> None:
    _, problems = taken([AXIS], flux=[np.ones(PIXELS)])
    ((rows, said),) = problems
    assert rows == [0] and "expected float32, the file holds float64" in said


def test_flags_beyond_the_column_s_bits_are_refused() -> None:
    flags = np.zeros((2, PIXELS), np.int64)
    flags[1, 7] = 1 << 40
    arrays, problems = taken([AXIS, AXIS], mask=flags)
    ((rows, reason),) = problems
    assert rows == [1] and "write dtype: int64" in reason and not arrays["mask"][0].any()


def test_rows_with_the_same_wavelengths_and_others_keep_their_own() -> None:
    shifted = 10 ** (FIRST + STEP * (np.arange(PIXELS - 30) + 10))
    broken = AXIS.copy()
    broken[3] = np.nan
    order = [AXIS, shifted, broken, AXIS, shifted, AXIS]
    arrays, problems = taken(order)
    assert [rows for rows, _ in problems] == [[2]]
    for row, grid in enumerate(order):
        if grid is not broken:
            expected = np.full(PIXELS, np.nan)
            first = 0 if grid is AXIS else 10
            expected[first : first + len(grid)] = np.arange(len(grid))
            np.testing.assert_array_equal(arrays["flux"][row], expected)


@pytest.mark.parametrize("dropped", [0.0, 0.2, 0.35, 0.5, 0.7])
def test_pixels_that_are_left_out_of_a_grid_stay_without_data(dropped: float) -> None:
    kept = np.random.default_rng(2).random(PIXELS) >= dropped
    if not dropped:
        kept[100:250] = False
    flux = np.arange(PIXELS, dtype=np.float32)
    arrays, problems = taken(
        [AXIS[kept], AXIS[kept][::-1]],
        flux=[flux[kept], flux[kept][::-1]],
        ivar=[np.full(kept.sum(), 3, np.float32)] * 2,
        mask=[np.full(kept.sum(), 5, np.int32)] * 2,
    )
    assert not problems
    for row in range(2):
        np.testing.assert_array_equal(arrays["flux"][row], np.where(kept, flux, np.nan))
        np.testing.assert_array_equal(arrays["ivar"][row], np.where(kept, 3, 0))
        np.testing.assert_array_equal(arrays["mask"][row], np.where(kept, 5, 0))


@pytest.mark.parametrize("step", [0.4, 1.0, 3.0])
def test_a_gap_of_another_grid_stays_without_data(step: float) -> None:
    grid = np.arange(AXIS[0] - 5, AXIS[-1] + 5, step)
    grid = grid[(grid < 3700) | (grid > 3750)]
    arrays, problems = taken([grid], flux=[np.ones(len(grid), np.float32)],
                             ivar=[np.ones(len(grid), np.float32)])  # fmt: skip
    assert not problems
    at = np.array(AXIS)
    inside = (at > 3700 + step) & (at < 3750 - step)
    beside = (at < 3700 - step - 1) | (at > 3750 + step + 1)
    assert not arrays["ivar"][0][inside].any() and (arrays["ivar"][0][beside] > 0).all()


def test_integers_are_missing_where_there_are_none() -> None:
    arrays, problems = taken([AXIS[50:]], flux=[np.arange(PIXELS - 50, dtype=np.int32)])
    assert not problems and np.isnan(arrays["flux"][0][:50]).all()
    assert arrays["flux"][0][50:].tolist() == list(range(PIXELS - 50))
    ((rows, reason),) = taken([AXIS], flux=[np.full(PIXELS, 2**24 + 1, np.int32)])[1]
    assert rows == [0] and "would round" in reason


def test_a_null_among_integers_is_a_missing_pixel() -> None:
    flux: list[int | None] = list(range(PIXELS))
    flux[7] = None
    arrays, problems = taken([AXIS], flux=pa.array([flux], pa.list_(pa.int16())))
    assert not problems and np.isnan(arrays["flux"][0][7]) and arrays["flux"][0][8] == 8


def test_a_mask_of_floats_is_told_what_it_is() -> None:
    ((_, reason),) = taken([AXIS], mask=[np.zeros(PIXELS, np.float32)])[1]
    assert "expected integers, the file holds float32" in reason


def test_wider_pixels_are_no_grid_with_gaps() -> None:
    arrays, problems = taken([AXIS[1::3]], flux=[np.ones(len(AXIS[1::3]), np.float32)])
    assert not problems and np.isfinite(arrays["flux"][0]).mean() > 0.99


def test_wavelengths_that_are_too_far_apart_are_no_spectrum() -> None:
    _, problems = taken([np.array([3700.0, 4400.0])])
    ((rows, reason),) = problems
    assert rows == [0] and "too far apart for a spectrum" in reason
