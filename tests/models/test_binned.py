from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galbatch.models.binned import (
    Binned,
    density,
    quantiles,
    redshift_statistics,
    transform,
)
from galbatch.models.heads import CellsHead, DecodeSettings, decode
from galbatch.models.pdf import QUANTILES, density_of_quantiles
from galbatch.quality.distributions import pit
from galbatch.quality.recalibration import Calibration, Straightening, Warp

LEVELS = np.array(QUANTILES, np.float32)
EDGES = np.linspace(0.0, 1.5, 301, dtype=np.float32)
TOP = float(np.expm1(EDGES[-1]))


def random_shares(seed: int, n: int = 60, peaks: int = 3) -> np.ndarray:
    """A few Gaussian peaks each, some narrower than a cell, and empty cells between them."""
    rng = np.random.default_rng(seed)
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    where = rng.uniform(0.02, 1.4, (n, peaks, 1))
    width = np.exp(rng.uniform(np.log(0.002), np.log(0.2), (n, peaks, 1)))
    height = rng.dirichlet(np.full(peaks, 0.5), n)[:, :, None]
    shares = (height * np.exp(-0.5 * ((centre - where) / width) ** 2)).sum(axis=1)
    shares[:, ::7] += 1e-4
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def random_rows(seed: int, n: int = 60) -> Binned:
    return Binned.of(random_shares(seed, n), EDGES)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_quantiles_are_the_inverse_of_the_cumulative(seed: int) -> None:
    rows = random_rows(seed)
    found = quantiles(rows, LEVELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(transform(rows, found.T).T, np.tile(LEVELS, (60, 1)), atol=3e-5)
    assert (np.diff(found, axis=1) >= 0).all()


def test_quantiles_against_interpolation() -> None:
    rows = random_rows(1)
    own = np.random.default_rng(2).uniform(0.001, 0.999, (9, 60)).astype(np.float32)
    for levels in (LEVELS, own):
        found = quantiles(rows, levels)
        for i in range(60):
            wanted = levels if levels.ndim == 1 else levels[:, i]
            sought = np.interp(wanted, rows.cumulative[i].astype(float), EDGES.astype(float))
            np.testing.assert_allclose(found[i], sought, atol=1e-4)


@pytest.mark.parametrize("size", [1, 37, 1000])
def test_a_row_does_not_depend_on_its_neighbours(size: int) -> None:
    shares = random_shares(7, n=2000)
    whole = redshift_statistics(Binned.of(shares, EDGES), 0.02)
    for start in range(0, 60 if size == 1 else 2000, size):
        part = slice(start, start + size)
        found = redshift_statistics(Binned.of(shares[part], EDGES), 0.02)
        for name, values in vars(found).items():
            np.testing.assert_array_equal(values, getattr(whole, name)[part], err_msg=name)


def test_redshift_statistics_against_a_fine_grid() -> None:
    shares = random_shares(5)
    z = redshift_statistics(Binned.of(shares, EDGES), odds_width=0.03)
    step = 5e-5
    zeta = np.arange(0, 1.5, step) + step / 2
    grid = np.expm1(zeta)
    cell = np.minimum(np.searchsorted(EDGES, zeta, side="right") - 1, 299)
    for i in range(len(shares)):
        share = shares[i, cell].astype(float)
        share /= share.sum()
        reached = np.cumsum(share) - share / 2
        np.testing.assert_allclose(np.interp(z.quantiles[i], grid, reached), QUANTILES, atol=2e-3)
        assert z.mean[i] == pytest.approx((share * grid).sum(), abs=1e-3)
        near = np.abs(grid - z.mode[i]) <= 0.03 * (1 + z.mode[i])
        assert z.odds[i] == pytest.approx(share[near].sum(), abs=2e-3)
    np.testing.assert_array_equal(z.median, z.quantiles[:, QUANTILES.index(0.5)])


def test_the_mean_is_that_of_the_warped_distribution() -> None:
    rows, grid = random_rows(8), np.linspace(0, TOP, 2001)
    magnitude = np.full(len(rows), 21.0, np.float32)
    warp = Warp((21.0,), (0.8,), (0.5,), rows=1000)
    found = redshift_statistics(rows, 0.02, warp, magnitude)
    moment = np.trapezoid(density(rows, grid, warp, magnitude) * grid, grid, axis=1)
    width = (found.quantiles[:, 13] - found.quantiles[:, 1]) / 4
    off = np.abs(found.mean - moment) / width
    assert np.median(off) < 0.02 and np.quantile(off, 0.9) < 0.2
    before = redshift_statistics(rows, 0.02).mean
    assert np.median(np.abs(before - moment) / width) > 0.2


def test_the_mode_is_that_of_the_higher_peak_and_inside_a_cell() -> None:
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    for at in (0.3, 0.3011, 0.3023, 0.3040):
        shape = 0.7 * np.exp(-0.5 * ((centre - at) / 0.012) ** 2)
        shape += 0.3 * np.exp(-0.5 * ((centre - 1.1) / 0.012) ** 2)
        # A cell that is alone is the noise of a fit.
        shape[150] = 0.75
        rows = Binned.of((shape / shape.sum())[None].astype(np.float32), EDGES)
        assert np.log1p(redshift_statistics(rows, 0.02).mode[0]) == pytest.approx(at, abs=5e-4)


def test_nothing_is_beyond_the_cells() -> None:
    for cell in (0, 299):
        shares = np.full((2, 300), 1e-12, np.float32)
        shares[:, cell] = 1
        z = redshift_statistics(Binned.of(shares, EDGES), 0.02)
        for values in (z.mode, z.median, z.mean, z.quantiles):
            assert (values >= 0).all() and (values <= TOP + 1e-5).all()
        assert ((z.odds > 0.9) & (z.odds <= 1)).all()
    assert transform(Binned.of(shares, EDGES), np.array([-1.0, 9.0], np.float32)).tolist() == [0, 1]


def test_no_rows() -> None:
    rows = Binned.of(np.empty((0, 300), np.float32), EDGES)
    assert redshift_statistics(rows, 0.02).quantiles.shape == (0, 15)


UNEVEN = np.concatenate([np.arange(0, 1, 0.004), np.arange(1, 6.01, 0.02)])


@pytest.mark.parametrize("grid", [np.linspace(0, 4, 401), UNEVEN, np.array([0.2, 0.3, 1.5])])
def test_densities_integrate_to_one(grid: np.ndarray) -> None:
    rows = random_rows(3, n=300)
    z = redshift_statistics(rows, 0.02)
    for found in (density(rows, grid), density_of_quantiles(z.quantiles, QUANTILES, grid)):
        assert found.dtype == np.float32 and found.shape == (300, len(grid))
        found = found[np.isfinite(found).all(axis=1)]
        assert len(found) > 250
        np.testing.assert_allclose(np.trapezoid(found.astype(float), grid, axis=1), 1, atol=2e-6)
        assert (found >= 0).all()


def test_density_is_that_of_the_cells_in_redshift() -> None:
    shares = random_shares(4, n=30)
    rows = Binned.of(shares, EDGES)
    grid = np.linspace(0, TOP, 3501)
    found = density(rows, grid)
    height = shares / np.diff(EDGES)
    middle = np.log1p(grid[5:-5])
    cell = np.searchsorted(EDGES, middle, side="right") - 1
    # Away from the edges of cells, where the density jumps.
    inside = np.abs(middle / 0.005 - np.round(middle / 0.005)) > 0.15
    sought = height[:, cell] / (1 + grid[5:-5])
    np.testing.assert_allclose(found[:, 5:-5][:, inside], sought[:, inside], rtol=2e-3, atol=2e-3)
    moment = np.trapezoid(found * grid, grid, axis=1)
    np.testing.assert_allclose(moment, redshift_statistics(rows, 0.02).mean, atol=2e-3)


def test_density_of_rows_beyond_the_grid_and_without_photometry() -> None:
    shares = np.zeros((4, 300), np.float32)
    shares[0, 2] = shares[1, 290] = 1
    shares[2] = np.nan
    shares[3, 150] = shares[3, 290] = 0.5
    grid = np.linspace(0.5, 2, 21)
    found = density(Binned.of(shares, EDGES), grid)
    assert np.isnan(found[:3]).all()
    assert np.trapezoid(found[3], grid) == pytest.approx(1, rel=1e-6)
    levels = np.array([[0.1] * 15, [np.nan] * 15, [-50.0] * 15, [1.0] * 15], np.float32)
    found = density_of_quantiles(levels, QUANTILES, grid)
    assert np.isnan(found[:3]).all()
    assert np.trapezoid(found[3], grid) == pytest.approx(1, rel=1e-6)
    with pytest.raises(ValueError, match="ascending"):
        density(Binned.of(shares, EDGES), grid[::-1])


def test_density_of_quantiles_is_the_one_that_quality_judges() -> None:
    z = redshift_statistics(random_rows(6), 0.02)
    grid = np.linspace(-2, 9, 20001)
    found = density_of_quantiles(z.quantiles, QUANTILES, grid).astype(float)
    reached = np.cumsum(found, axis=1) * (grid[1] - grid[0])
    for point in (4000, 4500, 5500):
        edge = np.full(60, (grid[point] + grid[point + 1]) / 2)
        np.testing.assert_allclose(reached[:, point], pit(edge, z.quantiles, QUANTILES), atol=2e-3)


def test_the_ensemble_is_the_mean_of_its_members() -> None:
    head = CellsHead("redshift", 2, low=0.0, high=1.5, bins=300)
    outputs = np.random.default_rng(3).normal(0, 3, (300, 4, 305)).astype(np.float32)
    logits = outputs[..., 2:302].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    found = head.binned(outputs)
    np.testing.assert_allclose(np.diff(found.cumulative), shares.mean(axis=1), atol=2e-6)
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    np.testing.assert_allclose(head.means(outputs), (shares * centre).sum(axis=2), rtol=1e-5)


@pytest.mark.parametrize("members", [1, 2, 5])
def test_members_are_a_sample_of_what_training_may_lead_to(members: int) -> None:
    head = CellsHead("redshift", 0, low=0.0, high=1.5, bins=300)
    centre = np.random.default_rng(5).normal(0.7, 0.1, (4000, members, 1))
    away = ((EDGES[1:] + EDGES[:-1]) / 2 - centre) / 0.01
    outputs = (-0.5 * away**2).astype(np.float32)
    calibration = {"redshift": Calibration().to_json()}
    found = decode(outputs, (head,), calibration, np.full(4000, 20.0), DecodeSettings(0.1))
    variance = np.mean(found["z_apart"].astype(float) ** 2)
    assert variance == pytest.approx(0.01 if members > 1 else 0, rel=0.1)


def test_straightening_moves_the_cells() -> None:
    head = CellsHead("redshift", 0, low=0.0, high=1.5, bins=300)
    outputs = np.random.default_rng(4).normal(0, 2, (20, 2, 300)).astype(np.float32)
    calibration = Calibration(Straightening((0.2, 0.9), (0.25, 0.85)))
    before, after = (
        quantiles(head.binned(outputs, one), LEVELS) for one in (Calibration(), calibration)
    )
    np.testing.assert_allclose(after, calibration.straightening.apply(before), atol=5e-4)
