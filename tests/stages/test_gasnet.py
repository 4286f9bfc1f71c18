"""A catalogue of simulated spectra, and a model that other simulated spectra have taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import yaml
from small import galbatch
from world import site_of

from galbatch.mock.spectra import every_subclass_columns
from galbatch.mock.targets import THIRTEEN
from galbatch.spectra.grids import LogGrid
from galbatch.stages.train import Train

GRID = LogGrid(3.6, 1e-4, 2600)
ROWS = 40


def spectra() -> dict[str, Any]:
    made = every_subclass_columns(GRID, (9, 0), slice(0, ROWS))
    made["ivar"][7] = 0
    names = ("flux", "ivar", "redshift", "class")
    return {"id": np.arange(ROWS) + 1, **{name: made[name] for name in names}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrays = [
        {"name": name, "shape": [GRID.points], "dimensions": ["lam"], "dtype": "float32"}
        for name in ("flux", "ivar")
    ]
    axis = {"name": "lam", "start": GRID.first, "step": GRID.step, "points": GRID.points}
    survey = {
        "name": "spectra",
        "title": "Spectra",
        "id": {"column": "id"},
        "spectra": {"flux": "flux", "ivar": "ivar"},
        "columns": [{"name": "id", "dtype": "int64"}, *arrays],
        "axes": [{**axis, "scale": "log10"}],
    }
    model = {
        "kind": "gasnet", "mocks": 260, "at_rest": 100, "galaxies": 4, "quasars": 3, "stars": 1,
        "filters": [4, 8], "epochs": 2,
    }  # fmt: skip
    job = {
        "name": "spectra",
        "survey": "survey.yaml",
        "source": {"kind": "files", "paths": ["spectra.npz"]},
        "store": "store",
        "models": [
            model,
            {
                **model, "name": "encoded", "coefficients": "encoder", "redshift_network": False,
                "mocks": 200, "epochs": 1, "at_rest": 50, "filters": [4],
            },
        ],
        "sinks": [{"kind": "duckdb", "path": "found.duckdb"}],
        "cluster": {"kind": "serial"},
    }  # fmt: skip
    (tmp_path / "survey.yaml").write_text(yaml.safe_dump(survey))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    table = spectra()
    np.savez(tmp_path / "spectra.npz", **{name: table[name] for name in ("id", "flux", "ivar")})
    return tmp_path


def test_simulated_spectra_teach_classes_and_redshifts(folder: Path) -> None:
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(folder / "found.duckdb"), read_only=True) as database:
        found = database.execute("SELECT * FROM gasnet ORDER BY id").fetchdf()
        encoded = database.execute("SELECT * FROM encoded ORDER BY id").fetchdf()
        missing = database.execute("SELECT id FROM gasnet WHERE isnan(gas_prob)").fetchall()
    assert missing == [(found["id"][7],)]  # and not NULL
    table = spectra()
    known = np.arange(ROWS) != 7
    right = found["spec_class"].to_numpy()[known] == table["class"][known]
    assert right.mean() > 0.8
    near = np.abs(found["z_spec_model"] - table["redshift"]) < 0.01 * (1 + table["redshift"])
    assert near[known].mean() > 0.8
    names = {f"{kind} {subclass}".strip() for kind, subclass in THIRTEEN}
    assert set(found["gas_subclass"][known]) <= names
    assert found["gas_prob"][known].between(1 / 13 - 1e-6, 1).all()
    assert found["gas_subclass"][7] == "" and np.isnan(found["gas_prob"][7])
    assert found["spec_flags"][7] & 512
    star = (found["spec_class"] == "STAR") | found["gas_subclass"].str.startswith("STAR")
    told = found["z_network"].notna()
    assert (told == (known & ~star)).all() and (found["z_network_err"][told] > 0).all()
    off = (found["z_network"] - found["z_spec_model"]) / (1 + found["z_spec_model"])
    assert off[told].abs().max() < 0.05
    assert not (folder / "store/models/gasnet/work").exists()
    card = json.loads((folder / "store/models/gasnet/card.json").read_text())
    assert card["rows"]["simulated"]["train"] + card["rows"]["simulated"]["validation"] <= 260
    assert set(card["calibration"]) == {"redshift_errors", "subclass", "network_errors", "anomaly"}
    assert (found["anomaly"].notna() <= known).all()
    assert (encoded["spec_class"][known] == table["class"][known]).mean() > 0.4
    assert "z_network" not in encoded and encoded["z_spec_model"][known].notna().all()
    report = (folder / "store/report/index.html").read_text()
    assert "held out; they ended the fit and calibrated the network" in report
    again = galbatch("run", "job.yaml", cwd=folder)
    assert again.returncode == 0 and again.stderr.count("nothing to do") == 6


def test_spectra_without_h_alpha_are_refused(folder: Path) -> None:
    survey = yaml.safe_load((folder / "survey.yaml").read_text())
    survey["axes"][0]["start"] = 3.55
    (folder / "survey.yaml").write_text(yaml.safe_dump(survey))
    done = galbatch("run", "job.yaml", cwd=folder)
    assert done.returncode == 2 and "end at 6455 Angstrom" in done.stderr.splitlines()[-1]


def test_a_fit_is_promised_what_it_simulates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    job = yaml.safe_load((folder / "job.yaml").read_text())

    def promised(**settings: int) -> int:
        job["models"] = [{**job["models"][0], **settings}]
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        return Train().memory(site_of(folder))

    least = promised(mocks=260)
    # 10,000 numbers of two bytes each, and half as much again.
    assert 2e9 < promised(mocks=100_000) - least < 5e9
    assert promised(mocks=260, at_rest=10_000) - least > 2e9
