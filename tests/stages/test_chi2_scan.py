"""Spectra from files to classes and redshifts, by templates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zarr
from astropy.io import fits
from numpy.typing import NDArray
from small import galbatch

from galbatch.store.layout import Layout
from galbatch.store.quarantine import rejected_rows

FIRST, STEP, PIXELS = 3.58, 1e-4, 1200
REST_FIRST, REST_PIXELS = 3.40, 3000
REST = 10 ** (REST_FIRST + STEP * np.arange(REST_PIXELS))
ROWS = 24


def lines(*places: float) -> NDArray[np.float64]:
    """A continuum with lines at rest, two pixels wide."""
    pixel = np.arange(REST_PIXELS)
    found = 1.0 + 0.3 * np.sin(pixel / 500.0)
    for place in places:
        centre = (np.log10(place) - REST_FIRST) / STEP
        found += 3.0 * np.exp(-0.5 * ((pixel - centre) / 2.0) ** 2)
    return found


GALAXY = lines(3728.5, 3970.0, 4341.7, 4862.7)
STAR = 2.0 - 0.3 * lines(3934.8, 3969.6, 4102.9, 4341.7)


def template(path: Path, vector: NDArray[np.float64], name: str = "") -> None:
    image = fits.PrimaryHDU(vector[None].astype(np.float32))
    image.header["COEFF0"], image.header["COEFF1"] = REST_FIRST, STEP
    if name:
        image.header["NAME0"] = name
    image.writeto(path, overwrite=True)


def observed(rows: int = ROWS) -> dict[str, Any]:
    """Galaxies at redshifts of whole pixels, and stars; each begins at another wavelength."""
    rng = np.random.default_rng(3)
    shifts = np.where(np.arange(rows) % 3 == 0, 0, rng.integers(100, 900, rows))
    found: dict[str, list[Any]] = {name: [] for name in ("flux", "ivar", "wavelength")}
    for row, shift in enumerate(shifts):
        start = round((FIRST - REST_FIRST) / STEP) + row % 5 - shift
        vector = (STAR if shift == 0 else GALAXY)[start : start + PIXELS - 20]
        found["flux"].append((vector + rng.normal(0, 0.05, len(vector))).astype(np.float32))
        found["ivar"].append(np.full(len(vector), 400.0, np.float32))
        grid = FIRST + STEP * (row % 5 + np.arange(len(vector)))
        found["wavelength"].append(10**grid)
    return {"id": np.arange(rows) + 1, "shift": shifts, **found}


def write(folder: Path, table: dict[str, Any]) -> None:
    columns = {name: pa.array([*values]) for name, values in table.items()}
    pq.write_table(pa.table(columns), folder / "spectra.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrays = [
        {"name": name, "shape": [PIXELS], "dimensions": ["lam"], "dtype": "float32"}
        for name in ("flux", "ivar")
    ]
    survey = {
        "name": "spectra",
        "title": "Spectra",
        "id": {"column": "id"},
        "spectra": {"flux": "flux", "ivar": "ivar", "sky": []},
        "columns": [{"name": "id", "dtype": "int64"}, {"name": "shift"}, *arrays],
        "axes": [{"name": "lam", "start": FIRST, "step": STEP, "points": PIXELS, "scale": "log10"}],
    }
    templates = [
        {"file": "galaxy.fits", "of": "GALAXY", "redshifts": [0.0, 0.3]},
        {"file": "star.fits", "of": "STAR"},
    ]
    job = {
        "name": "spectra",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["spectra.parquet"], "bad_rows": 0.5},
        "store": "store",
        "partition": {"rows": 9},
        "models": [{"kind": "chi2_scan", "templates": templates}],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    (tmp_path / "survey.yaml").write_text(yaml.safe_dump(survey))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    template(tmp_path / "galaxy.fits", GALAXY)
    template(tmp_path / "star.fits", STAR, "K0 (1)")
    write(tmp_path, observed())
    return tmp_path


def results(folder: Path, table: str = "chi2_scan") -> dict[str, NDArray[Any]]:
    with duckdb.connect(str(folder / "found.duckdb"), read_only=True) as database:
        found = database.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchnumpy()
    return {name: np.asarray(values) for name, values in found.items()}


def test_classes_and_redshifts(folder: Path) -> None:
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    table, found = observed(), results(folder)
    np.testing.assert_array_equal(found["id"], table["id"])
    star = table["shift"] == 0
    assert (found["spec_class"] == np.where(star, "STAR", "GALAXY")).all()
    assert set(found["spec_subclass"][star]) == {"K0 (1)"}
    truth = 10 ** (STEP * table["shift"]) - 1
    np.testing.assert_allclose(found["z_spec_model"], truth, atol=3e-5)
    assert (found["prob_galaxy"][~star] > 0.99).all() and (found["prob_star"][star] > 0.99).all()
    np.testing.assert_allclose(found["chi2_dof"], 1.0, atol=0.2)
    report = (folder / "store" / "report" / "index.html").read_text()
    assert f"{ROWS} of {ROWS} rows" in re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", report))
    assert "Against what is known" not in report  # nothing is
    (own,) = (model["own"] for model in numbers_of(folder).values())
    stars = int(star.sum())
    assert own["counts"]["spec_class"] == {"GALAXY": ROWS - stars, "STAR": stars}
    assert own["statistics"] is None and 3 <= len(own["rows"]) <= 6
    assert own["rows"][0]["why"].startswith("the surest GALAXY")
    assert re.search(r"GALAXY at z = 0\.\d+ ± .*Second minimum: ", own["rows"][0]["words"])
    assert report.count("chi-square by redshift") >= 3
    again = galbatch("run", "job.yaml", cwd=folder)
    assert again.returncode == 0 and again.stderr.count("nothing to do") == 6


def numbers_of(folder: Path) -> dict[str, Any]:
    """The models of the report, as it tells them to programs."""
    found: dict[str, Any] = json.loads((folder / "store" / "report" / "report.json").read_text())
    return found["models"]


def test_the_report_judges_classes_and_redshifts_by_those_that_are_known(folder: Path) -> None:
    table = observed(90)
    star = table["shift"] == 0
    table["z"] = 10 ** (STEP * table["shift"]) - 1
    table["class"] = np.where(star, "star", " Galaxy")
    table["class"][0], table["class"][1] = "GALAXY", ""  # wrong, and not known
    write(folder, table)
    with_labels(folder)
    done = galbatch("run", "job.yaml", "--set", "split={kind: id, test: 0.5}", cwd=folder)
    assert done.returncode == 0, done.stderr
    (own,) = (model["own"] for model in numbers_of(folder).values())
    found = own["statistics"]
    stars = int(star.sum())
    assert found["classes"]["names"] == ["GALAXY", "STAR"]
    galaxies, others = found["classes"]["rows"]
    assert galaxies == [90 - stars - (not star[1]), int(star[0])]
    assert others == [0, stars - int(star[0]) - int(star[1])]
    every, *_ = found["redshifts"]
    assert every["name"] == "all" and 20 < every["rows"] < 70
    assert every["within"] == [1, 1, 1] and every["sigma_nmad"] < 1e-4
    report = (folder / "store" / "report" / "index.html").read_text()
    assert "Confusion of classes" in report and "ranks failures" in report


def with_labels(folder: Path) -> None:
    """A survey with redshifts and classes that are known."""
    words = yaml.safe_load((folder / "survey.yaml").read_text())
    words["spectra"]["known_class"] = "class"
    words["labels"] = {"redshift": {"column": "z", "low": -0.01, "high": 2}}
    words["columns"] += [{"name": "z"}, {"name": "class", "dtype": "string"}]
    (folder / "survey.yaml").write_text(yaml.safe_dump(words))


def judged_on(folder: Path) -> str:
    (own,) = (model["own"] for model in numbers_of(folder).values())
    return str(own["judged_on"])


def test_classes_are_judged_without_a_held_out_redshift_and_strange_words_are_named(
    folder: Path,
) -> None:
    table = observed()
    table["z"] = 10 ** (STEP * table["shift"]) - 1
    table["class"] = np.where(table["shift"] == 0, "STAR", "blazar")
    write(folder, table)
    with_labels(folder)
    done = galbatch("run", "job.yaml", "--set", "split={kind: id, test: 0.001}", cwd=folder)
    assert done.returncode == 0, done.stderr
    (own,) = (model["own"] for model in numbers_of(folder).values())
    stars = int((table["shift"] == 0).sum())
    assert own["statistics"]["classes"]["rows"] == [[stars]]
    assert own["statistics"]["redshifts"] == []
    said = judged_on(folder)
    assert "known, of those whose redshift the survey's label takes, since no label" in said
    assert f"{ROWS - stars} rows whose word in column 'class' is not GALAXY, QSO or STAR" in said
    assert f"'blazar' {ROWS - stars}." in said and "No held-out row has a known redshift" in said


@pytest.mark.parametrize(
    ("there", "words"),
    [(True, "No class is judged: no row, of those"), (False, "the catalogue lacks column 'class'")],
)
def test_where_no_known_class_is_in_the_catalogue_the_page_says_so(
    folder: Path, there: bool, words: str
) -> None:
    table = observed()
    table["z"] = 10 ** (STEP * table["shift"]) - 1
    if there:
        table["class"] = np.full(ROWS, "")
    write(folder, table)
    with_labels(folder)
    done = galbatch("run", "job.yaml", "--set", "split={kind: id, test: 0.5}", cwd=folder)
    assert done.returncode == 0, done.stderr
    said = judged_on(folder)
    assert "Classes are judged" not in said and words in said
    assert "no class is known: whether their redshift is good is judged by the limit of" in said


def test_what_is_taken_for_granted_is_said_before_anything_runs(folder: Path) -> None:
    said = galbatch("validate", "job.yaml", cwd=folder).stdout
    assert "wavelengths are taken for those in vacuum" in said
    assert "column 'flux' has no unit: taken for flux per wavelength" in said
    words = yaml.safe_load((folder / "survey.yaml").read_text())
    words["spectra"]["medium"] = "vacuum"
    words["columns"][2]["unit"] = "1e-17 erg / (s cm2 Angstrom)"
    (folder / "survey.yaml").write_text(yaml.safe_dump(words))
    said = galbatch("validate", "job.yaml", cwd=folder).stdout
    assert "taken for" not in said


def test_the_best_model_is_kept_where_it_is_asked_for(folder: Path) -> None:
    assert galbatch("run", "job.yaml", cwd=folder).returncode == 0
    asked = galbatch("run", "job.yaml", "--set", "models.chi2_scan.keep_model=true", cwd=folder)
    assert asked.returncode == 0, asked.stderr
    group = zarr.open_group(folder / "store" / "arrays" / "chi2_scan", mode="r")
    catalogue = zarr.open_group(folder / "store" / "arrays" / "catalogue", mode="r")
    order = [np.argsort(np.where(one["id"][:] > 0, one["id"][:], 10**6))[:ROWS]
             for one in (group, catalogue)]  # fmt: skip
    model, residual = (group[name][:][order[0]] for name in ("spec_model", "spec_residual"))
    flux = catalogue["flux"][:][order[1]]
    known = np.isfinite(residual)
    np.testing.assert_allclose((model + residual)[known], flux[known], atol=1e-5)
    assert np.nanstd(residual) == pytest.approx(0.05, rel=0.1)


def test_other_templates_make_another_version(folder: Path) -> None:
    assert galbatch("run", "job.yaml", cwd=folder).returncode == 0
    template(folder / "galaxy.fits", lines(3728.5, 3970.0, 4341.7, 4862.7, 4960.3))
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (folder / "store" / "models").iterdir()) == [
        "chi2_scan",
        "chi2_scan_v2",
    ]
    (folder / "galaxy.fits").unlink()
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_rows_without_a_spectrum_are_named(folder: Path) -> None:
    table = observed()
    table["wavelength"][3] = table["wavelength"][3] / 10
    table["flux"][5] = table["flux"][5][:-7]
    table["ivar"][7] = np.zeros_like(table["ivar"][7])
    table["flux"][9] = np.full_like(table["flux"][9], np.nan)
    table["ivar"][11] = -table["ivar"][11]
    write(folder, table)
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 1, done.stderr
    layout = Layout(folder / "store")
    rows = rejected_rows(layout, "rows.spectra.parquet")
    rows = sorted(rows, key=lambda row: row.row)
    assert [row.row for row in rows] == [4, 6]
    assert "expected wavelengths from 3802" in rows[0].reason
    assert "column 'flux': 1173 pixels, there are wavelengths 1180" in rows[1].reason
    found = results(folder)
    empty = np.isin(found["id"], [8, 10, 12])
    assert (found["spec_flags"][empty] & 512 == 512).all()
    assert not (found["spec_flags"][~empty] & 512).any()
    assert np.isnan(found["z_spec_model"][empty].astype(float)).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["models.chi2_scan.templates.0.file=lost.fits"], "there is no file lost.fits"),
        (["models.chi2_scan.templates.0.of=null"], "does not say its class"),
        (["models.chi2_scan.targets=[redshift]"], "has no label for 'redshift'"),
    ],
)
def test_mistakes_are_said_in_a_line(changes: list[str], said: str, folder: Path) -> None:
    words = [word for one in changes for word in ("--set", one)]
    done = galbatch("run", "job.yaml", *words, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "damage", ["cut short", "no FITS", "without COEFF0", "redrock without RRTYPE"]
)
def test_templates_that_cannot_be_read_are_found_before_anything_runs(
    damage: str, folder: Path
) -> None:
    path = folder / "galaxy.fits"
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:4000])
    elif damage == "no FITS":
        path.write_text("wavelength,flux")
    else:
        image = fits.ImageHDU(GALAXY[None], name="BASIS_VECTORS" if "redrock" in damage else "A")
        first = fits.PrimaryHDU(None if "redrock" in damage else GALAXY[None])
        fits.HDUList([first, image]).writeto(path, overwrite=True)
    for command in ("validate", "run"):
        done = galbatch(command, "job.yaml", cwd=folder)
        assert done.returncode == 2
        assert "models.chi2_scan.templates.0: galaxy.fits" in done.stderr.splitlines()[-1]
    assert not (folder / "store").exists()


def test_desi_s_arms_come_onto_the_axis_of_its_survey(tmp_path: Path) -> None:
    number, points = np.arange(2), 7781
    grid = 3600.0 + 0.8 * np.arange(points)
    parts: list[Any] = [fits.PrimaryHDU()]
    ids = np.array([39627788403084370, 39627788403084371])
    table = np.rec.fromarrays([ids, 10.0 + number, 5.0 + number],
                              names="TARGETID,TARGET_RA,TARGET_DEC")  # fmt: skip
    parts.append(fits.BinTableHDU(table, name="FIBERMAP"))
    for arm, (start, stop) in {"B": (0, 2751), "R": (2700, 5026), "Z": (4900, points)}.items():
        image = np.broadcast_to(grid[start:stop] / 1000, (2, stop - start)).astype(np.float32)
        parts += [
            fits.ImageHDU(grid[start:stop], name=f"{arm}_WAVELENGTH"),
            fits.ImageHDU(image, name=f"{arm}_FLUX"),
            fits.ImageHDU(np.ones_like(image), name=f"{arm}_IVAR"),
            fits.ImageHDU(np.zeros(image.shape, np.int32), name=f"{arm}_MASK"),
        ]
    fits.HDUList(parts).writeto(tmp_path / "coadd.fits")
    template(tmp_path / "galaxy.fits", GALAXY)
    job = {
        "name": "desi",
        "survey": "desi_spectra",
        "source": {"kind": "files", "paths": ["coadd.fits"], "format": {"kind": "desi_coadd"}},
        "store": "store",
        "models": [{"kind": "chi2_scan", "templates": [{"file": "galaxy.fits", "of": "GALAXY"}]}],
        "cluster": {"kind": "serial"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    done = galbatch("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    group = zarr.open_group(tmp_path / "store" / "arrays" / "catalogue", mode="r")
    rows = np.flatnonzero(np.isin(group["id"][:], ids))
    assert len(rows) == 2
    np.testing.assert_allclose(group["flux"][:][rows], np.stack([grid / 1000] * 2), rtol=1e-6)
    overlap = group["ivar"][:][rows][:, [0, 2710, 2751]]
    np.testing.assert_array_equal(overlap, [[1, 2, 1]] * 2)
