from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from galbatch.mock import gas
from galbatch.mock.forest import forest
from galbatch.mock.library import load_galaxies
from galbatch.mock.of_templates import spectra_of_templates
from galbatch.mock.optical import REST, galaxy_spectra, shifted
from galbatch.mock.population import population
from galbatch.mock.profiles import LIGHT, Lines, add_emission, instrument_sigma
from galbatch.mock.spectra import (
    CHUNK,
    MockSpectra,
    Observing,
    every_subclass_columns,
    observed_spectra,
    spectra_in_chunks,
    spectrum_columns,
)
from galbatch.mock.spectrograph import BRIGHT_SKY, NO_DATA, Spectrograph
from galbatch.mock.subclass import MeasuredLines, measure, subclasses
from galbatch.mock.targets import THIRTEEN, Targets, of_every_subclass
from galbatch.spec import load_survey
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.medium import vacuum_wavelengths

GRID = LogGrid(3.5563, 1e-4, 4076)
ROWS = 2 * CHUNK + 100
NAMES = ("[O_III] 5008", "H_beta", "H_alpha", "[N_II] 6585")


@pytest.fixture(scope="module")
def targets() -> Targets:
    return of_every_subclass(np.random.default_rng(1), ROWS)


@pytest.fixture(scope="module")
def spectra(targets: Targets) -> MockSpectra:
    return observed_spectra(targets, GRID, (1,), Observing())


def pixel_widths(grid: LogGrid) -> np.ndarray:
    return grid.wavelengths * 2.0 * np.sinh(0.5 * np.log(10.0) * grid.step)


def one_line(wavelength: float, sigma: float, redshift: np.ndarray) -> Lines:
    column = np.ones((len(redshift), 1))
    return Lines(wavelength * (1.0 + redshift)[:, None], sigma * column, 7.0 * column)


@pytest.mark.parametrize("sigma", [30.0, 300.0, 4000.0])
def test_a_line_keeps_its_place_and_its_flux_at_every_redshift(sigma: float) -> None:
    redshift = np.linspace(0.0, 0.6, 41)
    spectra = np.zeros((len(redshift), GRID.points), np.float32)
    lines = one_line(5008.24, sigma, redshift)
    add_emission(spectra, GRID, lines)
    light = spectra * pixel_widths(GRID)
    assert light.sum(axis=1) == pytest.approx(7.0, rel=1e-4)
    pixel = (light * np.arange(GRID.points)).sum(axis=1) / light.sum(axis=1)
    wanted = (np.log10(lines.centre[:, 0]) - GRID.first) / GRID.step
    assert np.abs(pixel - wanted).max() < 0.01
    spread = np.sqrt((light * (np.arange(GRID.points) - pixel[:, None]) ** 2).sum(axis=1) / 7.0)
    through = np.hypot(sigma, instrument_sigma(lines.centre[:, 0])) / (LIGHT * np.log(10) * 1e-4)
    # A pixel is a box: its own width adds a twelfth of a pixel squared.
    assert spread == pytest.approx(np.sqrt(through**2 + 1.0 / 12.0), rel=2e-3)


def test_a_line_at_the_end_leaves_only_what_is_inside() -> None:
    spectra = np.zeros((3, GRID.points), np.float32)
    ends = np.array([GRID.wavelengths[0], GRID.wavelengths[-1], 1.01 * GRID.wavelengths[-1]])
    add_emission(spectra, GRID, one_line(1.0, 100.0, ends - 1.0))
    light = (spectra * pixel_widths(GRID)).sum(axis=1)
    assert light == pytest.approx([3.5, 3.5, 0.0], abs=1.2)
    assert light[2] == 0.0


def test_a_shift_by_a_fraction_of_a_pixel_is_a_shift() -> None:
    pixel = np.arange(REST.points)
    bump = np.exp(-0.5 * ((pixel - 5000.0) / 3.0) ** 2)[None].astype(np.float32) + 1.0
    position = np.array([4900.0, 4900.3, 4899.75])
    one = np.ones((3, 1))
    found = shifted(bump, one.astype(int) * 0, one, position, np.full(3, 2.0), 300)
    width = np.hypot(3.0, 2.0)
    at = 5000.0 - position[:, None]
    wanted = 1.0 + 3.0 / width * np.exp(-0.5 * ((np.arange(300) - at) / width) ** 2)
    assert np.abs(found - wanted).max() < 2e-4


