"""The scan with coefficients that are given, against the one that solves them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_bases import GRID, galaxy, observed, toy_bases

from galbatch.errors import SpecError
from galbatch.spectra.encoded import encoded_curve, encoded_scan, systems
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.learn import non_negative_basis
from galbatch.spectra.scan import ScanResult, ScanSettings, curves, models, scan
from galbatch.spectra.solve import pairs
from galbatch.spectra.templates import Basis
from galbatch.spectra.weighted import weigh

EXACT = ScanSettings(fast=False)
BASES = toy_bases()
SHARES = {"GALAXY": (1.0, 0.4, 0.3), "QSO": (1.0, 0.3, 0.1)}


def shares(rows: int) -> NDArray[np.float64]:
    """True ones, of galaxies and of quasars."""
    own = np.array([SHARES["GALAXY"], SHARES["QSO"]])
    return np.tile(own / own.sum(axis=1, keepdims=True), (rows, 1, 1))


def test_with_true_shares_it_finds_what_the_other_does() -> None:
    flux, ivar, kinds, shifts = observed(2, 10, 10)
    ivar[4] = 0
    found = encoded_scan(flux, ivar, GRID, BASES, shares(30), ScanSettings())
    solved = scan(flux, ivar, GRID, BASES, EXACT)
    known = np.arange(30) != 4
    np.testing.assert_array_equal(found.kind[known], kinds[known])
    assert np.all(abs(found.shift - shifts)[known] <= 1)
    np.testing.assert_allclose(found.z[known], solved.z[known], atol=2e-3)
    assert found.flags[4] == solved.flags[4] and np.isnan(found.z[4])
    # Shares that are given gain less than the best ones, which noise changes a little.
    more = (found.chi2 - solved.chi2)[known & (found.kind != "STAR")]
    assert np.all(more > -1e-6) and np.all(more < 30)
    left = flux - models(found, GRID, BASES)
    np.testing.assert_allclose((ivar * left**2).sum(axis=1)[known], found.chi2[known])


def test_a_row_does_not_depend_on_the_rows_that_come_with_it() -> None:
    flux, ivar, _, _ = observed(9, 12, 2)
    own = np.random.default_rng(1).dirichlet(np.ones(3), (36, 2))
    whole = encoded_scan(flux, ivar, GRID, BASES, own, ScanSettings())
    for part in (slice(0, 5), slice(5, 36)):
        some = encoded_scan(flux[part], ivar[part], GRID, BASES, own[part], ScanSettings())
        for field in fields(ScanResult):
            one, other = getattr(some, field.name), getattr(whole, field.name)[part]
            np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_its_curve_is_that_of_a_basis_of_one_vector() -> None:
    flux, ivar, _, _ = observed(3, 2, 5)
    basis, own = galaxy(), np.array([0.2, 0.5, 0.3])
    alone = Basis("one", "GALAXY", "", own[None] @ basis.vectors, basis.grid, basis.redshifts)
    ((at, chi2),) = curves(flux, ivar, GRID, [alone], EXACT)
    redshifts, given = encoded_curve(flux, ivar, GRID, basis, np.tile(own, (6, 1)), EXACT)
    np.testing.assert_array_equal(redshifts, at)
    np.testing.assert_allclose(given, chi2, rtol=1e-9)


@pytest.mark.parametrize("given", [True, False])
def test_a_spectrum_moved_by_pixels_moves_its_curve(given: bool) -> None:
    rng = np.random.default_rng(5)
    basis, moved = galaxy(), 40
    flux = rng.standard_normal(GRID.points) + 5.0
    # The same pixels of the sky, all else without data: the polynomial moves with them.
    ivar = np.zeros((2, GRID.points))
    ivar[0, 50:500], ivar[1, 50 + moved : 500 + moved] = 100, 100
    both = np.stack([flux, np.roll(flux, moved)])
    if given:
        own = np.tile([0.5, 0.3, 0.2], (2, 1))
        _, chi2 = encoded_curve(both, ivar, GRID, basis, own, EXACT)
    else:
        ((_, chi2),) = curves(both, ivar, GRID, [basis], EXACT)
    np.testing.assert_allclose(chi2[1, moved:], chi2[0, :-moved], rtol=1e-8)


def test_systems_tell_what_shares_gain() -> None:
    flux, ivar, _, shifts = observed(7, 3, 10)
    flux, ivar, shifts, basis = flux[:3], ivar[:3], shifts[:3], galaxy()
    products, right = systems(flux, ivar, GRID, basis, GRID.redshifts(shifts), 2)
    redshifts, best = curves(flux, ivar, GRID, [basis], EXACT)[0]
    own = np.array([0.5, 0.1, 0.4])
    _, given = encoded_curve(flux, ivar, GRID, basis, np.tile(own, (3, 1)), EXACT)
    at = np.argmin(abs(redshifts[:, None] - GRID.redshifts(shifts)), axis=0)
    for row in range(3):
        matrix = np.zeros((3, 3))
        for place, (one, other) in enumerate(pairs(3)):
            matrix[one, other] = matrix[other, one] = products[row, place]
        gained = (own @ right[row]) ** 2 / (own @ matrix @ own)
        polynomial = weigh(flux, ivar, 2).chi2[row]
        there = (polynomial - given[row, at[row]]) / (polynomial - best[row, at[row]])
        assert gained == pytest.approx(there, rel=1e-4)


def test_a_non_negative_basis_describes_what_it_was_made_of() -> None:
    rng = np.random.default_rng(1)
    true = np.abs(rng.standard_normal((3, 200)).cumsum(axis=1)) + 0.1
    spectra = rng.dirichlet(np.ones(3), 80) @ true
    seen = np.arange(200) < rng.integers(140, 201, (80, 1))
    seen[:20] = True
    grid = LogGrid(3.6, 1e-4, 200)
    basis = non_negative_basis("three", "GALAXY", spectra, seen, grid, 3)
    assert np.all(basis.vectors >= 0)
    np.testing.assert_allclose((basis.vectors**2).mean(axis=1), 1.0, rtol=1e-5)
    left = spectra - spectra @ np.linalg.pinv(basis.vectors) @ basis.vectors
    assert np.sqrt((left[seen] ** 2).mean()) < 0.05 * np.sqrt((spectra**2).mean())


def test_shares_that_fit_no_basis_are_refused() -> None:
    flux, ivar, _, _ = observed(2, 1, 10)
    with pytest.raises(SpecError, match="expected 2 vectors in each of the first 2 bases"):
        encoded_scan(flux, ivar, GRID, BASES, np.ones((3, 2, 2)), EXACT)
