"""Bases, and the files of SDSS and redrock that they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from galbatch.errors import SpecError
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.templates import (
    Basis,
    from_linear,
    read_redrock,
    read_sdss,
    star_bases,
)

GRID = LogGrid(3.5, 1e-4, 300)


def sdss_file(folder: Path, vectors: int, names: int = 0, **words: float) -> Path:
    image = fits.PrimaryHDU(np.arange(vectors * 300, dtype=np.float32).reshape(vectors, 300) + 1)
    for place in range(names):
        image.header[f"NAME{place}"] = f"G{place} (1)"
    image.header.update(words or {"COEFF0": 3.5, "COEFF1": 1e-4})
    image.writeto(folder / "spEigen.fits")
    return folder / "spEigen.fits"


def test_eigenspectra_make_one_basis(tmp_path: Path) -> None:
    (basis,) = read_sdss(sdss_file(tmp_path, 5), "QSO", most=3)
    assert basis.vectors.shape == (3, 300) and basis.vectors.dtype == np.float64
    assert (basis.kind, basis.subclass, basis.redshifts) == ("QSO", "", (0.003, 5.0))
    assert basis.grid == GRID and basis.vectors[1, 0] == 301


def test_stars_make_a_basis_each(tmp_path: Path) -> None:
    found = read_sdss(sdss_file(tmp_path, 3, names=3), "STAR")
    assert [basis.subclass for basis in found] == ["G0 (1)", "G1 (1)", "G2 (1)"]
    assert all(basis.kind == "STAR" and basis.vectors.shape == (1, 300) for basis in found)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = sdss_file(tmp_path, 3, names=2)
    with pytest.raises(SpecError, match="got no NAME2"):
        read_sdss(path, "STAR")
    path.unlink()
    with pytest.raises(SpecError, match="COEFF0 and COEFF1"):
        read_sdss(sdss_file(tmp_path, 3, CRVAL1=3.5), "GALAXY")
    with pytest.raises(SpecError, match="BASIS_VECTORS"):
        read_redrock(tmp_path / "spEigen.fits")


@pytest.mark.parametrize("logarithmic", [True, False])
def test_files_of_redrock_are_read(tmp_path: Path, logarithmic: bool) -> None:
    first, step = (3.5, 1e-4) if logarithmic else (4000.0, 0.1)
    image = fits.PrimaryHDU(np.ones((2, 5000)))
    image.header.update(
        {"CRVAL1": first, "CDELT1": step, "LOGLAM": logarithmic, "RRTYPE": "STAR",
         "RRSUBTYP": "M", "EXTNAME": "BASIS_VECTORS"}
    )  # fmt: skip
    image.writeto(tmp_path / "rrtemplate-STAR-M.fits")
    basis = read_redrock(tmp_path / "rrtemplate-STAR-M.fits")
    assert (basis.kind, basis.subclass) == ("STAR", "M")
    np.testing.assert_allclose(basis.vectors, 1, rtol=1e-9)
    if logarithmic:
        assert basis.grid == LogGrid(3.5, 1e-4, 5000)
    else:
        low, high = basis.grid.wavelengths[[0, -1]]
        assert 4000 < low < 4003 and 4496 < high < 4500


def test_a_linear_spectrum_keeps_its_flux() -> None:
    wavelengths = np.arange(4000, 6000, 0.1)
    line = np.exp(-0.5 * ((wavelengths - 5000) / 2.5) ** 2)
    vectors, grid = from_linear(line[None], wavelengths)
    assert (vectors[0] * np.diff(grid.edges)).sum() == pytest.approx(line.sum() * 0.1, rel=1e-9)
    assert grid.first / grid.step == pytest.approx(round(grid.first / grid.step))


def test_a_basis_out_of_phase_is_moved_once() -> None:
    away = np.arange(300) - 150
    basis = Basis("b", "QSO", "", np.exp(-0.5 * (away / 3) ** 2)[None], GRID, (0.1, 1))
    assert basis.at_phase(LogGrid(3.61, 1e-4, 50)) is basis
    assert basis.at_phase(LogGrid(3.61 + 4e-8, 1e-4, 50)) is basis
    moved = basis.at_phase(LogGrid(3.61005, 1e-4, 50))
    middle = (moved.vectors[0] * moved.grid.logarithms).sum() / moved.vectors[0].sum()
    assert middle == pytest.approx(3.515, abs=1e-6)
    phase = (moved.grid.first - 3.61005) / 1e-4
    assert phase == pytest.approx(round(phase), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "PLANET"}, "got 'PLANET'"),
        ({"vectors": np.ones((2, 299))}, "300 pixels"),
        ({"vectors": np.full((2, 300), np.nan)}, "finite"),
        ({"vectors": np.zeros((2, 300))}, "zeros"),
        ({"redshifts": (1.0, 0.5)}, "from low to high"),
        ({"redshifts": (-1.0, 0.5)}, "from low to high"),
    ],
)
def test_a_basis_that_fits_nothing_is_refused(change: dict[str, object], said: str) -> None:
    given = {"name": "b", "kind": "QSO", "subclass": "", "vectors": np.ones((2, 300)),
             "grid": GRID, "redshifts": (0.0, 1.0)}  # fmt: skip
    with pytest.raises(SpecError, match=said):
        Basis(**(given | change))  # type: ignore[arg-type]


def test_what_sdss_and_redrock_ship_is_read(survey_data: Path) -> None:
    folder = survey_data / "spectral_templates"
    if not folder.is_dir():
        pytest.skip(f"no spectral templates: {folder} is not a folder")
    (galaxy,) = read_sdss(folder / "spEigenGal-56436.fits", "GALAXY")
    (quasar,) = read_sdss(folder / "spEigenQSO-58596.fits", "QSO")
    assert galaxy.vectors.shape == (4, 9483) and quasar.vectors.shape == (10, 13371)
    table = pq.read_table(folder / "sdss_star_templates_123.parquet")
    wavelengths = np.load(folder / "sdss_star_templates_wavelength.npy")
    vectors = np.stack(table["flux"].to_numpy())
    grid = LogGrid(round(float(np.log10(wavelengths[0])), 4), 1e-4, len(wavelengths))
    np.testing.assert_allclose(grid.wavelengths, wavelengths, rtol=1e-8)
    stars = star_bases(table["name"].to_pylist(), vectors, grid)
    assert len(stars) == 123 and stars[0].name == "A0 (19510)"
    for path in sorted((survey_data / "redrock_templates").glob("rrtemplate-*.fits")):
        assert read_redrock(path).kind in ("QSO", "STAR")