def test_emission_lines_are_in_vacuum() -> None:
    air = vacuum_wavelengths(load_galaxies().line_wavelength)
    off = np.array([np.min(np.abs(air / line - 1.0)) for line in gas.WAVELENGTHS])
    assert np.median(off) < 2e-5


def test_absorption_lines_are_in_vacuum() -> None:
    # H alpha, Mg b and two of Ca II, of galaxies without young stars: in air they are 2.8e-4 off.
    known = ((6564.61, 20), (5185.05, 5), (8544.44, 12), (8664.52, 12))
    off = []
    for row in (5, 20, 60, 100):
        for line, half in known:
            at = int(np.abs(REST.wavelengths - line).argmin())
            flux = galaxy_spectra()[row, at - half : at + half + 1].astype(float)
            level = np.linspace(flux[:3].mean(), flux[-3:].mean(), len(flux))
            depth = np.maximum(level - flux, 0.0)
            mean = (depth * np.arange(-half, half + 1)).sum() / depth.sum()
            off.append(REST.wavelengths[at] * 10.0 ** (mean * 1e-4) / line - 1.0)
    assert abs(np.median(off)) < 2e-5


def test_galaxies_show_their_lines_at_their_redshift(targets: Targets) -> None:
    rows = np.flatnonzero((targets.kind == "GALAXY") & (targets.redshift < 0.3))
    bright = replace(
        targets.taken(rows), dispersion=np.full(len(rows), 60.0), nucleus=np.full(len(rows), 2.0)
    )
    model = observed_spectra(bright, GRID, (3,), Observing(flaws=False)).model
    place = np.log10(gas.WAVELENGTHS[gas.NAMES.index("[O_III] 5008")] * (1.0 + bright.redshift))
    at = (place - GRID.first) / GRID.step
    column = np.rint(at).astype(int)[:, None] + np.arange(-6, 7)
    around = np.take_along_axis(model, column, axis=1)
    height = around - around[:, [0, -1]].mean(axis=1)[:, None]
    pixel = (height * column).sum(axis=1) / height.sum(axis=1)
    # Each galaxy's gas has some 10 km/s of its own, a seventh of a pixel.
    assert abs(np.median(pixel - at)) < 0.1
    assert np.abs(pixel - at).max() < 1.0


def test_noise_has_the_variance_that_is_stated(spectra: MockSpectra) -> None:
    pull = (spectra.flux - spectra.model) * np.sqrt(spectra.ivar)
    good = (spectra.ivar > 0) & ~spectra.flawed
    assert np.mean(pull[good] ** 2) == pytest.approx(1.0, abs=0.02)
    bright = good & (spectra.mask & BRIGHT_SKY > 0)
    assert np.mean(pull[bright] ** 2) == pytest.approx(1.0, abs=0.02)
    assert 0.0001 < spectra.flawed.mean() < 0.01
    assert np.mean(pull[spectra.flawed] ** 2) > 2.0


def test_signal_to_noise_is_the_wanted_one(spectra: MockSpectra, targets: Targets) -> None:
    ratio = spectra.signal_to_noise / targets.signal_to_noise
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    assert np.percentile(np.abs(ratio - 1.0), 95) < 0.15


def test_no_data_is_said_three_times(spectra: MockSpectra) -> None:
    gone = spectra.ivar == 0
    assert 0.005 < gone.mean() < 0.05
    assert np.array_equal(gone, spectra.mask & NO_DATA > 0)
    assert (spectra.flux[gone] == 0).all()
    assert np.isfinite(spectra.flux).all() and np.isfinite(spectra.model).all()


def test_the_same_bytes_come_out_for_any_batch(targets: Targets, spectra: MockSpectra) -> None:
    rest = targets.taken(np.arange(2 * CHUNK, ROWS))
    again = observed_spectra(rest, GRID, (1,), Observing(), first=2 * CHUNK)
    assert again.flux.tobytes() == spectra.flux[2 * CHUNK :].tobytes()
    assert again.ivar.tobytes() == spectra.ivar[2 * CHUNK :].tobytes()
    assert np.array_equal(again.subclass_measured, spectra.subclass_measured[2 * CHUNK :])
    # A shorter catalogue is the beginning of the longer one.
    short = observed_spectra(targets.taken(np.arange(70)), GRID, (1,), Observing())
    assert short.flux.tobytes() == spectra.flux[:70].tobytes()
    other = next(spectra_in_chunks(targets, GRID, (2,), Observing()))
    assert not np.array_equal(other.flux, spectra.flux[:CHUNK])


