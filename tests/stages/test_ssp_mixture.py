"""Simulated mixtures of populations teach a network what spectra are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import yaml
from small import galbatch

from galbatch.columns import arrow_type, from_numpy
from galbatch.mock.mixtures import Mixer, drawn_mixtures
from galbatch.mock.sed_library import populations
from galbatch.models.base import ShowingModel
from galbatch.models.families import load_model
from galbatch.spectra.grids import LogGrid
from galbatch.spectra.mixture_flags import MixtureFlag
from galbatch.spectra.mixture_parameters import MixtureParameters

AXIS = LogGrid(3.6, 1e-4, 2200)
ROWS = 60
LIMITS = {
    "log_age": (-2.0, 1.1),
    "metallicity": (-0.6, 0.3),
    "velocity": (-300.0, 300.0),
    "dispersion": (50.0, 300.0),
    "extinction": (0.0, 0.4),
    "log_gas": (-1.0, 1.0),
}


def spectra() -> dict[str, Any]:
    """Mixtures as a spectrograph sees them, with noise."""
    rng = np.random.default_rng(3)
    made = drawn_mixtures(
        MixtureParameters(4, False, LIMITS, 0.05), ROWS, rng, rng.uniform(0.02, 0.2, ROWS)
    )
    flux, seen = Mixer(populations()).observed(made, AXIS, rng)
    sigma = flux.mean(axis=1, keepdims=True) / rng.uniform(15, 40, (ROWS, 1))
    flux = flux + sigma * rng.standard_normal(flux.shape)
    ivar = np.where(seen, sigma**-2, 0)
    ivar[7] = 0
    redshift = made.redshift.copy()
    redshift[9] = np.nan
    return {
        "id": np.arange(ROWS) + 1,
        "flux": flux.astype(np.float32),
        "ivar": ivar.astype(np.float32),
        "z": redshift,
        "truth": made,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrays = [
        {"name": name, "shape": [AXIS.points], "dimensions": ["lam"], "dtype": "float32"}
        for name in ("flux", "ivar")
    ]
    axis = {"name": "lam", "start": AXIS.first, "step": AXIS.step, "points": AXIS.points}
    survey = {
        "name": "spectra",
        "title": "Spectra",
        "id": {"column": "id"},
        "spectra": {"flux": "flux", "ivar": "ivar", "sky": []},
        "columns": [{"name": "id", "dtype": "int64"}, {"name": "z"}, *arrays],
        "axes": [{**axis, "scale": "log10"}],
    }
    model = {
        "kind": "ssp_mixture", "redshift": "z", "mixtures": 1500, "spectral_components": 40,
        "width": 24, "layers": 2, "couplings": 4, "draws": 64, "epochs": 6,
    }  # fmt: skip
    job = {
        "name": "spectra",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["spectra.npz"]},
        "store": "store",
        "models": [model],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }
    (tmp_path / "survey.yaml").write_text(yaml.safe_dump(survey))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    table = spectra()
    del table["truth"]
    np.savez(tmp_path / "spectra.npz", **table)
    return tmp_path


def found_in(folder: Path) -> Any:
    with duckdb.connect(str(folder / "found.duckdb"), read_only=True) as database:
        return database.execute("SELECT * FROM ssp_mixture ORDER BY id").fetchdf()


@pytest.mark.parametrize("network", ["separate", "invertible"])
def test_populations_of_spectra_as_observed(network: str, folder: Path) -> None:
    done = galbatch("run", "job.yaml", "--set", f"models.ssp_mixture.network={network}", cwd=folder)
    assert done.returncode == 0, done.stderr
    found, table = found_in(folder), spectra()
    assert found["ssp_flags"][7] == 1 and found["ssp_flags"][9] == 2
    known = ~found["id"].isin([8, 10]).to_numpy()
    lists = {name: np.stack(found[f"ssp_{name}"]).astype(float) for name in
             ("weight", "log_age", "metallicity")}  # fmt: skip
    assert np.isnan(lists["weight"][~known]).all()
    weight = lists["weight"][known]
    np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(weight, axis=1) <= 0).all()
    for name in ("log_age", "metallicity"):
        np.testing.assert_array_equal(np.isnan(lists[name][known]), weight == 0)
    truth = table["truth"].light_weighted["light_log_age"][known]
    age = found["ssp_light_log_age"].to_numpy()[known]
    assert np.corrcoef(age, truth)[0, 1] > 0.5
    low, high = (found[f"ssp_velocity_{end}"].to_numpy()[known] for end in ("low", "high"))
    middle = found["ssp_velocity"].to_numpy()[known]
    assert (low <= middle).all() and (middle <= high).all()
    for end in ("", "_low", "_high"):
        assert found[f"ssp_extinction{end}"][known].between(0, 0.5).all()
    beside = (1 + table["z"][known]) * (1 + middle / 299_792.458) - 1
    np.testing.assert_allclose(found["ssp_redshift"].to_numpy()[known], beside, atol=1e-6)
    assert ("ssp_age_metallicity_corr" in found) == (network == "invertible")
    if network == "invertible":
        assert found["ssp_age_metallicity_corr"][known].between(-1, 1).all()
    strange_rows_are_flagged(folder)
    page = (folder / "store/report/index.html").read_text()
    assert "simulated rows held out, light_log_age" in page
    assert "a middling fit" in page and "validation, " not in page
    card = json.loads((folder / "store/models/ssp_mixture/card.json").read_text())
    assert card["rows"]["simulated"] == {"train": 1200, "validation": 150, "calibration": 150}


def strange_rows_are_flagged(folder: Path) -> None:
    """A star's redshift, one that taught nothing, and a spectrum that is no galaxy's."""
    table = spectra()
    table["z"][:3] = 0.001, 0.5, 0.1
    table["flux"][2] *= 1 + 0.9 * np.sin(np.arange(AXIS.points) / 3)
    kind = arrow_type("float32", (AXIS.points,), ("lam",))
    columns = {name: from_numpy(table[name][:4], kind) for name in ("flux", "ivar")}
    columns["z"] = pa.array(table["z"][:4])
    model = load_model(folder / "store/models/ssp_mixture")
    found = model.predict(pa.table(columns))["ssp_flags"].to_numpy()
    poor, other = MixtureFlag.POOR_FIT, MixtureFlag.OTHER_REDSHIFT
    np.testing.assert_array_equal((found & other) != 0, [True, True, False, False])
    assert found[2] & poor and not found[3] & poor
    assert isinstance(model, ShowingModel)
    shown = model.shown(pa.table(columns))
    chi2 = model.predict(pa.table(columns))["ssp_chi2"].to_numpy()
    for one, known in zip(shown, chi2, strict=True):
        assert one.spectrum is not None and one.spectrum.error is not None
        off = (one.spectrum.flux - one.spectrum.model) / one.spectrum.error
        assert np.nanmean(off**2) == pytest.approx(known, rel=1e-3)
    assert "POOR_FIT" in shown[2].words and "which is the one shown" in shown[3].words
    numbers = model.portrait().numbers
    assert len(numbers) == 6
    assert all("simulated mixtures that taught nothing" in one.note for one in numbers)


def test_spectra_as_observed_need_a_redshift(folder: Path) -> None:
    job = yaml.safe_load((folder / "job.yaml").read_text())
    del job["models"][0]["redshift"]
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 2
    assert "name the column with the redshift" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("column", "said"),
    [("zz", "has no column 'zz'"), ("flux", "'flux' holds arrays"), ("word", "'word' holds text")],
)
def test_redshifts_must_be_a_column_of_numbers(column: str, said: str, folder: Path) -> None:
    survey = yaml.safe_load((folder / "survey.yaml").read_text())
    survey["columns"].append({"name": "word", "dtype": "string"})
    (folder / "survey.yaml").write_text(yaml.safe_dump(survey))
    change = f"models.ssp_mixture.redshift={column}"
    done = galbatch("validate", "job.yaml", "--set", change, cwd=folder)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1], done.stderr


def test_a_library_is_read_before_anything_runs(folder: Path) -> None:
    (folder / "ssp.parquet").write_text("no table")
    change = "models.ssp_mixture.templates={file: ssp.parquet}"
    done = galbatch("run", "job.yaml", "--set", change, cwd=folder)
    assert done.returncode == 2 and not (folder / "store").exists()
    assert "ssp.parquet: cannot be read as a library" in done.stderr.splitlines()[-1]
