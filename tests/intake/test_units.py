"""Units of a file against those of the survey: the same, converted or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from galbatch.columns import from_numpy, to_numpy
from galbatch.errors import SpecError
from galbatch.intake.units import converted, plan_units
from galbatch.spec import Survey
from galbatch.spec.units import factor, is_magnitude, unit

COLUMNS = [
    {"name": "id", "dtype": "int64"},
    {"name": "ra"},
    {"name": "dec"},
    {"name": "g"},
    {"name": "dg"},
    {"name": "size", "unit": "arcsec"},
    {"name": "other"},
]


def survey(**photometry: Any) -> Survey:
    return Survey.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "id": {"column": "id"},
            "sky": {"ra": "ra", "dec": "dec"},
            "reference_band": "g",
            "photometry": photometry,
            "bands": [
                {"name": "g", "wavelength": 4800, "width": 1400, "value": "g", "error": "dg"}
            ],
            "columns": COLUMNS,
        }
    )


FLUX = {"quantity": "flux", "unit": "uJy"}


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("nJy", "uJy", 1e-3),
        ("mJy", "uJy", 1e3),
        ("microJansky", "uJy", 1),
        ("nanomaggies", "uJy", 3.631),
        ("maggy", "nmgy", 1e9),
        ("erg/s/cm2/A", "1e-19 erg / (s cm2 Angstrom)", 1e19),
        ("1E-17 erg/cm^2/s/Ang", "1e-19 erg / (s cm2 Angstrom)", 100),
        ("degrees", "deg", 1),
        ("rad", "deg", 180 / np.pi),
        ("ABmag", "mag", 1),
        ("mag(AB)", "mag", 1),
        ("mag.arcsec**-2", "mag / arcsec2", 1),
        ("mag", "uJy", None),
        ("mag(Vega)", "mag", None),
        ("furlong per fortnight?", "deg", None),
    ],
)
def test_spellings_of_catalogues(text: str, wanted: str, expected: float | None) -> None:
    assert factor(text, wanted) == (expected and pytest.approx(expected, rel=1e-12))


def test_a_flux_per_wavelength_is_one_per_frequency_at_a_wavelength() -> None:
    assert factor("erg/s/cm2/A", "uJy") is None
    in_microjansky = factor("1e-17 erg/s/cm2/A", "uJy", 5000.0)
    # F_nu = F_lambda lambda^2 / c, by hand.
    assert in_microjansky == pytest.approx(1e-17 * 5000**2 / 2.99792458e18 / 1e-29)
    assert factor("1e-17 erg/s/cm2/A", "nanomaggy", 5000.0) == pytest.approx(in_microjansky / 3.631)


@pytest.mark.parametrize("text", ["Vega mag", "mag(Vega)", "STmag", "luptitude", "asinh mag", ""])
def test_magnitudes_that_are_not_ab(text: str) -> None:
    assert unit(text) is None
    assert not is_magnitude(text)


@pytest.mark.parametrize(
    ("photometry", "says"),
    [
        ({"unit": "uJy"}, r"unit 'uJy' is of a flux density: say photometry: \{quantity: flux"),
        ({"quantity": "flux"}, "quantity: flux needs its unit, got no unit; write e.g. unit: uJy"),
        ({"quantity": "flux", "unit": "mag"}, "needs its unit, got 'mag'"),
        ({"unit": "mag(Vega)"}, "is not of AB magnitudes: convert the column to AB"),
        ({"unit": "deg"}, "is not of AB magnitudes: say unit: mag, or quantity: flux"),
    ],
)
def test_a_survey_that_contradicts_itself(photometry: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        survey(**photometry)


def test_columns_that_contradict_the_photometry() -> None:
    raw = survey(**FLUX).model_dump(exclude_unset=True)
    raw["columns"] = list(raw["columns"])
    raw["columns"][3] = {"name": "g", "unit": "nJy"}
    with pytest.raises(ValueError, match="column 'g' has unit 'nJy', but photometry"):
        Survey.model_validate(raw)
    raw["columns"][3] = {"name": "g", "unit": "microjansky"}
    Survey.model_validate(raw)


def test_what_differs_is_converted_and_said() -> None:
    plan = plan_units(
        survey(**FLUX),
        {"ra": "rad", "dec": "deg", "g": "nJy", "dg": "", "size": "arcmin"},
        "a.fits",
    )
    assert plan.factors == pytest.approx({"g": 1e-3, "size": 60})
    assert plan.positions == {"ra": "rad", "dec": "deg"}
    assert plan.in_degrees == {"ra", "dec"}
    assert not plan_units(survey(), {"ra": "h", "dec": ""}, "a.csv").in_degrees
    text = plan_units(survey(), {"ra": '"h:m:s"', "dec": '"d:m:s"'}, "a.vot")
    assert text.positions == {"ra": "", "dec": ""}
    assert text.in_degrees == {"dec"}
    assert plan.notes == (
        "column 'ra' is in rad: converted to deg",
        "column 'g' is in nJy: converted to uJy",
        "column 'size' is in arcmin: converted to arcsec",
    )
    assert plan_units(survey(**FLUX), {"other": "pix"}, "a.fits").own == {"other": "pix"}


@pytest.mark.parametrize(
    ("stated", "photometry", "says"),
    [
        ({"ra": "pix"}, {}, "a.fits: column 'ra': its unit is 'pix', expected a unit of angle"),
        ({"g": "mag(Vega)"}, {}, "column 'g': unit 'mag\\(Vega\\)' is not of AB magnitudes"),
        ({"g": "nJy"}, {}, "column 'g': unit 'nJy' is of a flux density"),
        ({"g": "mag"}, FLUX, "its unit is 'mag', expected 'uJy', as photometry.unit says"),
        ({"g": "counts per s"}, FLUX, "its unit is 'counts per s', expected 'uJy'"),
        ({"size": "kg"}, {}, "its unit is 'kg', expected 'arcsec', as the survey says"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    stated: dict[str, str], photometry: dict[str, Any], says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        plan_units(survey(**photometry), stated, "a.fits")


def test_sentinels_stay_what_they_are() -> None:
    words = {**FLUX, "sentinels": [{"value": -99, "meaning": "not_observed"}]}
    made = survey(**words)
    table = pa.table({"g": pa.array([2000.0, -99.0, None], pa.float32()), "id": [1, 2, 3]})
    found = converted(made, table, plan_units(made, {"g": "nJy"}, "a.fits"))
    assert found["g"].to_pylist() == [2.0, -99.0, None]
    assert found["g"].type == pa.float64()
    assert found["id"] == table["id"]


def test_arrays_are_converted_and_keep_their_type() -> None:
    columns = [
        {"name": "spectrum", "shape": [300], "unit": "uJy"},
        {"name": "counts", "shape": [300], "unit": "s", "dtype": "int16"},
    ]
    words = survey(**FLUX).model_dump(mode="json", exclude_unset=True)
    made = Survey.model_validate({**words, "columns": [*COLUMNS, *columns]})
    values = np.random.default_rng(1).normal(size=(4, 300)).astype(np.float32)
    values[1, 5] = np.nan
    kind = pa.fixed_shape_tensor(pa.float32(), [300], dim_names=["spectrum_0"])
    column = from_numpy(values, kind, np.array([False, False, True, False]))
    table = pa.table({"spectrum": column}).slice(1)
    found = converted(made, table, plan_units(made, {"spectrum": "mJy"}, "a.fits"))["spectrum"]
    assert found.type == kind
    assert found.is_null().to_pylist() == [False, True, False]
    expected = (values[[1, 3]].astype(np.float64) * 1000).astype(np.float32)
    np.testing.assert_array_equal(to_numpy(found)[[0, 2]], expected)
    with pytest.raises(SpecError, match="its unit is 'h', expected int16 numbers in 's', which"):
        plan_units(made, {"counts": "h"}, "a.fits")


def spectral(flux: str = "1e-17 erg / (s cm2 Angstrom)", ivar: str = "") -> Survey:
    """A survey of spectra with these units."""
    grid = {"shape": [300], "dimensions": ["wavelength"]}
    return Survey.model_validate(
        {
            "name": "spectra",
            "title": "Spectra",
            "id": {"column": "id"},
            "spectra": {"flux": "flux", "ivar": "ivar"},
            "columns": [
                {"name": "id"},
                {"name": "flux", "unit": flux, **grid},
                {"name": "ivar", "unit": ivar, **grid},
            ],
            "axes": [{"name": "wavelength", "start": 4000, "step": 2, "points": 300}],
        }
    )


@pytest.mark.parametrize(
    ("flux", "ivar", "factors"),
    [
        ("", "", {}),
        ("1e-17 erg/s/cm2/A", "", {}),
        ("1e-17 erg/s/cm2/A", "1e34 s2 cm4 A2 / erg2", {}),
        # The inverse variances follow where the file says nothing of them, or says the same.
        ("1e-16 erg/s/cm2/A", "", {"flux": 10.0, "ivar": 0.01}),
        ("1e-16 erg/s/cm2/A", "1e32 cm4 A2 s2 / erg2", {"flux": 10.0, "ivar": 0.01}),
        ("W/m2/um", "", {"flux": 1e16, "ivar": 1e-32}),
        ("", "1e32 cm4 A2 s2 / erg2", {"ivar": 0.01}),
    ],
)
def test_inverse_variances_come_into_the_unit_of_the_flux(
    flux: str, ivar: str, factors: dict[str, float]
) -> None:
    plan = plan_units(spectral(), {"flux": flux, "ivar": ivar}, "a.fits")
    assert plan.factors == pytest.approx(factors)
    assert bool(plan.notes) == ("flux" in factors)


def test_flux_without_a_unit_is_told() -> None:
    (note,) = plan_units(spectral(flux=""), {"flux": "", "ivar": ""}, "a.fits").notes
    assert note == "column 'flux' has no unit: taken for flux per wavelength"


@pytest.mark.parametrize("survey_says", ["", "1e-17 erg / (s cm2 Angstrom)"])
@pytest.mark.parametrize(
    ("flux", "ivar", "says"),
    [
        ("mJy", "", "column 'flux': its unit is 'mJy', expected"),
        ("nanomaggies", "", "column 'flux': its unit is 'nanomaggies', expected"),
        ("erg/s/cm2/Hz", "", "column 'flux': its unit is 'erg/s/cm2/Hz', expected"),
        ("erg/s/cm2/A", "mJy-2", "column 'ivar': its unit is 'mJy-2', expected '\\(erg/s/cm2/A\\)"),
        ("erg/s/cm2/A", "erg/s/cm2/A", "column 'ivar': its unit is 'erg/s/cm2/A', expected"),
    ],
)
def test_spectra_per_frequency_and_errors_of_another_unit_are_refused(
    survey_says: str, flux: str, ivar: str, says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        plan_units(spectral(survey_says), {"flux": flux, "ivar": ivar}, "a.fits")


@pytest.mark.parametrize(
    ("flux", "ivar", "says"),
    [
        ("mJy", "", "'flux' has unit 'mJy', expected flux per wavelength"),
        (
            "erg/s/cm2/A",
            "1e34 s2 cm4 A2 / erg2",
            "'ivar' has unit .*, expected \\(erg/s/cm2/A\\)-2",
        ),
    ],
)
def test_a_survey_says_units_that_agree(flux: str, ivar: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        spectral(flux, ivar)