def test_every_subclass_occurs(spectra: MockSpectra, targets: Targets) -> None:
    pairs = list(zip(spectra.kind.tolist(), spectra.subclass.tolist(), strict=True))
    share = {pair: pairs.count(pair) / len(pairs) for pair in THIRTEEN}
    assert min(share.values()) > 0.02, share
    # Most are what they were drawn for.
    assert sum(share.values()) > 0.9
    assert np.array_equal(spectra.redshift, targets.redshift)


def test_a_catalogue_of_every_subclass_reaches_as_far_as_its_grid() -> None:
    boss = LogGrid(3.548, 1e-4, 4700)
    found = every_subclass_columns(boss, (1, 0), slice(2 * CHUNK, 3 * CHUNK))
    assert found["flux"].shape == found["mask"].shape == (CHUNK, 4700)
    assert np.isfinite(found["flux"]).all() and found["mask"].max() < 2**25
    forming = np.isin(found["subclass"], ("STARFORMING", "STARBURST"))
    assert 0.4 < found["redshift"][forming].max() < 10_425.0 / 6700.0 - 1.0
    assert {"QSO", "GALAXY", "STAR"} == set(found["class"].tolist())


def test_what_does_not_fit_is_said(targets: Targets) -> None:
    with pytest.raises(ValueError, match="multiple of 256, got 5"):
        observed_spectra(targets, GRID, (1,), Observing(), first=5)
    with pytest.raises(ValueError, match=r"step of 0\.0001 in log10\(wavelength\), got 0\.0002"):
        observed_spectra(targets, LogGrid(3.56, 2e-4, 2000), (1,), Observing())


def measured(**changes: tuple[float, ...]) -> MeasuredLines:
    """One object with four lines, every one at 20 sigma and narrow."""
    values = {
        "flux": (1.0, 1.0, 3.0, 1.0),
        "sigma": (100.0,) * 4,
        "sigma_error": (5.0,) * 4,
        "width": (5.0, 5.0, 30.0, 5.0),
        "width_error": (0.2,) * 4,
    } | changes
    values.setdefault("flux_error", tuple(abs(value) / 20.0 for value in values["flux"]))
    return MeasuredLines(**{key: np.array([value]) for key, value in values.items()})


def at_the_border(above: float) -> tuple[float, ...]:
    """Fluxes with log [N II]/H alpha = -0.4, and [O III]/H beta that much above the border."""
    return (10.0 ** (0.7 + above), 1.0, 3.0, 3.0 * 10.0**-0.4)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (measured(flux=at_the_border(0.01)), "AGN"),
        (measured(flux=at_the_border(-0.01)), "STARFORMING"),
        (measured(flux=at_the_border(-0.01), width=(5.0, 5.0, 50.1, 5.0)), "STARBURST"),
        (measured(flux=at_the_border(-0.01), width=(5.0, 5.0, 49.9, 5.0)), "STARFORMING"),
        # A nucleus is no starburst, however strong H alpha.
        (measured(flux=at_the_border(0.01), width=(5.0, 5.0, 99.0, 5.0)), "AGN"),
        (measured(width=(5.0, 5.0, 60.0, 5.0), width_error=(1.0, 1.0, 21.0, 1.0)), "STARFORMING"),
        # Every one of the four has to be there at 3 sigma.
        (measured(flux_error=(0.05, 0.34, 0.1, 0.1)), ""),
        (measured(flux_error=(0.05, 0.33, 0.1, 0.1)), "STARFORMING"),
        (measured(flux=(1.0, -1.0, 3.0, 1.0)), ""),
        (measured(flux_error=(np.inf,) * 4), ""),
        (measured(sigma=(100.0, 226.0, 100.0, 100.0)), "STARFORMING BROADLINE"),
        (measured(sigma=(100.0, 224.0, 100.0, 100.0)), "STARFORMING"),
        # Wide, but at 9 sigma.
        (
            measured(sigma=(100.0, 900.0, 100.0, 100.0), flux_error=(0.05, 0.11, 0.1, 0.1)),
            "STARFORMING",
        ),
        (
            measured(
                sigma=(100.0, 100.0, 900.0, 100.0),
                flux_error=(np.inf, np.inf, 0.1, np.inf),
            ),
            "BROADLINE",
        ),
    ],
)
def test_subclasses_follow_the_rules_of_sdss(lines: MeasuredLines, expected: str) -> None:
    assert subclasses(NAMES, lines).tolist() == [expected]


