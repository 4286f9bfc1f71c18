"""The simulated sky against the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galbatch.mock.library import load_galaxies, load_stars
from galbatch.mock.objects import Objects
from galbatch.mock.photometry import band_flux, star_fluxes, transmission
from galbatch.mock.population import population
from galbatch.spec import load_survey
from galbatch.spec.survey import Band

Curves = dict[str, tuple[np.ndarray, np.ndarray]]

# What Ilbert et al. (2009, ApJ 690, 1236, table 1) subtract from these very magnitudes, found by
# fitting templates at spectroscopic redshifts. Quoted from memory: without them u - b differs by
# 0.3 mag at every redshift, with them by 0.1.
ZERO_POINTS = {
    "u": 0.054, "b": -0.242, "v": -0.094, "g": 0.024, "r": 0.003, "i": 0.019, "ic": -0.007,
    "z": -0.037, "j": 0.124, "k": 0.022,
}  # fmt: skip
COLOURS = (("u", "b"), ("b", "v"), ("g", "r"), ("r", "ic"), ("i", "z"), ("z", "j"), ("j", "k"))
REDSHIFTS = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9))


@pytest.fixture(scope="module")
def real(survey_data: Path) -> pd.DataFrame:
    path = survey_data / "zcosmos_bright" / "zcosmos_bright_joined.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = pd.read_parquet(path)
    survey = load_survey("zcosmos")
    table = {
        band.name: rows[band.value].astype(float).where(lambda m: (m > 0) & (m < 35))
        - ZERO_POINTS.get(band.name, 0.0)
        for band in survey.bands
    }
    known = pd.DataFrame(table).assign(
        redshift=rows["zpec"].astype(float),
        log_mass=np.log10(rows["m_Mass"].where(rows["m_Mass"] > 1e6).astype(float)),
        secure=rows["m_Flag"] == 1,
    )
    return known[(known["redshift"] > 0.02) & known["ic"].between(17.0, 22.5)]


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    survey = load_survey("zcosmos")
    names = survey.band_names
    sky: Objects = population(survey.bands, names.index("ic"), (17.0, 22.5), 0.0).draw(
        np.random.default_rng(1), 50_000
    )
    magnitudes = 23.9 - 2.5 * np.log10(np.maximum(sky.flux, 1e-9))
    columns = {name: magnitudes[:, index] for index, name in enumerate(names)}
    return pd.DataFrame(columns).assign(redshift=sky.redshift, log_mass=sky.log_mass)


def quantiles(values: pd.Series) -> np.ndarray:
    return np.nanpercentile(values, [16.0, 50.0, 84.0])


def test_colours_in_bins_of_redshift(real: pd.DataFrame, simulated: pd.DataFrame) -> None:
    differences = []
    for low, high in REDSHIFTS:
        true = real[real["redshift"].between(low, high)]
        ours = simulated[simulated["redshift"].between(low, high)]
        for blue, red in COLOURS:
            difference = quantiles(ours[blue] - ours[red]) - quantiles(true[blue] - true[red])
            print(f"z {low}-{high} {blue}-{red}: {difference.round(2)}")
            differences.append(difference)
    off = np.abs(differences)
    print("mean", off.mean(axis=0).round(3), "worst", off.max(axis=0).round(3))
    assert (off.mean(axis=0) < 0.15).all()
    assert off[:, 1].max() < 0.28
    assert off.max() < 0.4


def test_redshifts_of_a_bright_sample(real: pd.DataFrame, simulated: pd.DataFrame) -> None:
    # Beyond z = 1 the survey's spectra lose their features, so compare below.
    true, ours = (table.loc[table["redshift"] < 1.0, "redshift"] for table in (real, simulated))
    print("redshift", quantiles(true).round(3), quantiles(ours).round(3))
    assert np.abs(quantiles(ours) - quantiles(true)).max() < 0.08
    assert (simulated["redshift"] > 1.0).mean() < 0.12


def test_masses_in_bins_of_redshift(real: pd.DataFrame, simulated: pd.DataFrame) -> None:
    for low, high in REDSHIFTS:
        true = real[real["redshift"].between(low, high) & real["secure"]]["log_mass"]
        ours = simulated[simulated["redshift"].between(low, high)]["log_mass"]
        print(f"z {low}-{high} log mass: {(quantiles(ours) - quantiles(true)).round(2)}")
        assert abs(np.nanmedian(ours) - np.nanmedian(true)) < 0.25


def read_curves(data: Path, system: str) -> Curves:
    path = data / "filter_curves" / "filter_curves.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    table = pd.read_parquet(path)
    return {
        row.name: (np.asarray(row.wave, float), np.asarray(row.trans, float))
        for row in table[table["system"] == system].itertuples(index=False)
    }


@pytest.mark.parametrize(("name", "system"), [("jpas", "J-PAS"), ("alhambra", "ALHAMBRA")])
def test_smooth_boxes_stand_for_real_filters(survey_data: Path, name: str, system: str) -> None:
    """Colours of galaxies and stars through the real curves, from one fitted box per band.

    The box has the survey's centre and width; a curve that is elsewhere (the archive's tables
    and the laboratory do not always agree) shows up here.
    """
    curves = read_curves(survey_data, system)
    bands = {band.name: band for band in load_survey(name).bands}
    bands |= {"J0348": bands["uJAVA"]} if "uJAVA" in bands else {}
    galaxies = load_galaxies()
    redshifts = (0.1, 0.35, 0.62, 0.9)
    off: dict[str, float] = {}
    for filter_name, (wave, response) in curves.items():
        band = bands[filter_name]
        differences = []
        for z in redshifts:
            observed = galaxies.wavelength * (1.0 + z)
            real_response = np.interp(observed, wave, response, left=0.0, right=0.0)[:, None]
            both = np.concatenate([real_response, transmission(observed, [band])], axis=1)
            flux = band_flux(observed, galaxies.luminosity[::20], both)
            differences.append(-2.5 * np.log10(flux[:, 0] / flux[:, 1]))
        off[filter_name] = float(np.percentile(np.abs(differences), 68))
    worse = {key: round(value, 3) for key, value in off.items() if value > 0.03}
    print(name, "median", round(float(np.median(list(off.values()))), 4), "above 0.03:", worse)
    assert np.median(list(off.values())) < 0.02
    assert max(off.values()) < 0.2
    assert len(worse) < 0.25 * len(off)


def test_star_colours_follow_the_observed_sequence(survey_data: Path) -> None:
    """Pickles' dwarfs against stars that SDSS observed, in g - r against r - i."""
    folder = survey_data / "spectral_templates"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bands = (
        Band(name="g", wavelength=4770.0, width=1300.0),
        Band(name="r", wavelength=6230.0, width=1300.0),
        Band(name="i", wavelength=7630.0, width=1400.0),
    )
    wave = np.load(folder / "sdss_star_templates_wavelength.npy")
    table = pd.read_parquet(folder / "sdss_star_templates_123.parquet")
    observed = np.stack([np.asarray(flux, float) for flux in table["flux"]])
    true = -2.5 * np.log10(np.maximum(band_flux(wave, observed, transmission(wave, bands)), 1e-30))
    ours = -2.5 * np.log10(star_fluxes(bands))
    library = load_stars()
    dwarfs = np.isin(library.luminosity_class, ("V", "IV")) & (library.teff > 2900)
    g_r, r_i = ours[dwarfs, 0] - ours[dwarfs, 1], ours[dwarfs, 1] - ours[dwarfs, 2]
    normal = table["name"].str.match(r"^[AFGKM]\d").to_numpy()
    x, y = true[normal, 1] - true[normal, 2], true[normal, 0] - true[normal, 1]
    order = np.argsort(r_i)
    sequence = np.polynomial.Polynomial.fit(r_i[order], g_r[order], 5)
    inside = (x > r_i.min()) & (x < r_i.max())
    off = y[inside] - sequence(x[inside])
    print("stars", inside.sum(), "median", np.median(off), "68 %", np.percentile(np.abs(off), 68))
    assert abs(np.median(off)) < 0.06
    assert np.percentile(np.abs(off), 68) < 0.12
