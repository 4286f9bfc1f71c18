"""The surveys that galbatch ships are what their catalogues are."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io.votable.ucd import check_ucd

from galbatch.errors import SpecError
from galbatch.spec import Survey, load_survey
from galbatch.spec.load import shipped
from galbatch.spec.resolve import resolve_columns
from galbatch.values import TARGETS

SURVEYS = ("alhambra", "jpas", "lsst_dc2", "zcosmos")
every_survey = pytest.mark.parametrize("name", SURVEYS)


def test_all_are_here() -> None:
    assert {file.stem for file in shipped("schemas").glob("*.yaml")} >= set(SURVEYS)


@every_survey
def test_editors_find_the_schema(name: str) -> None:
    text = (shipped("schemas") / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=survey.schema.json\n")


@every_survey
def test_units_are_vounits_and_ucds_are_in_the_vocabulary(name: str) -> None:
    for column in load_survey(name).columns:
        u.Unit(column.unit, format="vounit")
        assert check_ucd(column.ucd, check_controlled_vocabulary=True, has_colon=True), column.name
        assert column.description, column.name
        assert "\n" not in column.description


@every_survey
def test_one_main_id_and_position(name: str) -> None:
    survey = load_survey(name)
    main = [column.name for column in survey.columns if "meta.main" in column.ucd]
    assert main == [survey.id.column, *([survey.sky.ra, survey.sky.dec] if survey.sky else [])]
    assert survey.column[survey.id.column].dtype == "int64"


@every_survey
def test_bands_are_filters(name: str) -> None:
    for band in load_survey(name).bands:
        assert 1000 < band.wavelength < 30_000
        assert 50 < band.width < 0.4 * band.wavelength
        assert band.depth is not None
        assert 21 < band.depth < 28


@every_survey
def test_columns_say_what_they_hold(name: str) -> None:
    survey = load_survey(name)
    for band in survey.bands:
        if band.value is None or band.error is None:
            continue
        value, error = survey.column[band.value], survey.column[band.error]
        assert value.unit == error.unit == survey.photometry.unit
        assert error.ucd == f"stat.error;{value.ucd}"
    ucds = {
        "redshift": r"src\.redshift",
        "star": r"src\.class\.starGalaxy|src\.redshift",
        "log_mass": r"phys\.mass",
        "spectral_type": r"src\.spType",
        "abs_mag_b": r"phys\.magAbs;em\.opt\.B",
    }
    for target in TARGETS:
        label = survey.labels.of(target)
        if label:
            assert re.match(ucds[target], survey.column[label.column].ucd), target


@every_survey
def test_a_plain_photometric_catalogue_is_enough(name: str) -> None:
    survey = load_survey(name)
    vectors = survey.photometry.vectors
    mask = vectors.mask if vectors else None
    assert set(survey.required) == {
        *(survey.id.parts or [survey.id.column]),
        *([survey.sky.ra, survey.sky.dec] if survey.sky else []),
        *(column for column in survey.photometry_columns if column != mask),
    }
    resolved = resolve_columns(survey, survey.required, "catalogue.csv")
    assert not resolved.aliases
    labels = {label.column for target in TARGETS if (label := survey.labels.of(target))}
    assert labels <= set(resolved.absent)


def test_alhambra_has_the_columns_of_the_release(survey_data: Path) -> None:
    survey = load_survey("alhambra")
    with (survey_data / "alhambra_schema" / "alhambra_columns.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [column.name for column in survey.columns] == [row["column"] for row in rows]
    assert len(survey.columns) == 113
    units = {"": "", "deg": "deg", "pix": "pix", "arcsec": "arcsec", "AB mag": "mag",
             "log10 Msun": ""}  # fmt: skip
    for column, row in zip(survey.columns, rows, strict=True):
        wanted = "pix**2" if column.name == "area" else units[row["unit"]]
        assert column.unit == wanted, column.name


def test_alhambra_spellings() -> None:
    survey = load_survey("alhambra")
    spellings = {"ID": "objID", "RA": "RAdeg", "Dec": "DEdeg", "M_Abs_1": "M_ABS_1", "Tb_1": "tb_1",
                 "zb_Min_1": "zb_min_1", "dF365W": "e_F365W", "KS": "Ks"}  # fmt: skip
    found = [spellings.get(column.name, column.name) for column in survey.columns]
    resolved = resolve_columns(survey, found, "alh.csv")
    assert not resolved.absent
    assert set(resolved.aliases) == {f"{there} -> {name}" for name, there in spellings.items()}
    other = resolve_columns(survey, [*found[:4], "RA", "DECdeg", *found[6:]], "alh.csv")
    assert other.names["DECdeg"] == "Dec"
    # The thesis' table holds the id twice, under two names.
    twice = resolve_columns(survey, ["id", "objID", *found[1:]], "alh.csv")
    assert twice.names["id"] == "ID"
    assert twice.names["objID"] == "objID"


def test_alhambra_gives_the_thesis_its_inputs() -> None:
    survey = load_survey("alhambra")
    assert len(survey.thesis_inputs) == 75
    assert len(set(survey.thesis_inputs)) == 74
    labels = {label.column for target in TARGETS if (label := survey.labels.of(target))}
    assert not labels & set(survey.thesis_inputs)


def test_alhambra_sentinels() -> None:
    detected, observed = load_survey("alhambra").photometry.sentinels
    assert (detected.value, detected.meaning, detected.error_is_limit) == (99, "not_detected", True)
    assert (observed.value, observed.meaning) == (-99, "not_observed")


def test_alhambra_bands_are_those_of_the_curves(survey_data: Path) -> None:
    curves = filters(survey_data, "ALHAMBRA")
    bands = {band.name: band for band in load_survey("alhambra").bands}
    assert set(curves) < set(bands)
    for name, (wavelength, width) in curves.items():
        assert bands[name].wavelength == pytest.approx(wavelength, abs=1)
        assert bands[name].width == pytest.approx(width, abs=1)


def test_jpas_bands_are_those_of_the_archive(survey_data: Path) -> None:
    survey = load_survey("jpas")
    lines = (survey_data / "filter_curves" / "minijpas.Filter.csv").read_text().splitlines()[1:]
    rows = list(csv.DictReader(lines))
    assert [row["name"] for row in rows] == list(survey.band_names)
    for band, row in zip(survey.bands, rows, strict=True):
        assert (band.wavelength, band.width) == (float(row["wavelength"]), float(row["width"]))
        assert band.extinction == pytest.approx(float(row["kx"]), abs=1e-3)
    assert survey.id.parts == ("TILE_ID", "NUMBER")


def test_zcosmos_fits_both_files(survey_data: Path) -> None:
    survey = load_survey("zcosmos")
    folder = survey_data / "zcosmos_bright"
    joined = pq.read_schema(folder / "zcosmos_bright_joined.parquet").names
    resolved = resolve_columns(survey, joined, "joined")
    assert (resolved.absent, resolved.aliases) == ((), ())
    assert tuple(resolved.names.values()) == tuple(joined)  # m_m_I and m_M_I are two columns
    with (folder / "zcosmost_bright20k.csv").open() as file:
        header = file.readline().strip().split(",")
    alone = resolve_columns(survey, header, "alone")
    assert set(alone.absent) == set(joined) - set(header)


def test_zcosmos_labels_make_sense(survey_data: Path) -> None:
    labels = load_survey("zcosmos").labels
    file = survey_data / "zcosmos_bright" / "zcosmos_bright_joined.parquet"
    table = pq.read_table(file)
    assert labels.redshift
    redshift = table[labels.redshift.column].to_numpy()
    known = (redshift >= labels.redshift.low) & (redshift <= labels.redshift.high)
    assert known.sum() == 16_649
    assert labels.star
    stars = np.isin(table[labels.star.column].to_numpy(), labels.star.star)
    assert stars.sum() == 708
    # Stars have the J - K of stars.
    j, k = table["j_photzi25"].to_numpy(), table["k_photzi25"].to_numpy()
    measured = (j > 0) & (k > 0)
    assert np.median((j - k)[stars & measured]) < 0.2
    assert np.median((j - k)[~stars & measured]) > 0.6


def test_columns_that_differ_in_case_only() -> None:
    survey = load_survey("zcosmos")
    with pytest.raises(SpecError, match="column 'zpec ' is there twice"):
        resolve_columns(survey, [*survey.required, "zpec", "zpec "], "f.csv")
    with pytest.raises(SpecError, match="'ZPEC' and 'Zpec' could both be column 'zpec'"):
        resolve_columns(survey, [*survey.required, "ZPEC", "Zpec"], "f.csv")


def test_star_labels_need_galaxies() -> None:
    words = load_survey("zcosmos").model_dump(exclude_unset=True)
    words["labels"]["star"].pop("galaxy_range")
    with pytest.raises(ValueError, match="needs 'galaxy'"):
        Survey.model_validate(words)


def filters(survey_data: Path, system: str) -> dict[str, tuple[float, float]]:
    with (survey_data / "filter_curves" / "filters_summary.csv").open() as file:
        return {
            row["name"]: (float(row["pivot_wave"]), float(row["fwhm"]))
            for row in csv.DictReader(file)
            if row["system"] == system
        }


def test_jpas_narrow_bands_are_in_order() -> None:
    narrow = [band.wavelength for band in load_survey("jpas").bands if band.name.startswith("J0")]
    assert len(narrow) == 54
    assert all(blue < red for blue, red in pairwise(narrow))