def test_lyman_alpha_makes_no_broad_line() -> None:
    wide = measured(sigma=(2000.0, 100.0, 100.0, 100.0), flux=(-1.0, 1.0, 1.0, 1.0))
    lyman = replace(wide, flux=np.abs(wide.flux))
    assert subclasses(("Ly_alpha", *NAMES[1:], NAMES[0]), _with_one_more(lyman)).tolist() == [
        "STARFORMING"
    ]


def _with_one_more(lines: MeasuredLines) -> MeasuredLines:
    """The first line once more at the end, narrow."""
    columns = {
        name: np.concatenate([value, value[:, 1:2]], axis=1) for name, value in vars(lines).items()
    }
    return MeasuredLines(**columns)


def test_lines_are_measured_as_well_as_their_errors_say() -> None:
    rng = np.random.default_rng(4)
    redshift = rng.uniform(0.0, 0.7, 2000)
    lines = one_line(5008.24, 250.0, redshift)
    ivar = np.full((len(redshift), GRID.points), 16.0, np.float32)
    noise = rng.standard_normal(ivar.shape, np.float32) / 4.0
    true, noisy = measure(GRID, lines, np.ones_like(lines.flux), 1.0 + redshift, ivar, noise)
    pull = (noisy.flux - true.flux) / true.flux_error
    assert np.mean(pull) == pytest.approx(0.0, abs=0.1)
    assert np.std(pull) == pytest.approx(1.0, abs=0.05)
    pull = (noisy.sigma - true.sigma) / true.sigma_error
    assert np.median(np.abs(pull)) * 1.4826 == pytest.approx(1.0, abs=0.1)
    # White noise: 1.5 times the variance of a line whose width is known.
    width = np.hypot(250.0, instrument_sigma(lines.centre[:, 0])) / LIGHT * lines.centre[:, 0]
    known = 0.25 * np.sqrt(2.0 * np.sqrt(np.pi) * width * pixel_widths(GRID).mean())
    assert np.median(true.flux_error[:, 0] / known) == pytest.approx(np.sqrt(1.5), rel=0.1)


def test_nothing_is_measured_where_there_is_no_data() -> None:
    lines = one_line(5008.24, 250.0, np.array([0.1, 5.0]))
    nothing = np.zeros((2, GRID.points), np.float32)
    _, noisy = measure(GRID, lines, np.ones((2, 1)), np.array([1.1, 6.0]), nothing, nothing)
    assert np.isinf(noisy.flux_error).all()


def test_the_forest_lets_through_what_is_observed() -> None:
    wave = 10.0 ** np.linspace(3.54, 3.70, 1600)
    redshift = np.full(300, 3.0)
    rng = np.random.default_rng(2)
    normal = rng.standard_normal((2, 300, len(wave))).astype(np.float32)
    found = forest(wave, redshift, normal, np.zeros(300))
    pure = (wave > 1050.0 * 4.0) & (wave < 1180.0 * 4.0)
    wanted = np.exp(-0.0018 * (wave[pure] / 1215.67) ** 3.92)
    assert found[:, pure].mean() == pytest.approx(wanted.mean(), abs=0.02)
    assert 0.15 < found[:, pure].std() < 0.4
    assert (found[:, wave > 1216.0 * 4.0] == 1.0).all()
    assert found[:, wave < 900.0 * 4.0].mean() < 0.1


def test_the_sky_is_brighter_to_the_red_and_in_its_lines() -> None:
    instrument = Spectrograph(GRID)
    sky = instrument.bands.sum(axis=0)
    wave = GRID.wavelengths
    assert sky[wave > 7500].mean() > 10.0 * sky[wave < 5400].mean()
    assert np.abs(wave[np.argmax(np.where(wave < 6000, sky, 0.0))] / 5578.89 - 1.0) < 1.2e-4
    light = np.full((1, GRID.points), 1.0, np.float32)
    seen = instrument.expose(light, np.array([2.0]), np.random.default_rng(0), flaws=False)
    assert seen.ivar[0, instrument.green].min() < 0.2 * np.median(seen.ivar)


