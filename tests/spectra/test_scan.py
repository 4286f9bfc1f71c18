"""Class and redshift by chi-square at every shift: against a plain loop, and its laws."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_bases import GRID, galaxy, observed, quasar, spectrum, toy_bases

from galbatch.errors import SpecError
from galbatch.spectra.clean import cleaned
from galbatch.spectra.flags import SpecFlag
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.scan import ScanResult, ScanSettings, curves, models, scan
from galbatch.spectra.templates import Basis
from galbatch.spectra.weighted import polynomials

Array = NDArray[np.float64]
EXACT = ScanSettings(fast=False)
BASES = toy_bases()


def window(basis: Basis, shift: int) -> Array:
    start = round((GRID.first - basis.grid.first) / GRID.step) - shift
    places = start + np.arange(GRID.points)
    inside = (places >= 0) & (places < basis.grid.points)
    return np.where(inside, basis.vectors[:, np.clip(places, 0, basis.grid.points - 1)], 0)


def chi2_at(flux: Array, ivar: Array, basis: Basis, shift: int, degree: int) -> float:
    """Of one weighted least squares; an amplitude alone is not below 0."""
    table = polynomials(GRID.points, degree)
    root = np.sqrt(ivar)
    for vectors in (np.concatenate([window(basis, shift), table]), table):
        if len(vectors) == 0:
            return float((ivar * flux**2).sum())
        found = np.linalg.lstsq((vectors * root).T, flux * root, rcond=None)[0]
        if len(basis.vectors) > 1 or found[0] > 0:
            break
    return float((ivar * (flux - found @ vectors) ** 2).sum())


@pytest.mark.parametrize("degree", [-1, 0, 2])
def test_curves_are_those_of_a_plain_loop(degree: int) -> None:
    flux, ivar, _, _ = observed(1, 1, 3)
    settings = replace(EXACT, degree=degree)
    for basis, (redshifts, chi2) in zip(
        BASES, curves(flux, ivar, GRID, BASES, settings), strict=True
    ):
        shifts = np.rint(np.log10(1 + redshifts) / GRID.step).astype(int)
        assert basis.redshifts[0] - 1e-9 <= redshifts[0] < redshifts[-1] <= basis.redshifts[1]
        for place in range(0, len(shifts), max(1, len(shifts) // 25)):
            for row in range(len(flux)):
                expected = chi2_at(flux[row], ivar[row], basis, shifts[place], degree)
                assert chi2[row, place] == pytest.approx(expected, rel=1e-9)


def test_the_best_is_found_with_all_that_is_said_of_it() -> None:
    flux, ivar, kinds, shifts = observed(2, 10, 10)
    found = scan(flux, ivar, GRID, BASES, ScanSettings())
    np.testing.assert_array_equal(found.kind, kinds)
    assert np.all(abs(found.shift - shifts) <= 1)
    true = GRID.redshifts(shifts)
    assert np.all(abs(found.z - true) < 5 * found.z_err)
    assert abs(np.median((found.z - true) / found.z_err)) < 0.6
    assert np.all(found.flags == 0)
    assert np.all(abs(found.chi2 / found.dof - 1) < 0.3)
    assert np.all(found.pixels == GRID.points - 6)
    assert np.all(found.delta_chi2 > 10) and np.all(found.d_score > 0)
    np.testing.assert_allclose(found.d_score, found.delta_chi2 / found.chi2)
    assert np.all((found.kind_second != found.kind) | (abs(found.z_second - found.z) > 0.02))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert np.all(found.probabilities.max(axis=1) > 0.99)


def test_models_have_the_chi_square_that_is_said() -> None:
    flux, ivar, _, _ = observed(3, 5, 10)
    found = scan(flux, ivar, GRID, BASES, ScanSettings())
    left = flux - models(found, GRID, BASES)
    np.testing.assert_allclose((ivar * left**2).sum(axis=1), found.chi2)


@pytest.mark.parametrize("signal", [1, 2, 10])
def test_the_fast_way_finds_what_the_exact_one_does(signal: float) -> None:
    flux, ivar, _, _ = observed(4, 40, signal)
    fast, exact = (scan(flux, ivar, GRID, BASES, each) for each in (ScanSettings(), EXACT))
    same = (fast.basis == exact.basis) & (fast.shift == exact.shift)
    assert same.mean() >= 0.98
    np.testing.assert_allclose(fast.z[same], exact.z[same], rtol=0, atol=1e-9)
    np.testing.assert_allclose(fast.chi2[same], exact.chi2[same], rtol=1e-9)
    assert (abs(fast.delta_chi2 - exact.delta_chi2) < 1)[same].mean() >= 0.95


def test_a_vector_alone_has_no_amplitude_below_zero() -> None:
    alone = [replace(base, vectors=base.vectors[:1]) for base in (galaxy(), quasar())]
    flux = np.stack([sign * spectrum(alone[0], 150) for sign in (1, -1)])
    flux += 0.1 * np.random.default_rng(16).standard_normal(flux.shape)
    ivar = np.full_like(flux, 100.0)
    for settings in (ScanSettings(), EXACT):
        found = scan(flux, ivar, GRID, alone, settings)
        assert (found.kind[0], found.shift[0]) == ("GALAXY", 150)
        assert np.all(found.coefficients >= 0) and found.chi2[1] > 1.3 * found.chi2[0]


def test_vectors_that_are_nearly_alike_are_told_apart() -> None:
    flux, ivar, _, _ = observed(15, 8, 30)
    alike = [
        replace(base, vectors=base.vectors[:1] + 1e-4 * base.vectors)
        for base in BASES
        if base.kind != "STAR"
    ]
    bases = [*alike, *BASES[2:]]
    fast, exact = (scan(flux, ivar, GRID, bases, each) for each in (ScanSettings(), EXACT))
    np.testing.assert_array_equal(fast.basis, exact.basis)
    np.testing.assert_array_equal(fast.shift, exact.shift)


def test_a_spectrum_moved_by_pixels_moves_its_curve() -> None:
    rng = np.random.default_rng(5)
    basis, moved = galaxy(), 40
    flux = spectrum(basis, 150, (1, 0.4, 0.3)) + 0.1 * rng.standard_normal(GRID.points)
    # The same pixels of the sky, all else without data.
    ivar = np.zeros((2, GRID.points))
    ivar[0, 50:500], ivar[1, 50 + moved : 500 + moved] = 100, 100
    both = np.stack([flux, np.roll(flux, moved)])
    (_, chi2), *_ = curves(both, ivar, GRID, [basis], replace(EXACT, degree=-1))
    np.testing.assert_allclose(chi2[1, moved:], chi2[0, :-moved], rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-17, 1e6])
def test_units_change_nothing(factor: float) -> None:
    flux, ivar, _, _ = observed(6, 3, 3)
    here = scan(flux, ivar, GRID, BASES, ScanSettings())
    there = scan(flux * factor, ivar / factor**2, GRID, BASES, ScanSettings())
    for field in fields(ScanResult):
        one, two = getattr(here, field.name), getattr(there, field.name)
        if field.name in ("coefficients", "polynomial"):
            np.testing.assert_allclose(two / factor, one, rtol=1e-6)
        elif one.dtype.kind == "f":
            np.testing.assert_allclose(two, one, rtol=1e-6, err_msg=field.name)
        else:
            np.testing.assert_array_equal(one, two, err_msg=field.name)


def test_rows_do_not_depend_on_each_other() -> None:
    flux, ivar, _, _ = observed(7, 15, 2)
    flux[4] = np.nan
    whole = scan(flux, ivar, GRID, BASES, ScanSettings())
    for rows in (slice(0, 1), slice(3, 12), slice(26, 45)):
        part = scan(flux[rows], ivar[rows], GRID, BASES, ScanSettings())
        for field in fields(ScanResult):
            one, other = getattr(whole, field.name)[rows], getattr(part, field.name)
            np.testing.assert_array_equal(one, other, err_msg=field.name)


def bad_rows() -> dict[str, tuple[Array, Array]]:
    flux, ivar, _, _ = observed(8, 1, 5)
    flux, ivar = flux[0], np.full(GRID.points, 25.0)
    two = np.zeros(GRID.points)
    two[[100, 300]] = 25
    return {
        "flux of NaN": (np.full_like(flux, np.nan), ivar),
        "no weight": (flux, np.zeros_like(ivar)),
        "negative inverse variance": (flux, -ivar),
        "infinite inverse variance": (flux, np.full_like(ivar, np.inf)),
        "flux of zeros": (np.zeros_like(flux), ivar),
        "two pixels": (flux, two),
    }


@pytest.mark.parametrize("name", bad_rows())
@pytest.mark.parametrize("settings", [ScanSettings(), EXACT], ids=["fast", "exact"])
def test_a_bad_row_has_a_flag_and_no_number(name: str, settings: ScanSettings) -> None:
    good, weight, _, _ = observed(8, 1, 5)
    flux, ivar = bad_rows()[name]
    both = scan(np.stack([flux, good[0]]), np.stack([ivar, weight[0]]), GRID, BASES, settings)
    assert both.flags.tolist() == [SpecFlag.NODATA, 0]
    assert both.kind.tolist() == ["", "GALAXY"] and both.basis[0] == -1
    numbers = ("z", "z_err", "chi2", "delta_chi2", "d_score", "z_second", "coefficients",
               "polynomial", "probabilities")  # fmt: skip
    assert all(np.all(np.isnan(getattr(both, name)[0])) for name in numbers)
    assert np.all(np.isnan(models(both, GRID, BASES)[0]))


def test_no_rows_make_a_result_without_rows() -> None:
    none = np.zeros((0, GRID.points))
    found = scan(none, none, GRID, BASES, ScanSettings())
    assert found.z.shape == (0,) and found.probabilities.shape == (0, 3)


def test_pixels_without_data_have_no_say() -> None:
    flux, ivar, _, _ = observed(9, 2, 5)
    other = np.where(ivar > 0, flux, np.nan)
    weight = np.where(ivar > 0, ivar, -np.inf)
    here, there = (scan(*rows, GRID, BASES, ScanSettings()) for rows in
                   ((flux, ivar), (other, weight)))  # fmt: skip
    np.testing.assert_array_equal(here.chi2, there.chi2)


def test_a_redshift_at_an_end_is_flagged_and_has_no_error() -> None:
    basis = galaxy()
    last = int(GRID.pixels(basis.redshifts[1]))
    flux = spectrum(basis, last + 2, (1, 0.4, 0.5))[None]
    found = scan(flux, np.full_like(flux, 400.0), GRID, BASES, ScanSettings())
    assert found.kind[0] == "GALAXY" and found.shift[0] == last
    assert found.flags[0] & SpecFlag.Z_FITLIMIT and np.isnan(found.z_err[0])


def test_an_empty_sky_is_flagged() -> None:
    flux = np.random.default_rng(10).standard_normal((6, GRID.points))
    found = scan(flux, np.ones_like(flux), GRID, BASES, ScanSettings())
    assert np.all(found.flags & SpecFlag.SKY) and np.all(found.flags & SpecFlag.SMALL_DELTA_CHI2)


def test_little_coverage_and_outliers_are_flagged() -> None:
    flux, ivar, _, _ = observed(11, 1, 10)
    short = ivar.copy()
    short[:, 400:] = 0
    assert np.all(scan(flux, short, GRID, BASES, ScanSettings()).flags & SpecFlag.LITTLE_COVERAGE)
    spoilt = flux.copy()
    spoilt[:, ::12] += 5
    assert np.all(scan(spoilt, ivar, GRID, BASES, ScanSettings()).flags & SpecFlag.MANY_OUTLIERS)


@pytest.mark.parametrize("factor", [1e34, 1e12, 1e8, 1e4, 0.002, 1e-4, 1e-34])
def test_inverse_variances_of_another_unit_are_flagged(factor: float) -> None:
    flux, ivar, _, _ = observed(12, 5, 10)
    assert not np.any(scan(flux, ivar, GRID, BASES, ScanSettings()).flags & SpecFlag.BAD_IVAR)
    for wrong in (ivar * factor, cleaned(flux, ivar * factor, GRID)):
        found = scan(flux, wrong, GRID, BASES, ScanSettings())
        assert np.all(found.flags & SpecFlag.BAD_IVAR)


def test_galaxies_that_are_at_rest_already_are_flagged() -> None:
    flux, ivar, _, shifts = observed(13, 10, 10)
    found = scan(flux, ivar, GRID, BASES, ScanSettings())
    assert not np.any(found.flags[shifts > 3] & SpecFlag.AT_REST)
    at_rest = spectrum(BASES[0], 0, (1.0, 0.2, 0.1))[None]
    found = scan(at_rest, np.full_like(at_rest, 400.0), GRID, BASES, ScanSettings())
    assert found.kind[0] == "GALAXY" and found.flags[0] & SpecFlag.AT_REST


def test_a_quasar_of_absorbed_lines_is_flagged() -> None:
    basis = quasar()
    grid, smooth = basis.grid, np.exp(-1.5 * np.linspace(-1, 1, basis.grid.points))
    lines = basis.vectors[1]
    upright = replace(basis, vectors=np.stack([smooth, lines]))
    flux = spectrum(replace(basis, vectors=(smooth - 0.5 * lines)[None], grid=grid), 700)[None]
    found = scan(flux, np.full_like(flux, 100.0), GRID, [upright], ScanSettings())
    assert found.flags[0] & SpecFlag.NEGATIVE_EMISSION
    flipped = scan(-flux, np.full_like(flux, 100.0), GRID, [upright], ScanSettings())
    assert flipped.flags[0] & SpecFlag.NEGATIVE_MODEL


def test_a_penalty_is_for_each_vector() -> None:
    flux, ivar, kinds, _ = observed(12, 30, 0.6)
    shares = [
        (scan(flux, ivar, GRID, BASES, ScanSettings(penalty=each)).kind == "STAR").mean()
        for each in (0.0, 4.0, 1e6)
    ]
    assert shares[0] < shares[1] < shares[2] == 1 and (kinds == "STAR").mean() == 1 / 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": LogGrid(GRID.first, GRID.step, 500)}, "as the grid"),
        ({"bases": []}, "at least one"),
        ({"grid": LogGrid(-0.42, GRID.step, GRID.points)}, "are the spectra in Angstrom"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict[str, object], said: str) -> None:
    flux, ivar, _, _ = observed(14, 1, 5)
    given = {"flux": flux, "ivar": ivar, "grid": GRID, "bases": BASES, "settings": ScanSettings()}
    with pytest.raises(SpecError, match=said):
        scan(**(given | change))  # type: ignore[arg-type]