def test_the_sky_has_spectra_that_agree_with_its_fluxes() -> None:
    survey = load_survey("alhambra")
    reference = survey.band_names.index("F814W")
    other, band = survey.bands[8], survey.bands[reference]
    sky = population((other, band), 1, (17.0, 20.0), 0.3, 0.2)
    objects = sky.draw(np.random.default_rng(3), 2 * CHUNK)
    found = spectrum_columns(objects, 1, band.wavelength, GRID, (5, 0), slice(CHUNK, None))
    assert {key: len(column) for key, column in found.items()} == dict.fromkeys(found, CHUNK)
    assert found["flux"].shape == found["ivar"].shape == (CHUNK, GRID.points)
    rows = slice(CHUNK, None)
    kinds = np.where(objects.is_star, "STAR", np.where(objects.is_qso, "QSO", "GALAXY"))[rows]
    assert np.array_equal(found["class"], kinds)
    known = ~objects.is_star[rows]
    assert np.array_equal(found["redshift"][known], objects.redshift[rows][known])
    # Another band than that which fixes the level, in microjansky: a colour.
    near = np.abs(GRID.wavelengths / other.wavelength - 1.0) < 0.02
    level = (found["flux"] * np.where(found["ivar"] > 0, 1.0, np.nan))[:, near]
    density = np.nanmean(level, axis=1) * other.wavelength**2 / 2.99792458e6
    magnitude = 2.5 * np.log10(objects.flux[rows, 0] / np.maximum(density, 1e-9))
    clear = found["signal_to_noise"] > 3.0
    assert np.abs(np.median(magnitude[clear])) < 0.1
    assert np.median(np.abs(magnitude[clear])) < 0.12


def test_templates_are_seen_at_their_redshift_and_nowhere_else() -> None:
    rest = LogGrid(3.5, 1e-4, 3000)
    bump = np.exp(-0.5 * ((np.arange(rest.points) - 1500.0) / 4.0) ** 2)
    vectors = np.stack([np.ones(rest.points), bump])
    redshift = np.array([0.0, 0.1, 0.2345])
    coefficients = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]])
    quality = np.full(3, 20.0)
    seen = spectra_of_templates(vectors, rest, coefficients, redshift, quality, GRID, (1,), False)
    height = seen.model - np.median(seen.model, axis=1)[:, None]
    pixel = (height * np.arange(GRID.points)).sum(axis=1) / height.sum(axis=1)
    wanted = (3.65 + np.log10(1.0 + redshift) - GRID.first) / GRID.step
    assert np.abs(pixel - wanted).max() < 0.02
    last = (3.7999 + np.log10(1.0 + redshift) - GRID.first) / GRID.step
    seen_last = GRID.points - 1 - np.argmax(seen.ivar[:, ::-1] > 0, axis=1)
    assert np.abs(seen_last - last).max() < 1.0
    begin = (rest.first + np.log10(1.0 + redshift) - GRID.first) / GRID.step
    seen_first = np.argmax(seen.ivar > 0, axis=1)
    assert np.abs(seen_first - np.maximum(begin, 0.0)).max() < 1.0
    assert (np.count_nonzero(seen.ivar, axis=1) == seen_last - seen_first + 1).all()
    shorter = spectra_of_templates(
        vectors, rest, coefficients[:2], redshift[:2], quality[:2], GRID, (1,), False
    )
    assert shorter.flux.tobytes() == seen.flux[:2].tobytes()
    with pytest.raises(ValueError, match=r"expected a step of 0\.0001, got 0\.0002"):
        spectra_of_templates(
            vectors, LogGrid(3.5, 2e-4, 3000), coefficients, redshift, quality, GRID, (1,)
        )


@pytest.mark.parametrize("kind", ["GALAXY", "QSO", "STAR"])
def test_one_kind_can_be_alone_and_far_away(targets: Targets, kind: str) -> None:
    some = targets.taken(np.flatnonzero(targets.kind == kind)[:5])
    if kind != "STAR":
        some = replace(some, redshift=np.array([0.005, 1.5, 3.0, 4.0, 5.0]))
    found = observed_spectra(some, GRID, (7,), Observing())
    assert np.isfinite(found.flux).all() and (found.kind == kind).all()
    assert (np.median(found.model, axis=1) > 0).all()
